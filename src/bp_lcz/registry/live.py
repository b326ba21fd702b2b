"""Shows a training as a run in MLflow while it runs: its curve, rate and device. The mirror completes that run."""

import hashlib
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bp_lcz.params import Params
from bp_lcz.paths import MODELS
from bp_lcz.progress import read_from
from bp_lcz.records import Checkpoint
from bp_lcz.registry.connection import open_experiment, open_store, reason
from bp_lcz.registry.mirror import end_run, metrics_of, start_run
from bp_lcz.registry.naming import model_name

if TYPE_CHECKING:
    from mlflow import MlflowClient


class LiveRun:
    """The run of one training.

    A training that resumes a killed one with the same inputs also resumes its run. Failures of MLflow never stop a
    training: they are reported once, and the mirror makes the run in the end.

    Args:
        workspace: workspace in which the training runs.
        params: parameters of the workspace.
        trial: the trial's name.
        file: file that the training writes by `bp_lcz.progress`.
        tell: receives one line if MLflow cannot be used.
    """

    def __init__(self, workspace: Path, params: Params, trial: str, file: Path, tell: Callable[[str], object]) -> None:
        self.workspace, self.params, self.trial, self.file = workspace, params, trial, file
        self._tell, self._position = tell, 0
        self._run: str | None = None
        self.epoch = 0  # the last epoch that the training has reported
        self._is_lost = False

    def follow(self) -> None:
        """Copy what the training has reported since the last call."""
        records, self._position = read_from(self.file, self._position)
        self.epoch = max([self.epoch, *(int(record["epoch"]) for record in records if "epoch" in record)])
        if records:
            self._do(lambda client: self._log(client, records))

    def end(self, is_done: bool) -> None:
        """End the run of a training that has ended: as finished, or as failed until the training resumes."""
        self.follow()
        if self._run is not None:
            self._do(lambda client: self._end(client, str(self._run), is_done))

    def _do(self, action: "Callable[[MlflowClient], None]") -> None:
        if self._is_lost:
            return
        try:
            with open_store(self.workspace) as client:
                action(client)
        except Exception as error:
            self._is_lost = True
            self._tell(f"MLflow does not show {self.trial} while it trains: {reason(error)}")

    def _log(self, client: "MlflowClient", records: list[dict[str, Any]]) -> None:
        for record in records:
            if self._run is None:
                self._run = self._begin(client, str(record["key"]), str(record["device"]))
            elif "epoch" in record:
                step = int(record.pop("epoch"))
                client.log_batch(self._run, metrics=list(metrics_of(record, step, int(1000 * time.time()))))

    def _begin(self, client: "MlflowClient", inputs: str, device: str) -> str:
        name = model_name(self.workspace, self.params.dataset.root)
        experiment = open_experiment(client, name, self.workspace)
        identity = f"{platform.node()}:{self.workspace}:{inputs}"
        key = hashlib.md5(identity.encode(), usedforsecurity=False).hexdigest()
        for run in client.search_runs([experiment], f"tags.live = '{key}'"):
            if run.info.status != "FINISHED":
                client.update_run(run.info.run_id, status="RUNNING")
                return str(run.info.run_id)
        return start_run(client, experiment, self.params, self.trial, {"live": key, "device": device})

    def _end(self, client: "MlflowClient", run: str, is_done: bool) -> None:
        if not is_done:
            client.set_terminated(run, status="FAILED")
            return
        model = self.workspace / MODELS / self.trial
        client.set_tag(run, "weights_sha256", Checkpoint.read(model / "model.json").weights_sha256)
        end_run(client, run, model)
