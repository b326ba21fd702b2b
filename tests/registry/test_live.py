"""A training that is seen in a real MLflow store while it runs, dies, goes on and is mirrored."""

from pathlib import Path
from typing import Any

import pytest

from bp_lcz import progress
from bp_lcz.registry.connection import open_experiment, open_store
from bp_lcz.registry.live import LiveRun
from bp_lcz.registry.mirror import mirror_trials
from tests.registry.conftest import FinishedWorkspace

TRIAL = "one-bp-lcz"


class Training:
    """What a training process tells, and who listens."""

    def __init__(self, workspace: FinishedWorkspace, file: Path) -> None:
        self.said: list[str] = []
        self.live = LiveRun(workspace.folder, workspace.params, TRIAL, file, self.said.append)

    def epoch(self, number: int, kappa: float) -> None:
        progress.tell(epoch=number, validation_kappa=kappa, training_alignment=float("nan"), patches_per_second=100.0)
        self.live.follow()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a training of some inputs."""
    file = tmp_path / "progress.jsonl"
    monkeypatch.setenv(progress.PROGRESS_FILE, str(file))
    progress.tell(key="inputs", device="cpu")
    return file


def runs(workspace: FinishedWorkspace) -> list[Any]:
    with open_store(workspace.folder) as client:
        return list(client.search_runs([open_experiment(client, "bp-lcz-demo", workspace.folder)]))


def test_a_training_is_seen_while_it_runs_and_its_resumption_completes_the_same_run(
    workspace: FinishedWorkspace, file: Path
) -> None:
    first = Training(workspace, file)
    first.epoch(1, 0.25)
    (run,) = runs(workspace)
    assert (run.info.status, run.info.run_name) == ("RUNNING", TRIAL)
    assert run.data.metrics == {"validation_kappa": 0.25, "patches_per_second": 100.0}
    assert run.data.tags["device"] == "cpu"
    assert run.data.params["variant"] == "bp-lcz"
    first.live.end(is_done=False)
    assert runs(workspace)[0].info.status == "FAILED"

    file.unlink()
    progress.tell(key="inputs", device="cpu")
    second = Training(workspace, file)
    second.epoch(2, 0.5)
    assert [each.info.status for each in runs(workspace)] == ["RUNNING"]
    second.live.end(is_done=True)
    mirrored = mirror_trials(workspace.folder, workspace.params)
    assert mirrored[TRIAL] == run.info.run_id
    assert mirror_trials(workspace.folder, workspace.params) == mirrored
    with open_store(workspace.folder) as client:
        done = client.get_run(run.info.run_id)
        history = client.get_metric_history(run.info.run_id, "validation_kappa")
        files = [each.path for each in client.list_artifacts(run.info.run_id)]
    assert done.info.status == "FINISHED"
    assert done.info.end_time - done.info.start_time == 3500, "of the training, as its timings say"
    assert sorted((each.step, each.value) for each in history) == [(1, 0.25), (2, 0.5)]
    assert {"lock_hash", "live", "device"} <= done.data.tags.keys()
    assert "testing_oa" in done.data.metrics
    assert "predictions.npz" in files
    assert len(runs(workspace)) == 2, "the other trial has a run of its own"


def test_other_inputs_and_a_finished_run_are_never_taken_up(workspace: FinishedWorkspace, file: Path) -> None:
    training = Training(workspace, file)
    training.epoch(1, 0.25)
    training.live.end(is_done=True)
    Training(workspace, file).live.follow()  # the same inputs once more
    file.unlink()
    progress.tell(key="others", device="cpu")
    Training(workspace, file).live.follow()
    assert len(runs(workspace)) == 3


def test_without_mlflow_the_training_goes_on_and_hears_of_it_once(
    workspace: FinishedWorkspace, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hidden@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    training = Training(workspace, file)
    training.epoch(1, 0.25)
    training.epoch(2, 0.5)
    training.live.end(is_done=True)
    (line,) = training.said
    assert TRIAL in line
    assert "hidden" not in line
