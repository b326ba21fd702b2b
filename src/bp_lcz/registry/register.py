"""The best trial becomes a version of the data set's registered model."""

import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float32

from bp_lcz.model.checkpoint import DESCRIPTION, load_classifier
from bp_lcz.params import SPLITS, Params
from bp_lcz.paths import EVALUATIONS, MODELS, SUMMARY
from bp_lcz.records import DataKind, Evaluation, GateSummary, ModelDescription
from bp_lcz.registry.card import description_of, model_card
from bp_lcz.registry.connection import open_store, raise_unanswered
from bp_lcz.registry.lineage import tags_of_trials
from bp_lcz.registry.mirror import end_run
from bp_lcz.registry.naming import model_name
from bp_lcz.registry.package import Package, Patches, code_folder, example_patches, log_package
from bp_lcz.registry.versions import CHALLENGER
from bp_lcz.scoring.score import fraction
from bp_lcz.so2sat.geo import read_geo

if TYPE_CHECKING:
    from mlflow import MlflowClient

CARD = "model_card.md"


@dataclass(frozen=True)
class Registration:
    """A version of a registered model; ``models:/<name>@<alias>`` loads it.

    Attributes:
        choice: one line on the choice of the trial: its validation kappa, and that of the trial which the other value
            of ``register`` would have chosen.
    """

    name: str
    version: str
    alias: str
    trial: str
    choice: str


def register_best(workspace: Path, params: Params, runs: Mapping[str, str]) -> Registration | None:
    """Register, as the challenger, the trial with the best validation kappa among those that ``register`` allows.

    A trial that is registered already (same ``lock_hash``) gets no second version. The alias moves only if the
    registered model gives the same probabilities as the checkpoint on the example.

    Args:
        workspace: checkout or workspace with finished trials.
        params: its parameters.
        runs: run of each trial, from `mirror_trials`.

    Returns:
        The version with the alias, or None if ``register`` allows no trial.

    Raises:
        UserError: if a trial's files or its DVC record are missing or damaged.
    """
    ranking = rank_trials(workspace, params)
    trial = ranking.best if params.registered == "best" else ranking.method
    if trial is None:
        return None
    tags = tags_of_trials(workspace, params, [trial])[trial]
    name = model_name(workspace, params.dataset.root)
    example = example_patches(workspace / params.dataset.root)
    checkpoint = workspace / MODELS / trial
    classifier = load_classifier(checkpoint)
    expected = classifier.predict_proba(example["sen1"], example["sen2"])
    with open_store(workspace) as client:
        version = _find_version(client, name, tags.lock_hash)
        if version is None or not _gives(f"models:/{name}/{version}", example, expected):
            evaluation = Evaluation.read(workspace / EVALUATIONS / trial / "evaluation.json")
            places = {split: read_geo(workspace / params.dataset.root, split) for split in SPLITS}
            summary = GateSummary.read(workspace / SUMMARY)
            card = model_card(_description(workspace, trial), evaluation, summary, tags, places)
            code = code_folder(workspace)
            with tempfile.TemporaryDirectory() as scratch:
                file = Path(scratch) / CARD
                file.write_text(card, encoding="utf-8")
                package = log_package(runs[trial], checkpoint, file, classifier.channels, example, code)
            end_run(client, runs[trial], checkpoint)  # logging a model has opened it again
            texts = tags.texts() | {"validation_kappa": str(_description(workspace, trial).validation.kappa)}
            version = _make_version(client, name, runs[trial], package, texts, description_of(card))
            if not _gives(f"models:/{name}/{version}", example, expected):
                client.delete_model_version(name, version)
                raise RuntimeError(f"{name}: the registered model does not give the probabilities of {trial}")
        client.set_registered_model_alias(name, CHALLENGER, version)
    return Registration(name, version, CHALLENGER, trial, ranking.text(trial))


class Ranking(NamedTuple):
    """The best trials by validation kappa; among equals, the first by name.

    Attributes:
        kappas: kappa of each trial that may be registered.
        best: best trial of any variant; None if all trials are controls.
        method: best trial of the variant ``bp-lcz``; None if there is none.
    """

    kappas: dict[str, float | None]
    best: str | None
    method: str | None

    def text(self, trial: str) -> str:
        """The kappa of a trial, and of the trial that the other value of ``register`` would have chosen."""
        own = f"kappa {fraction(self.kappas[trial], 3)}"
        if self.method is None:
            return f"{own}, best of all trials; none of variant bp-lcz"
        if self.best == self.method:
            return f"{own}, best of all trials"
        name, other = ("bp-lcz trial", self.method) if trial == self.best else ("trial", self.best)
        return f"{own}; the best {name}, {other}, has {fraction(self.kappas[str(other)], 3)}"


def rank_trials(workspace: Path, params: Params) -> Ranking:
    """Rank trials on all classes, with texts or without prompts. Other trials are controls, not models to serve."""
    settings = {name: params.trial(name) for name in sorted(params.trials)}
    trials = {
        name: each.variant
        for name, each in settings.items()
        if (each.prompts.source == "text" or each.variant in ("plain", "encoder")) and not each.train.leave_out
    }
    kappas = {trial: _description(workspace, trial).validation.kappa for trial in trials}

    def best(names: Iterable[str]) -> str | None:
        return max(names, key=lambda name: -math.inf if (kappa := kappas[name]) is None else kappa, default=None)

    return Ranking(kappas, best(trials), best(name for name, variant in trials.items() if variant == "bp-lcz"))


def _description(workspace: Path, trial: str) -> ModelDescription:
    return ModelDescription.read(workspace / MODELS / trial / DESCRIPTION)


def _find_version(client: "MlflowClient", name: str, lock_hash: str) -> str | None:
    found = client.search_model_versions(f"name = '{name}' and tags.lock_hash = '{lock_hash}'")
    return max((str(version.version) for version in found), key=int, default=None)


def _make_version(
    client: "MlflowClient", name: str, run_id: str, package: Package, tags: dict[str, str], description: str
) -> str:
    if not client.search_registered_models(f"name = '{name}'"):
        kind = DataKind(tags["kind"])
        client.create_registered_model(name, description=f"{kind.heading}: {kind.sentence}")
    version = client.create_model_version(
        name, package.uri, run_id, tags, description=description, model_id=package.model_id
    )
    return str(version.version)


def _gives(uri: str, example: Patches, expected: Float32[np.ndarray, "patch 17"]) -> bool:
    import mlflow

    with tempfile.TemporaryDirectory() as scratch:  # MLflow cuts a path of the store at "#"
        try:
            model = mlflow.pyfunc.load_model(uri, dst_path=scratch)
        except (mlflow.MlflowException, OSError) as error:
            raise_unanswered(error, uri)
            return False  # the artifacts are gone
        return np.array_equal(model.predict(example), expected)
