"""From finished trials on disk to runs in MLflow: idempotent, so trials restored from a cache appear too."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bp_lcz.errors import UserError
from bp_lcz.params import Params
from bp_lcz.paths import EVALUATIONS, MODELS
from bp_lcz.registry.connection import open_experiment, open_store
from bp_lcz.registry.lineage import file_sha256, read_json, trial_tags
from bp_lcz.registry.naming import model_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

PREDICTIONS = "predictions.npz"
"""Of each testing patch the true and the predicted class and the resampling unit: what a promotion compares."""

_SCORES = ("oa", "aa", "kappa", "macro_f1", "oa_built", "oa_natural", "ece")
_BATCH = 1000
"""Most metrics that MLflow takes at once."""


def mirror_trials(workspace: Path, params: Params) -> dict[str, str]:
    """Make one MLflow run for each trained and evaluated trial that has none yet.

    A trial is known by the hash of its DVC record (tag ``lock_hash``), so a second call makes no run. Runs are
    kept in one experiment for each data set, named like its model.

    Args:
        workspace: checkout or workspace with finished trials.
        params: its parameters.

    Returns:
        Identifier of the run of each trial.

    Raises:
        UserError: if a trial's files or its DVC record are missing.
    """
    runs = {}
    tags = {trial: trial_tags(workspace, params, trial) for trial in params.trials}
    name = model_name(workspace, params.dataset.root)
    with open_store(workspace) as client:
        experiment = open_experiment(client, name, workspace)
        for trial in params.trials:
            run = _find_run(client, experiment, tags[trial]["lock_hash"])
            runs[trial] = run or _make_run(client, experiment, workspace, params, trial, tags[trial])
    return runs


def _find_run(client: "MlflowClient", experiment: str, lock_hash: str) -> str | None:
    found = None
    for run in client.search_runs([experiment], f"tags.lock_hash = '{lock_hash}'"):
        if run.info.status == "FINISHED":
            found = str(run.info.run_id)
        else:  # a mirror that was killed
            client.delete_run(run.info.run_id)
    return found


def _make_run(
    client: "MlflowClient",
    experiment: str,
    workspace: Path,
    params: Params,
    trial: str,
    tags: dict[str, str],
) -> str:
    from mlflow.entities import Dataset, DatasetInput, Param

    model, evaluation = workspace / MODELS / trial, workspace / EVALUATIONS / trial
    metrics = [
        *_evaluation_metrics(read_json(evaluation / "evaluation.json")),
        *_metrics({"timing_" + key: value for key, value in read_json(model / "timings.json").items()}),
        *_history_metrics(model / "history.csv"),
    ]
    settings = {"trial": params.trial(trial).model_dump(), "prompts": params.prompts.model_dump()}
    flat = {key.removeprefix("trial."): value for key, value in _flatten(settings)}

    predictions = evaluation / PREDICTIONS
    if not predictions.is_file():
        raise UserError(predictions, "not found; run `dvc repro` first")
    # In the database: whoever changes the file in the artifact store is found out.
    tags = tags | {"predictions_sha256": file_sha256(predictions)}
    shown = {"mlflow.source.git.commit": tags["git_commit"], "mlflow.source.name": f"train@{trial}"}
    run_id = str(client.create_run(experiment, run_name=trial, tags=tags | shown).info.run_id)
    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in flat.items()])
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
    # MLflow's own digest would hash less than one patch.
    dataset = Dataset(tags["dataset"], tags["data_md5"], "local", params.dataset.root)
    client.log_inputs(run_id, [DatasetInput(dataset)])
    for file in (evaluation / "evaluation.json", predictions, model / "model.json", model / "history.csv"):
        client.log_artifact(run_id, str(file))
    client.set_terminated(run_id)
    return run_id


def _evaluation_metrics(evaluation: dict[str, Any]) -> Iterator["Metric"]:
    numbers = {key: evaluation[key] for key in _SCORES}
    for key, bounds in (evaluation["intervals"] or {}).items():
        numbers[f"{key}_low"], numbers[f"{key}_high"] = bounds or (None, None)
    numbers |= {f"f1_{row['code']}": row["f1"] for row in evaluation["per_class"]}
    yield from _metrics({f"testing_{key}": value for key, value in numbers.items()})
    yield from _metrics({key: evaluation[key] for key in ("best_epoch", "parameters")})


def _history_metrics(file: Path) -> Iterator["Metric"]:
    with file.open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            step = int(row.pop("epoch"))
            yield from _metrics({key: float(value) for key, value in row.items() if value}, step)


def _metrics(numbers: dict[str, Any], step: int = 0) -> Iterator["Metric"]:
    """The entries that are numbers; null and NaN mean that a metric is not defined."""
    from mlflow.entities import Metric

    for key, value in numbers.items():
        if isinstance(value, int | float) and math.isfinite(value):
            yield Metric(key, float(value), 0, step)


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
