import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import TaskRun
from prefect.states import Completed, Failed

from bp_lcz.errors import DeviceError, TemporaryError, UserError
from bp_lcz.records import Decision
from bp_lcz.registry.register import Registration
from flows.stages import failed, is_worth_another_try
from flows.train_bp_lcz import mirror
from tests.integration.conftest import ROOT, ToyProject

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands in for the registry, which has tests of its own; says what it was asked to do."""
    calls: list[str] = []

    def mirror_trials(workspace: Path, params: Any) -> dict[str, str]:
        calls.append("mirror")
        return dict.fromkeys(params.trials, "run")

    def register_best(workspace: Path, params: Any, runs: dict[str, str]) -> Registration:
        calls.append("register")
        return Registration("bp-lcz-demo", "3", "challenger", list(runs)[-1], "kappa .500, best of all trials")

    monkeypatch.setattr("bp_lcz.registry.mirror.mirror_trials", mirror_trials)
    monkeypatch.setattr("bp_lcz.registry.register.register_best", register_best)
    return calls


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which verdicts of stages became artifacts."""
    names: list[str] = []
    for name in ("show_validation", "show_claims"):
        monkeypatch.setattr(f"flows.train_bp_lcz.{name}", lambda _, name=name: names.append(name))
    return names


def leave_verdicts(project: ToyProject) -> None:
    """What an earlier run of the workspace has left."""
    for name in ("outputs/gate/summary.json", "outputs/claims.json"):
        file = project.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        os.utime(file, (1e9, 1e9))


def replace_command(project: ToyProject, stage: str, command: str) -> None:
    file = project.folder / "dvc.yaml"
    definition = file.read_text()
    assert f"exec python toy.py {stage}" in definition
    file.write_text(definition.replace(f"exec python toy.py {stage}", f"\"sh -c '{command}'\""))


def run_flow(project: ToyProject, concurrency: int = 2) -> Any:
    from flows.train_bp_lcz import train_bp_lcz

    return train_bp_lcz(project.folder, concurrency, return_state=True)


