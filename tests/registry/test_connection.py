import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bp_lcz.errors import BusyError, TemporaryError, UserError
from bp_lcz.registry.connection import _of_sqlite, open_store, tracking_uri
from bp_lcz.registry.models import list_models
from bp_lcz.registry.versions import find_version
from tests.refusals import refuses
from tests.registry.conftest import FinishedWorkspace, server_that_answers


def test_all_workspaces_of_a_clone_share_one_store(
    workspace: FinishedWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = workspace.folder / ".workspaces/other"
    subprocess.run(
        ["git", "-C", str(workspace.folder), "worktree", "add", "--quiet", "--detach", str(other)], check=True
    )
    assert tracking_uri(other) == tracking_uri(workspace.folder) == f"sqlite:///{workspace.folder}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert tracking_uri(other) == "http://127.0.0.1:5000"


def test_two_processes_can_open_a_fresh_store_at_once(workspace: FinishedWorkspace) -> None:
    (workspace.folder / "mlflow.db").unlink()
    program = (
        "import sys; from pathlib import Path\n"
        "from bp_lcz.registry.connection import open_experiment, open_store\n"
        "folder = Path(sys.argv[1])\n"
        "with open_store(folder) as client: print(open_experiment(client, 'same', folder))"
    )
    command = [sys.executable, "-W", "ignore", "-c", program, str(workspace.folder)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1] != ""


@pytest.mark.parametrize(
    ("status", "body", "kind", "fact"),
    [
        (404, '{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "x"}', UserError, "no such"),
        (401, "You are not authenticated", UserError, "MLFLOW_TRACKING_USERNAME"),
        (403, '{"error_code": "PERMISSION_DENIED", "message": "x"}', UserError, "MLFLOW_TRACKING_USERNAME"),
        (503, "busy", TemporaryError, "503"),
        (200, "<html>another server</html>", TemporaryError, "JSON"),
    ],
)
def test_only_what_mlflow_does_not_know_is_said_not_to_exist(
    workspace: FinishedWorkspace,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: str,
    kind: type[UserError],
    fact: str,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with server_that_answers(status, body) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        for look in (
            lambda: list_models(workspace.folder, "bp-lcz-demo"),
            lambda: find_in_store(workspace, "models:/bp-lcz-demo@champion"),
            lambda: find_in_store(workspace, "models:/bp-lcz-demo/1"),
        ):
            with refuses("bp-lcz-demo" if status == 404 else url.replace("me:hidden@", ""), fact, kind=kind) as caught:
                look()
            assert "hidden" not in str(caught.value)


def test_an_alias_or_version_that_is_missing_is_said_to_be(workspace: FinishedWorkspace) -> None:
    with open_store(workspace.folder) as client:
        client.create_registered_model("bp-lcz-demo")
    for which, hint in (("@champion", "promote"), ("@other", "see"), ("/7", "see")):
        with refuses(f"models:/bp-lcz-demo{which}", hint):
            find_in_store(workspace, f"models:/bp-lcz-demo{which}")


def test_a_command_without_an_answer_is_one_line_without_the_password_and_may_be_tried_again(
    workspace: FinishedWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hidden@127.0.0.1:9")
    command = [sys.executable, "-W", "ignore", "-m", "bp_lcz.cli", "models", "bp-lcz-demo"]
    done = subprocess.run(command, cwd=workspace.folder, capture_output=True, text=True, check=False)
    assert done.returncode == TemporaryError.status
    assert done.stderr == "error: http://127.0.0.1:9: MLflow does not answer (Connection refused)\n"


def find_in_store(workspace: FinishedWorkspace, uri: str) -> None:
    with open_store(workspace.folder) as client:
        find_version(client, uri)


# ---- an SQLite file that cannot be used


def damaged(folder: Path, store: Path) -> None:
    (folder / "mlflow.db").write_bytes(store.read_bytes()[:60_000])


def another_file(folder: Path, store: Path) -> None:
    (folder / "mlflow.db").write_text("notes of mine\n" * 100)


def a_folder(folder: Path, store: Path) -> None:
    (folder / "mlflow.db").mkdir()


def of_another_program(folder: Path, store: Path) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        database.execute("CREATE TABLE experiments (name)")


def without_a_column(folder: Path, store: Path) -> None:
    shutil.copy(store, folder / "mlflow.db")
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute("ALTER TABLE experiments RENAME COLUMN lifecycle_stage TO stage")


def of_another_version(folder: Path, store: Path) -> None:
    shutil.copy(store, folder / "mlflow.db")
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'of another time'")


def of_a_version_without_a_table(folder: Path, store: Path) -> None:
    of_another_version(folder, store)
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute("DROP TABLE metrics")


def a_link_to_nowhere(folder: Path, store: Path) -> None:
    (folder / "mlflow.db").symlink_to(folder / "unmounted/mlflow.db")


@pytest.mark.parametrize(
    ("make", "by_mlflow", "fact"),
    [
        (of_a_version_without_a_table, True, "`mlflow db upgrade {address}`"),
        (a_link_to_nowhere, False, "SQLite cannot use it"),
        (damaged, False, "malformed"),
        (another_file, False, "not a database"),
        (a_folder, False, "SQLite cannot use it"),
        (of_another_program, True, "'name'"),
        (without_a_column, True, "no such column"),
        (of_another_version, True, "`mlflow db upgrade {address}`"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_line_and_waiting_does_not_help(
    tmp_path: Path,
    empty_store: Path,
    make: Callable[[Path, Path], None],
    by_mlflow: bool,
    fact: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    make(tmp_path, empty_store)
    address = f"sqlite:///{tmp_path}/mlflow.db"
    with (
        refuses(address if by_mlflow else f"{tmp_path}/mlflow.db", fact.format(address=address)),
        open_store(tmp_path) as client,
    ):
        client.search_experiments()
    assert "Traceback" not in capfd.readouterr().err  # which MLflow logs


def test_a_store_in_a_folder_without_locks_is_said_to_be_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)

    def refuse(*_: object, **__: object) -> bool:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("bp_lcz.files.lock_descriptor", refuse)
    monkeypatch.setattr(sqlite3, "connect", lambda *_, **__: pytest.fail("SQLite says that it is locked"))
    (tmp_path / "mlflow.db").touch()
    with refuses(tmp_path), open_store(tmp_path):
        pass


def test_mlflow_may_be_installed_under_a_percent_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.store.db import utils

    (tmp_path / "job%2Fmain").symlink_to(utils._get_package_dir())
    monkeypatch.setattr(utils, "_get_package_dir", lambda: str(tmp_path / "job%2Fmain"))
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    for _ in range(2):
        with open_store(tmp_path) as client:
            assert [each.name for each in client.search_experiments()] == ["Default"]


def test_a_store_that_another_program_holds_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *arguments, **named: connect(*arguments, **named, timeout=0.1))
    with closing(connect(tmp_path / "mlflow.db", isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with refuses(tmp_path / "mlflow.db", kind=BusyError), open_store(tmp_path):
            pass


def test_a_disk_that_fails_is_no_reason_to_move_the_store_away() -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    told = _of_sqlite(error, "mlflow.db")
    assert type(told) is UserError
    assert "backup" not in told.what
