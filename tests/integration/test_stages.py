"""One stage as a task: what is tried again, what a kill leaves, and who waits for whom."""

import fcntl
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import ToyProject
from tests.integration.test_flow import wait_for

pytestmark = pytest.mark.usefixtures("prefect_server")

BEFORE = ("validate", "prompts")


def dvc(project: ToyProject, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)


@dataclass
class Run:
    """How a stage ended, and what it gave as the cause of each failed try."""

    is_completed: bool
    causes: list[str]


def run_one(project: ToyProject, stage: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    import prefect

    import flows.stages

    causes = []

    def dvc_failure(*arguments: Any) -> str:
        causes.append(cause(*arguments))
        return causes[-1]

    cause = flows.stages.dvc_failure
    monkeypatch.setattr(flows.stages, "dvc_failure", dvc_failure)
    monkeypatch.setattr(flows.stages.run_stage, "retry_delay_seconds", [0.1] * 6)

    @prefect.flow
    def one_stage() -> bool:
        return bool(flows.stages.run_stage(stage, project.folder).is_completed())

    return Run(one_stage(), causes)


def test_a_stage_that_is_killed_is_run_again(project: ToyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dvc(project, "repro", *BEFORE).returncode == 0
    project.control("plain", "die")
    run = run_one(project, "train@plain", monkeypatch)
    assert run.is_completed
    assert project.started.count("train@plain") == 2
    (cause,) = run.causes
    assert cause.startswith("killed by signal 9 (SIGKILL); may pass by itself, e.g. too little memory; run again")


def test_what_may_pass_by_itself_is_tried_three_times(project: ToyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dvc(project, "repro", *BEFORE).returncode == 0
    project.control("plain", "busy")
    run = run_one(project, "train@plain", monkeypatch)
    assert not run.is_completed
    assert run.causes == ["server: does not answer; may pass by itself"] * 3
    assert project.started.count("train@plain") == 3


def test_half_written_files_of_dvc_are_put_away_and_nothing_is_repeated(project: ToyProject) -> None:
    import prefect

    from flows.stages import only_run

    assert dvc(project, "repro", *BEFORE).returncode == 0
    before = project.events
    lock = project.folder / "dvc.lock"
    whole = lock.read_text()
    lock.write_text(whole[: whole.rindex("outs:") + len("outs:")])
    rwlock = project.folder / ".dvc/tmp/rwlock"
    rwlock.write_text('{"write": {"/a')
    assert dvc(project, "repro", *BEFORE).returncode != 0, "DVC alone stops here"

    @prefect.flow
    def enter() -> None:
        with only_run(project.folder):
            pass

    enter()
    done = dvc(project, "repro", *BEFORE)
    assert done.returncode == 0, done.stderr
    assert not any(json.loads(rwlock.read_text()).values())
    assert project.events == before


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
