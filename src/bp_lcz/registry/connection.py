"""Where MLflow keeps runs and models: one store for each clone, shared by its workspaces."""

import logging
import os
import re
import shlex
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bp_lcz.addresses import sqlite_url
from bp_lcz.errors import BusyError, TemporaryError, UserError
from bp_lcz.files import locked
from bp_lcz.workspace import main_checkout

if TYPE_CHECKING:
    from alembic.util import CommandError
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

_USER_INFO = re.compile(r"(?<!sqlite)://\S*@")


def tracking_uri(checkout: Path) -> str:
    """``MLFLOW_TRACKING_URI`` if it is set, else an SQLite file in the main checkout.

    Args:
        checkout: the main checkout or a workspace of it.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_url(main_checkout(checkout) / "mlflow.db")


@contextmanager
def open_store(checkout: Path) -> Iterator["MlflowClient"]:
    """A client of the store, for one process of this clone at a time.

    The whole use is locked. Two processes that open a new SQLite store at the same time would break it, and two that
    look for a run before they make it would make it twice.

    Raises:
        TemporaryError: if MLflow does not answer or fails inside the block.
        BusyError: if another program holds the SQLite file.
        UserError: if MLflow refuses a request, or the file is damaged, not a database, or of another MLflow.
    """
    uri, lock = tracking_uri(checkout), main_checkout(checkout) / "mlflow.db.lock"
    with locked(lock):  # first, since SQLite reports a folder without lock support as a busy database
        _check_file(uri)
    import mlflow
    from alembic.util import CommandError
    from sqlalchemy.exc import SQLAlchemyError

    _escape_migrations()
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints a traceback before it raises
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # MLflow's default of 7 retries waits four minutes without a word.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    with locked(lock), _environment(MLFLOW_TRACKING_URI=uri):
        try:
            yield mlflow.MlflowClient(uri)
        except (mlflow.MlflowException, SQLAlchemyError, CommandError) as error:
            raise _in_one_line(error, uri) from None


def is_missing(error: "MlflowException") -> bool:
    """Whether MLflow has answered that the object does not exist (and not failed to answer)."""
    return error.error_code == "RESOURCE_DOES_NOT_EXIST"


def is_unanswered(error: Exception) -> bool:
    """Whether an exception was caused by a server that did not answer, whatever library wrapped it."""
    from urllib3.exceptions import HTTPError

    return isinstance(_root(error), ConnectionError | TimeoutError | socket.gaierror | HTTPError)


def raise_unanswered(error: Exception, where: str) -> None:
    """Raise a `TemporaryError` if the artifact store did not answer; return if it lacks the file.

    Raises:
        TemporaryError: if the exception comes from a store that did not answer.
    """
    if is_unanswered(error):
        raise TemporaryError(where, f"the artifact store does not answer ({reason(error)})") from None


def reason(error: Exception) -> str:
    """The root cause of an exception, short and without passwords."""
    root = _root(error) if is_unanswered(error) else error
    text = (isinstance(root, OSError) and root.strerror) or str(root)
    return _USER_INFO.sub("://", " ".join(text.split()))[:160]


def open_experiment(client: "MlflowClient", name: str, checkout: Path) -> str:
    """Identifier of the experiment with this name, which is created if needed."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        is_local = client.tracking_uri.startswith("sqlite:")  # a server has its own place for artifacts
        location = (main_checkout(checkout) / "mlartifacts").as_uri() if is_local else None
        return client.create_experiment(name, artifact_location=f"{location}/{name}" if location else None)
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _escape_migrations() -> None:
    """Escape % in the path of MLflow's migrations, which Alembic would read as the start of a name."""
    from mlflow.store.db import utils

    package = utils._get_package_dir()
    if "%" in package.replace("%%", ""):
        utils._get_package_dir = lambda: package.replace("%", "%%")


def _check_file(uri: str) -> None:
    """Refuse an SQLite file that cannot be read; MLflow would retry for up to two minutes."""
    if not uri.startswith("sqlite:"):
        return
    from sqlalchemy import make_url

    path = Path(make_url(uri).database or "")
    if path.exists() or path.is_symlink():  # a broken link, too
        try:
            with closing(sqlite3.connect(path.absolute().as_uri() + "?mode=rw", uri=True)) as database:
                database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise _of_sqlite(error, path) from None


def _of_sqlite(error: sqlite3.Error, where: object) -> UserError:
    primary = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return BusyError(where, f"another program holds it ({error}); wait for it or stop it, then run again")
    refused = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_FULL)
    if primary in (*refused, sqlite3.SQLITE_IOERR):
        return UserError(where, f"SQLite cannot use it ({error})")
    advice = "restore a backup, or move the file away: runs are made again, but aliases and decisions are lost"
    return UserError(where, f"no database of MLflow, or a damaged one ({error}); {advice}")


def _in_one_line(error: "MlflowException | SQLAlchemyError | CommandError", uri: str) -> UserError:
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException

    shown, root = _USER_INFO.sub("://", uri), _root(error)
    if isinstance(root, sqlite3.Error):
        return _of_sqlite(root, shown)
    if isinstance(error, CommandError) or "database schema" in str(error):
        return UserError(
            shown,
            "its tables belong to another version of MLflow; make a backup, then run "
            f"`mlflow db upgrade {shlex.quote(shown)}`, or install that version",
        )
    status = error.get_http_status_code() if isinstance(error, MlflowException) else 500
    if is_unanswered(error):
        return TemporaryError(shown, f"MLflow does not answer ({reason(error)})")
    if status in (401, 403):
        login = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        return UserError(shown, f"MLflow refuses this user, see {login} ({reason(error)})")
    may_pass = status >= 500 and not uri.startswith("sqlite:")
    return (TemporaryError if may_pass else UserError)(shown, reason(error))


def _root(error: BaseException) -> BaseException:
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set environment variables inside the block. `mlflow.set_tracking_uri` would set its own for good."""
    before = {key: os.environ.get(key) for key in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