def test_the_flow_runs_what_the_last_stage_needs_in_order_and_then_nothing(
    project: ToyProject, registry: list[str], shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_verdicts(project)
    # A machine that sets this would hide the fault of depending on __pycache__.
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    state = run_flow(project)
    assert state.is_completed(), state.message
    assert set(project.started) == {
        "validate",
        "prompts",
        "report",
        "verify",
        *(f"{stage}@{trial}" for stage in ("train", "evaluate") for trial in project.trials),
    }
    for trial in project.trials:
        order = ["end validate", f"start train@{trial}", f"end train@{trial}", f"start evaluate@{trial}"]
        positions = [project.events.index(event) for event in [*order, "start report", "start verify"]]
        assert positions == sorted(positions)
    assert registry == ["mirror", "register"]
    assert shown == ["show_validation", "show_claims"], "of stages that ran"
    assert state.result().lines() == [
        "testing split, simulated data, not comparable with published results; one seed decides nothing between trials:",
        "trial      OA  kappa",
        "plain   0.625      -",
        "bp-lcz  0.625  0.500",
        "one seed tells nothing.",
        "",
        "stages      8 ran",
        "bytes       not compared: no dvc.lock is committed",
        f"report      {project.folder}/reports/index.html",
        "registered  bp-lcz-demo version 3 @challenger (trial bp-lcz)",
        "validation  kappa .500, best of all trials",
        f"next        open {project.folder}/reports/index.html; make mlflow shows the runs; bp-lcz promote, serve, map use "
        "the model",
    ]

    before = project.events
    again = run_flow(project)
    assert project.events == before
    assert "stages      all 8 were up to date, none ran" in again.result().lines()
    assert registry == ["mirror", "register"] * 2
    assert shown == ["show_validation", "show_claims"] * 2, "of stages that are up to date"

    (project.folder / "outputs/models/plain/evaluation.json").unlink()
    restored = run_flow(project)
    assert project.events == before
    assert "stages      1 restored from the cache, 7 up to date" in restored.result().lines()


def test_a_failed_stage_fails_the_flow_with_its_own_line(prepared: ToyProject, registry: list[str]) -> None:
    prepared.control("plain", "fail")
    state = run_flow(prepared, concurrency=1)
    assert state.is_failed()
    assert state.message == "stage train@plain: training.h5: label row 3 is not one-hot"
    assert "evaluate@plain" not in prepared.started
    assert "report" not in prepared.started
    assert "evaluate@bp-lcz" in prepared.started, "what does not need the failed stage is finished"
    assert prepared.started.count("train@plain") == 1, "bad data are not retried"
    assert registry == []
    ends = [at for at, event in enumerate(prepared.events) if event.startswith("end")]
    assert all(prepared.events[at - 1] == prepared.events[at].replace("end", "start") for at in ends), (
        "with a concurrency of 1, none starts before another ends"
    )


def test_a_lost_device_ends_the_run_with_one_line_and_nothing_is_sent_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import prefect

    import flows.train_bp_lcz as module
    from bp_lcz.params import load_params

    params, started = load_params(ROOT / "params.yaml"), list[str]()
    stages = [f"train@{trial}" for trial in params.trials]

    @prefect.task
    def run(stage: str, _: Path, devices: Any, *__: Any) -> Any:
        try:
            with devices.take(stage, params, print):
                started.append(stage)
                time.sleep(0.5 * (stage != stages[0]))
        except UserError as error:
            return failed(error.status, str(error))
        return failed(DeviceError.status, f"stage {stage}: GPU: lost")

    @prefect.flow
    def matrix() -> Any:
        graph = {key: set[str]() for key in stages}
        return Completed(data=module.run_stages(tmp_path, params, graph, set(), 1))

    monkeypatch.setattr(module, "run_stage", run)
    assert matrix() == ({}, {stages[0]: f"stage {stages[0]}: GPU: lost"})
    assert stages[2] not in started


@pytest.mark.parametrize(("name", "tries"), [("Device", 3), ("Temporary", 3), ("Failed", 1)])
def test_a_device_may_come_back_by_itself(name: str, tries: int) -> None:
    state = Failed(name=name)
    counted = [is_worth_another_try(mirror, TaskRun.model_construct(run_count=count), state) for count in (1, 2, 3)]
    assert 1 + sum(counted) == tries


def test_a_failed_claim_fails_the_flow_after_the_model_is_registered(finished: ToyProject, registry: list[str]) -> None:
    replace_command(finished, "verify", "exec python toy.py verify # again")
    finished.control("verify", "fail")
    state = run_flow(finished)
    assert state.is_failed()
    assert state.message.startswith("stage verify: ")
    assert registry == ["mirror", "register"]


def test_verdicts_of_an_earlier_run_are_not_shown_as_those_of_this_one(finished: ToyProject, shown: list[str]) -> None:
    leave_verdicts(finished)
    finished.control("plain", "fail")
    assert run_flow(finished).is_failed()
    assert shown == ["show_validation"]
    replace_command(finished, "validate", "exit 1")
    assert run_flow(finished).is_failed()
    assert shown == ["show_validation"]


@pytest.mark.usefixtures("registry")
def test_what_fails_a_claim_is_shown(finished: ToyProject, shown: list[str]) -> None:
    leave_verdicts(finished)
    replace_command(finished, "verify", "touch outputs/claims.json; exit 1")
    assert run_flow(finished).is_failed()
    assert shown == ["show_validation", "show_claims"]


def decision(accepted: bool, reason: str, name: str) -> Decision:
    told = {"action": "promote", "time": "now", "bp_lcz": "0", "version": 1, "run_id": "0"}
    return Decision(**told, name=name, accepted=accepted, reason=reason)


@pytest.mark.parametrize("failures", [2, 3])
def test_a_promotion_without_an_answer_of_mlflow_is_tried_twice_more(
    project: ToyProject, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    import flows.promote

    calls = []

    def decide(_: Path, name: str, version: int | None, dry_run: bool) -> Decision:
        calls.append(name)
        if len(calls) <= failures:
            raise TemporaryError("http://host", "MLflow does not answer (x)")
        return decision(True, "leads", name)

    monkeypatch.setattr("bp_lcz.registry.promote.promote_version", decide)
    monkeypatch.setattr(flows.promote.decide, "retry_delay_seconds", [0.1, 0.1])
    state = flows.promote.promote(project.folder, "bp-lcz-demo", return_state=True)
    assert calls == ["bp-lcz-demo"] * 3
    assert state.is_completed() == (failures == 2)
    assert state.message == ("leads" if failures == 2 else "http://host: MLflow does not answer (x)")


@pytest.mark.parametrize("refuses", [True, False])
def test_a_promotion_that_is_refused_or_cannot_be_judged_is_not_tried_again(
    project: ToyProject, monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    import flows.promote

    calls = []

    def decide(_: Path, name: str, *__: object) -> Decision:
        calls.append(name)
        if refuses:
            return decision(False, "no lead", name)
        raise UserError("no", "lead")

    monkeypatch.setattr("bp_lcz.registry.promote.promote_version", decide)
    state = flows.promote.promote(project.folder, "bp-lcz-demo", return_state=True)
    assert (state.is_failed(), state.message, len(calls)) == (True, "no lead" if refuses else "no: lead", 1)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_trials_run_side_by_side_and_end_with_the_flow(
    prepared: ToyProject, tmp_path: Path, stop: signal.Signals
) -> None:
    """The first trial waits for ever; the second is trained and evaluated meanwhile, and its DVC may be at work yet."""
    prepared.control("plain", "wait")
    command = [sys.executable, "-m", "flows.train_bp_lcz", "--workspace", str(prepared.folder)]
    environment = os.environ | {"PREFECT_API_URL": api_url()}
    with (tmp_path / "log").open("w") as log:
        flow = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            wait_for(lambda: "end evaluate@bp-lcz" in prepared.events and (prepared.folder / "pid").exists(), flow)
            waiting = int((prepared.folder / "pid").read_text())
            assert is_alive(waiting)
            flow.send_signal(stop)
            assert flow.wait(60) != 0
            if stop != signal.SIGKILL:
                assert flow.returncode == 128 + stop
                assert "\ninterrupted" in (tmp_path / "log").read_text()
            wait_for(lambda: not is_alive(waiting))
        finally:
            flow.kill()
    assert "report" not in prepared.started


def test_a_lock_held_by_another_dvc_is_waited_for(
    project: ToyProject, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import prefect

    from flows.train_bp_lcz import run_stage

    monkeypatch.setattr(run_stage, "retry_delay_seconds", [0.5] * 6)
    (project.folder / ".dvc/tmp").mkdir()
    held = (project.folder / ".dvc/tmp/lock").open("w")
    fcntl.flock(held, fcntl.LOCK_EX)

    def release() -> None:
        wait_for(lambda: "Retry 1/6" in caplog.text)
        held.close()

    @prefect.flow
    def one_stage() -> Any:
        return run_stage("validate", project.folder, *project.machine)

    other = threading.Thread(target=release)
    other.start()
    state = one_stage(return_state=True)
    other.join()
    assert state.is_completed(), state.message
    assert project.started == ["validate"]


def test_the_command_says_one_line_and_ends_with_status_1(project: ToyProject) -> None:
    (project.folder / "params.yaml").write_text("dataset: {root: data/demo}\nunknown: 1\n")
    command = [sys.executable, "-m", "flows.train_bp_lcz", "--workspace", str(project.folder)]
    environment = os.environ | {"PREFECT_API_URL": api_url()}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]  # beside Prefect's own log
    assert len(errors) == 1, done.stderr
    assert re.fullmatch(r"error: .*params\.yaml: .*", errors[0])
    assert "Traceback" not in done.stderr


def api_url() -> str:
    from prefect.settings import PREFECT_API_URL

    return str(PREFECT_API_URL.value())


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def wait_for(condition: Any, process: subprocess.Popen[Any] | None = None, seconds: int = 120) -> None:
    for _ in range(10 * seconds):
        if condition():
            return
        assert process is None or process.poll() is None, "the flow ended too early"
        time.sleep(0.1)
    pytest.fail("waited in vain")
