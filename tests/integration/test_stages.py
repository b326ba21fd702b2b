"""One stage as a task: what is tried again, what a kill leaves, and who waits for whom."""

import fcntl
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bp_lcz.errors import FAULT_STATUS, TemporaryError, UserError
from tests.integration.conftest import ToyProject, dvc
from tests.integration.test_flow import wait_for

pytestmark = pytest.mark.usefixtures("prefect_server")

BEFORE = ("validate", "prompts")


def run_one(project: ToyProject, stage: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[int]]:
    """The state of a stage's task, and the exit status of each failed try."""
    import prefect

    import flows.stages

    tries = []

    def run_dvc(*arguments: Any) -> flows.stages.DvcEnding:
        ending = run(*arguments)
        tries.append(ending.status)
        return ending

    run = flows.stages.run_dvc
    monkeypatch.setattr(flows.stages, "run_dvc", run_dvc)
    monkeypatch.setattr(flows.stages.run_stage, "retry_delay_seconds", [0.1] * 6)

    states = []

    @prefect.flow
    def one_stage() -> None:
        states.append(flows.stages.run_stage(stage, project.folder, *project.machine, return_state=True))

    one_stage()
    return states[0], tries


def test_a_stage_that_is_killed_is_run_again(prepared: ToyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared.control("plain", "die")
    state, tries = run_one(prepared, "train@plain", monkeypatch)
    assert state.is_completed()
    assert tries == [TemporaryError.status, 0]
    assert prepared.started.count("train@plain") == 2


def test_what_may_pass_by_itself_is_tried_three_times(prepared: ToyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared.control("plain", "busy")
    state, tries = run_one(prepared, "train@plain", monkeypatch)
    assert state.is_failed()
    assert (state.name, state.message) == ("Temporary", "stage train@plain: server: does not answer")
    assert tries == [TemporaryError.status] * 3
    assert prepared.started.count("train@plain") == 3


@pytest.mark.parametrize("what", ["stage", "command", "fault"])
def test_what_only_people_can_mend_is_tried_once(
    project: ToyProject, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A dependency that is missing, a command that is not one of ours, and a stage that raises."""
    file = project.folder / {"stage": "toy.py", "command": "dvc.yaml", "fault": "toy.py"}[what]
    if what == "stage":
        file.unlink()
    elif what == "command":
        file.write_text(file.read_text().replace("exec python toy.py validate", "sh -c 'exit 75'"))
    else:
        file.write_text("from bp_lcz.errors import Ending\nEnding.write(70, 'KeyError: x')\nraise SystemExit(70)\n")
    state, tries = run_one(project, "validate", monkeypatch)
    assert state.is_failed()
    assert state.name == "Failed"
    assert tries == [FAULT_STATUS if what == "fault" else UserError.status]


def test_a_fresh_clone_with_a_committed_lock_and_no_cache_runs_a_stage(project: ToyProject, tmp_path: Path) -> None:
    assert dvc(project, "repro", "validate").returncode == 0
    clone = ToyProject(tmp_path / "clone")
    lock = (project.folder / "dvc.lock").read_bytes()
    (clone.folder / "dvc.lock").write_bytes(lock)
    done = dvc(clone, "repro", "validate")
    assert done.returncode == 0, done.stderr
    assert clone.started == ["validate"]
    assert (clone.folder / "dvc.lock").read_bytes() == lock, "equal bytes leave a clean tree"


def test_dvcs_own_views_and_experiments_work_and_leave_no_file_behind(finished: ToyProject) -> None:
    git = ["git", "-C", str(finished.folder), "-c", "user.name=T", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "state"], check=True)
    shown = {}
    for command in (
        *("metrics show", "metrics diff", "plots show", "params diff"),
        *("exp run -S train.epochs=1 verify", "params diff", "exp show --csv"),
    ):
        done = dvc(finished, *command.split())
        assert done.returncode == 0, done.stderr
        shown[command] = done.stdout
    assert "0.625" in shown["metrics show"]
    assert "train.epochs" in shown["params diff"]
    assert "train.epochs" in shown["exp show --csv"]
    assert finished.started.count("train@plain") == 1
    status = subprocess.run([*git, "status", "--porcelain"], check=True, capture_output=True, text=True).stdout
    assert status.split("\n") == [" M dvc.lock", " M params.yaml", ""]


def test_half_written_files_of_dvc_are_put_away_and_nothing_is_repeated(prepared: ToyProject) -> None:
    import prefect

    from flows.stages import only_run

    before = prepared.events
    lock = prepared.folder / "dvc.lock"
    whole = lock.read_text()
    lock.write_text(whole[: whole.rindex("outs:") + len("outs:")])
    rwlock = prepared.folder / ".dvc/tmp/rwlock"
    rwlock.write_text('{"write": {"/a')
    assert dvc(prepared, "repro", *BEFORE).returncode != 0, "DVC alone stops here"

    @prefect.flow
    def enter() -> None:
        with only_run(prepared.folder):
            pass

    enter()
    done = dvc(prepared, "repro", *BEFORE)
    assert done.returncode == 0, done.stderr
    assert not any(json.loads(rwlock.read_text()).values())
    assert prepared.events == before


def test_a_second_run_in_a_workspace_waits_for_the_first(project: ToyProject, tmp_path: Path) -> None:
    """The second run stands outside this process, since a lock of the own process is no obstacle."""
    path = project.folder / ".dvc/tmp/flow.lock"
    path.parent.mkdir()
    script = (
        "import sys, prefect\nfrom pathlib import Path\nfrom flows.stages import only_run\n"
        "@prefect.flow\n"
        "def second() -> None:\n"
        "    with only_run(Path(sys.argv[1])):\n"
        "        Path(sys.argv[1], 'entered').touch()\n"
        "second()\n"
    )
    with path.open("w") as held, (tmp_path / "log").open("w") as log:
        held.write("4711")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        from tests.integration.test_flow import ROOT, api_url

        environment = {"PREFECT_API_URL": api_url(), "PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
        second = subprocess.Popen(
            [sys.executable, "-c", script, str(project.folder)], env=environment, stdout=log, stderr=log
        )
        wait_for(lambda: "another run is at work in" in (tmp_path / "log").read_text(), second)
        assert "(process 4711); waiting until it ends" in (tmp_path / "log").read_text()
        assert not (project.folder / "entered").exists()
    assert second.wait(60) == 0
    assert (project.folder / "entered").exists()
