import subprocess
import sys

import pytest

from bp_lcz.registry.store import tracking_uri
from tests.registry.conftest import FinishedWorkspace


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
        "from bp_lcz.registry.store import open_experiment, open_store\n"
        "folder = Path(sys.argv[1])\n"
        "with open_store(folder) as client: print(open_experiment(client, 'same', folder))"
    )
    command = [sys.executable, "-W", "ignore", "-c", program, str(workspace.folder)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1] != ""
