"""Copies finished trials on disk to runs in MLflow. It is idempotent, and trials restored from a cache appear too.

A trial that `bp_lcz.registry.live` showed while it trained keeps that run, and this module completes it.
"""

import csv
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bp_lcz.errors import UserError
from bp_lcz.files import file_sha256
from bp_lcz.params import Params
from bp_lcz.paths import EVALUATIONS, MODELS, REPORTS
from bp_lcz.records import SCORES, Evaluation, Timings, TrialTags
from bp_lcz.registry.card import run_note
from bp_lcz.registry.connection import open_experiment, open_store
from bp_lcz.registry.lineage import tags_of_trials
from bp_lcz.registry.naming import model_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

PREDICTIONS = "predictions.npz"
"""File with true class, predicted class and resampling unit of each testing patch. A promotion compares it."""

_BATCH = 1000
"""Largest number of metrics that MLflow takes in one request."""


def mirror_trials(workspace: Path, params: Params) -> dict[str, str]:
    """Make one MLflow run for each trained and evaluated trial that has none yet.

    The hash of a trial's DVC record (tag ``lock_hash``) identifies it, so a second call makes no run. Each data set has
    one experiment, named like its model.

    Args:
        workspace: checkout or workspace with finished trials.
        params: its parameters.

    Returns:
        Identifier of the run of each trial.

    Raises:
        UserError: if a trial's files or its DVC record are missing.
    """
    runs = {}
    tags = tags_of_trials(workspace, params, params.trials)
    name = model_name(workspace, params.dataset.root)
    with open_store(workspace) as client:
        experiment = open_experiment(client, name, workspace)
        for trial in params.trials:
            run = _find_run(client, experiment, tags[trial].lock_hash)
            runs[trial] = run or _make_run(client, experiment, workspace, params, trial, tags[trial])
    return runs


def start_run(
    client: "MlflowClient", experiment: str, params: Params, trial: str, tags: dict[str, str], seconds: float = 0
) -> str:
    """Identifier of a new run of a trial with its parameters, which began so many seconds ago.

    Args:
        client: client of the store.
        experiment: identifier of the data set's experiment.
        params: parameters of the workspace.
        trial: name of the trial.
        tags: tags besides ``trial``.
        seconds: duration of its training.
    """
    from mlflow.entities import Param

    began = int(1000 * (time.time() - seconds))
    tags = {"trial": trial, "mlflow.source.name": f"train@{trial}"} | tags
    run_id = str(client.create_run(experiment, start_time=began, run_name=trial, tags=tags).info.run_id)
    settings = {"prompts": params.prompts.model_dump(), "trial": params.trial(trial).model_dump()}
    flat = {key.removeprefix("trial."): value for key, value in _flatten(settings)}
    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in flat.items()])
    return run_id


def end_run(client: "MlflowClient", run_id: str, model: Path) -> None:
    """Finish a run. Its duration is that of the training, without pauses between a kill and the next start."""
    began = client.get_run(run_id).info.start_time
    client.set_terminated(run_id, end_time=began + int(1000 * Timings.read(model / "timings.json").seconds))


def metrics_of(numbers: dict[str, Any], step: int = 0, at: int = 0) -> Iterator["Metric"]:
    """Metrics from the finite numbers, at a time in ms. Null and NaN mark undefined metrics and are left out."""
    from mlflow.entities import Metric

    for key, value in numbers.items():
        if isinstance(value, int | float) and math.isfinite(value):
            yield Metric(key, float(value), at, step)


def _find_run(client: "MlflowClient", experiment: str, lock_hash: str) -> str | None:
    found = None
    for run in client.search_runs([experiment], f"tags.lock_hash = '{lock_hash}'"):
        if run.info.status == "FINISHED":
            found = str(run.info.run_id)
        else:  # left by a mirror that was killed
            client.delete_run(run.info.run_id)
    return found


def _find_live(client: "MlflowClient", experiment: str, tags: TrialTags) -> str | None:
    """The run that showed this training while it ran and is not complete yet."""
    same = f"tags.weights_sha256 = '{tags.weights_sha256}' and tags.trial = '{tags.trial}'"
    runs = client.search_runs([experiment], same)
    return next((str(run.info.run_id) for run in runs if "lock_hash" not in run.data.tags), None)


def _make_run(
    client: "MlflowClient",
    experiment: str,
    workspace: Path,
    params: Params,
    trial: str,
    tags: TrialTags,
) -> str:
    from mlflow.entities import Dataset, DatasetInput, RunTag

    model, evaluation = workspace / MODELS / trial, workspace / EVALUATIONS / trial
    timings = Timings.read(model / "timings.json")
    evaluated = Evaluation.read(evaluation / "evaluation.json")
    metrics = [
        *_evaluation_metrics(evaluated),
        *metrics_of({f"timing_{key}": value for key, value in timings if key != "format"}),
    ]
    predictions = evaluation / PREDICTIONS
    if not predictions.is_file():
        raise UserError(predictions, "not found; run `dvc repro` first")
    # The digest is in the database, so a change of the file in the artifact store is noticed.
    digest = {"predictions_sha256": file_sha256(predictions)}
    told = {"mlflow.source.git.commit": tags.git_commit, "mlflow.note.content": run_note(evaluated)}
    texts = tags.texts() | digest | told
    live = _find_live(client, experiment, tags)
    run_id = live or start_run(client, experiment, params, trial, texts, timings.seconds)
    shown = {each.step for each in client.get_metric_history(run_id, "validation_kappa")} if live else set[int]()
    metrics += _history_metrics(model / "history.csv", shown)
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
    # MLflow's own digest would cover less than one patch.
    dataset = Dataset(tags.dataset, tags.data_md5, "local", params.dataset.root)
    client.log_inputs(run_id, [DatasetInput(dataset)])
    for file in (evaluation / "evaluation.json", predictions, model / "model.json", model / "history.csv"):
        client.log_artifact(run_id, str(file))
    for figure in sorted((workspace / REPORTS / "figures").glob(f"*-{trial}.png")):
        client.log_artifact(run_id, str(figure), "figures")
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in texts.items()])  # from here on it is complete
    end_run(client, run_id, model)
    return run_id


def _evaluation_metrics(evaluation: Evaluation) -> Iterator["Metric"]:
    numbers = {key: getattr(evaluation, key) for key in SCORES}
    for key, bounds in evaluation.intervals.items():
        numbers[f"{key}_low"], numbers[f"{key}_high"] = bounds or (None, None)
    numbers |= {f"f1_{row.code}": row.f1 for row in evaluation.per_class}
    yield from metrics_of({f"testing_{key}": value for key, value in numbers.items()})
    yield from metrics_of({"best_epoch": evaluation.best_epoch, "parameters": evaluation.parameters})


def _history_metrics(file: Path, shown: set[int]) -> Iterator["Metric"]:
    """The curves without the epochs that the run has already."""
    with file.open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            step = int(row.pop("epoch"))
            if step not in shown:
                yield from metrics_of({key: float(value) for key, value in row.items() if value}, step)


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
