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

    Two processes that open a fresh SQLite store at once break it, and two that look for a run and then make
    it would make it twice: so the whole use is locked.

    Raises:
        TemporaryError: for whatever MLflow raises inside the block because it does not answer or fails itself.
        BusyError: if another program holds the SQLite file.
        UserError: for what it refuses, and for a file that is damaged, no database or of another MLflow.
    """
    uri, lock = tracking_uri(checkout), main_checkout(checkout) / "mlflow.db.lock"
    with locked(lock):  # first, since SQLite takes a folder without locks for one that another program uses
        _check_file(uri)
    import mlflow
    from alembic.util import CommandError
    from sqlalchemy.exc import SQLAlchemyError

    _escape_migrations()
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints the traceback of what it raises
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # MLflow's own 7 are four minutes, in which nobody is told that the server is not there.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    with locked(lock), _environment(MLFLOW_TRACKING_URI=uri):
        try:
            yield mlflow.MlflowClient(uri)
        except (mlflow.MlflowException, SQLAlchemyError, CommandError) as error:
            raise _in_one_line(error, uri) from None


def is_missing(error: "MlflowException") -> bool:
    """Whether MLflow has answered that it has no such thing, as opposed to not answering."""
    return error.error_code == "RESOURCE_DOES_NOT_EXIST"


def is_unanswered(error: Exception) -> bool:
    """Whether an exception comes from a server that did not answer, whatever library has wrapped it."""
    from urllib3.exceptions import HTTPError

    return isinstance(_root(error), ConnectionError | TimeoutError | socket.gaierror | HTTPError)


def raise_unanswered(error: Exception, where: str) -> None:
    """Tell a store of artifacts that does not answer from a file that is not there.

    Raises:
        TemporaryError: if the exception comes from that.
    """
    if is_unanswered(error):
        raise TemporaryError(where, f"the artifact store does not answer ({reason(error)})") from None


def reason(error: Exception) -> str:
    """What began an exception, short and without passwords."""
    root = _root(error) if is_unanswered(error) else error
    text = (isinstance(root, OSError) and root.strerror) or str(root)
    return _USER_INFO.sub("://", " ".join(text.split()))[:160]


def open_experiment(client: "MlflowClient", name: str, checkout: Path) -> str:
    """Identifier of the experiment with this name, made if need be."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        is_local = client.tracking_uri.startswith("sqlite:")  # a server has its own place for artifacts
        location = (main_checkout(checkout) / "mlartifacts").as_uri() if is_local else None
        return client.create_experiment(name, artifact_location=f"{location}/{name}" if location else None)
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _escape_migrations() -> None:
    """Alembic takes a % in the path of MLflow's migrations for the beginning of a name."""
    from mlflow.store.db import utils

    package = utils._get_package_dir()
    if "%" in package.replace("%%", ""):
        utils._get_package_dir = lambda: package.replace("%", "%%")


def _check_file(uri: str) -> None:
    """Refuse an SQLite file that cannot be read; MLflow would try it for up to two minutes."""
    if not uri.startswith("sqlite:"):
        return
    from sqlalchemy import make_url

    path = Path(make_url(uri).database or "")
    if path.exists() or path.is_symlink():  # one that leads nowhere, too
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
    advice = "put a backup in its place, or move it away: runs are made again, aliases and decisions are not"
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
            "its tables are of another version of MLflow; make a backup, then "
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
    """Set environment variables for a while. `mlflow.set_tracking_uri` would set its own for ever."""
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
