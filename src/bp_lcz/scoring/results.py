"""Results of each trial in the files of the stages, and groups of trials that differ only in the seed."""

import csv
import json
import re
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer

from bp_lcz import paths
from bp_lcz.errors import NO_ARRAY, UserError, one_line
from bp_lcz.params import Params, Variant, check_seeds, vectors_of
from bp_lcz.records import Evaluation, GateSummary, Interval, Metric, ModelDescription, Timings
from bp_lcz.scoring.crossed import crossed_intervals
from bp_lcz.scoring.significance import bootstrap_differences

METRICS: dict[Metric, str] = {"oa": "OA", "aa": "AA", "kappa": "kappa", "macro_f1": "macro-F1"}

SECTIONS = {"backbone_options", "train", "model", "prompts"}
"""Sections in which trials of one backbone and variant can differ, besides the seed."""

_HISTORY_KEYS = ("epoch", "training_loss", "training_alignment", "validation_loss", "validation_kappa")
_PREDICTION_KEYS = ("y_true", "y_pred", "probability", "block", "embedding", "embedding_share")


@dataclass(frozen=True)
class TrialResult:
    """Results of one trial in the files of the stages.

    Attributes:
        evaluation: ``evaluation.json``.
        predictions: arrays of ``predictions.npz``.
        model: ``model.json``.
        history: columns of ``history.csv``.
        timings: ``timings.json``.
        overrides: values of the trial that differ from the common sections of ``params.yaml``, by dotted key such as
            ``model.alpha``.
    """

    evaluation: Evaluation
    predictions: Mapping[str, np.ndarray]
    model: ModelDescription
    history: Mapping[str, Sequence[float]]
    timings: Timings
    overrides: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The trial's key in ``params.yaml``."""
        return self.evaluation.trial


@dataclass(frozen=True)
class Group:
    """Trials that differ only in the seed, in the order of their seeds; at least one.

    Attributes:
        label: the common part of the trials' names.
        members: the trials.
    """

    label: str
    members: Sequence[TrialResult]

    @property
    def backbone(self) -> str:
        """Name of the backbone."""
        return self.members[0].evaluation.backbone

    @property
    def variant(self) -> Variant:
        """Name of the variant."""
        return self.members[0].evaluation.variant

    @property
    def overrides(self) -> Mapping[str, Any]:
        """Values that differ from the common sections of ``params.yaml``."""
        return self.members[0].overrides

    @property
    def settings(self) -> Mapping[str, Mapping[str, Any]]:
        """All values that the trials were trained with, by section."""
        return self.members[0].model.model_dump(include=SECTIONS)

    @property
    def seeds(self) -> list[int]:
        """Seed of each member."""
        return [member.evaluation.seed for member in self.members]

    def values(self, key: str) -> list[float] | None:
        """A number of ``evaluation.json`` for each member; None if a member has none."""
        values = [getattr(member.evaluation, key) for member in self.members]
        return None if None in values else values

    @property
    def y_true(self) -> Integer[np.ndarray, "patch"]:
        """True classes, the same for all members."""
        return self.members[0].predictions["y_true"]

    @property
    def y_pred(self) -> Integer[np.ndarray, "seed patch"]:
        """Predicted classes of each member."""
        return np.stack([member.predictions["y_pred"] for member in self.members])

    @property
    def block(self) -> Integer[np.ndarray, "patch"]:
        """City or other block of each patch, the same for all members."""
        return self.members[0].predictions["block"]

    @property
    def why_narrow(self) -> list[str]:
        """Reasons why the intervals are too narrow to decide anything; empty if they are not."""
        reasons = {
            "one seed decides nothing": len(self.members) == 1,
            "the interval by patch is too narrow to decide: geo files are missing": (
                self.members[0].evaluation.interval.lower_bound
            ),
        }
        return [reason for reason, applies in reasons.items() if applies]

    def intervals(self) -> dict[Metric, Interval]:
        """95 % intervals of the means over cities and seeds; with one seed, over cities only."""
        if len(self.members) == 1:
            return self.members[0].evaluation.intervals
        return crossed_intervals(self.y_true, self.y_pred, block=self.block)

    def intervals_of_lead(self, other: "Group") -> dict[Metric, Interval]:
        """95 % intervals of the lead over another group with as many seeds; with one seed, over cities only."""
        if len(self.members) == 1:
            drawn = self.members[0].evaluation.interval
            pair = self.y_pred[0], other.y_pred[0]
            return bootstrap_differences(self.y_true, *pair, self.block, drawn.samples, drawn.seed)
        return crossed_intervals(self.y_true, self.y_pred, other.y_pred, block=self.block)


class Matrix(NamedTuple):
    """All trials of ``params.yaml``, and the data on which they were evaluated.

    Attributes:
        summary: the gate's ``summary.json``.
        results: the trials, in the order of ``params.yaml``.
    """

    summary: GateSummary
    results: Sequence[TrialResult]


def read_matrix(params: Params, trials: Collection[str] | None = None) -> Matrix:
    """Read the results of exactly the trials of ``params.yaml``, in the current folder.

    Args:
        params: parameters with the trials.
        trials: names of the trials to read, if others may be missing.

    Raises:
        UserError: if a trial is missing, a folder of another trial is left over, a file is unreadable, or a
            file belongs to another trial, other parameters or another data set than it should.
    """
    _check_trials(params, params.trials if trials is None else trials)
    summary = GateSummary.read(paths.SUMMARY)
    results = []
    for name in (name for name in params.trials if trials is None or name in trials):
        result = read_result(paths.EVALUATIONS / name, paths.MODELS / name, overrides(params, name))
        _check_identity(name, result, params, summary.dataset)
        _check_settings(name, result, params)
        results.append(result)
    return Matrix(summary, results)


def read_result(evaluation: Path, model: Path, overrides: Mapping[str, Any]) -> TrialResult:
    """Read one trial.

    Args:
        evaluation: folder with ``evaluation.json`` and ``predictions.npz``.
        model: folder with ``model.json``, ``history.csv`` and ``timings.json``.
        overrides: overrides of the trial, as in `TrialResult`.

    Raises:
        UserError: if a file is missing or unreadable or lacks a value that the report shows.
    """
    return TrialResult(
        evaluation=Evaluation.read(evaluation / "evaluation.json"),
        predictions=_read(evaluation / "predictions.npz", _arrays, _PREDICTION_KEYS),
        model=ModelDescription.read(model / "model.json"),
        history=_read(model / "history.csv", _columns, _HISTORY_KEYS),
        timings=Timings.read(model / "timings.json"),
        overrides=overrides,
    )


def overrides(params: Params, trial: str) -> dict[str, Any]:
    """Values of a trial that differ from the common sections, by dotted key such as ``model.alpha``."""
    settings = params.trial(trial)
    sections = {
        "train": (settings.train.model_dump(), params.train.model_dump()),
        "model": (settings.model.model_dump(), params.model.model_dump()),
        "prompts": (settings.prompts.model_dump(), vectors_of(params.prompts)),
        "backbone": (settings.backbone_options, params.backbones.get(settings.backbone, {})),
    }
    return {
        f"{section}.{key}": value
        for section, (own, common) in sections.items()
        for key, value in own.items()
        if key not in common or common[key] != value
    }


def overrides_text(values: Mapping[str, Any]) -> str:
    """Overrides as ``alpha .05, loss softmax``; empty without any."""
    return ", ".join(f"{key.partition('.')[2]} {value_text(value)}" for key, value in values.items())


def value_text(value: Any) -> str:
    """A value of ``params.yaml`` as the tables show it."""
    if isinstance(value, float):
        return f"{value:g}".removeprefix("0") if 0 < abs(value) < 1 else f"{value:g}"
    if isinstance(value, dict):
        return str(value["name"])  # of a start
    return str(value).lower() if isinstance(value, bool) else str(value)


def group_seeds(results: Sequence[TrialResult]) -> list[Group]:
    """Groups of trials that differ only in the seed, in the order of their first trials.

    Raises:
        UserError: if a group has a seed twice or lacks a seed, since means over different seeds cannot be compared.
    """
    alike: dict[str, list[TrialResult]] = {}
    for result in results:
        settings = result.model.model_dump(include={"backbone", "variant", *SECTIONS})
        alike.setdefault(json.dumps(settings, sort_keys=True), []).append(result)
    groups = [_group(members) for members in alike.values()]
    check_seeds({group.label: group.seeds for group in groups})
    return groups


def _group(members: list[TrialResult]) -> Group:
    ordered = sorted(members, key=lambda member: member.evaluation.seed)
    for one, other in pairwise(ordered):
        if one.evaluation.seed == other.evaluation.seed:
            raise UserError(
                "params.yaml", f"trials: {one.name} and {other.name} differ in nothing, not even in the seed"
            )
    first = ordered[0]
    seeds = {member.name: member.evaluation.seed for member in ordered}
    return Group(label_of(seeds, first.evaluation.backbone, first.evaluation.variant, first.overrides), ordered)


def label_of(seeds: Mapping[str, int], backbone: str, variant: Variant, overrides: Mapping[str, Any]) -> str:
    """The common part of trials' names without seeds; if there is none, backbone, variant and overrides."""
    if len(seeds) == 1:
        return next(iter(seeds))
    stems = {re.sub(rf"[-_]s?{seed}$", "", name) for name, seed in seeds.items()}
    return stems.pop() if len(stems) == 1 else " ".join(filter(None, [backbone, variant, overrides_text(overrides)]))


def check_same_patches(results: Sequence[TrialResult]) -> None:
    """Refuse to compare trials that cannot be compared.

    Raises:
        UserError: if trials were evaluated on different patches.
    """
    first, *others = results
    for other in others:
        if not np.array_equal(first.predictions["y_true"], other.predictions["y_true"]):
            raise UserError(other.name, f"was evaluated on other patches than {first.name}; run `dvc repro`")


def _check_trials(params: Params, wanted: Collection[str]) -> None:
    # DVC leaves its .gitignore in the folder of a removed trial. A folder with nothing else is not a result.
    present = [
        path
        for path in sorted([*paths.MODELS.glob("*/"), *paths.EVALUATIONS.glob("*/")])
        if not path.name.startswith(".") and any(entry.name != ".gitignore" for entry in path.iterdir())
    ]
    left_over = " ".join(str(path) for path in present if path.name not in params.trials)
    if left_over:
        raise UserError(left_over, f"not among the trials of params.yaml; remove with `rm -r {left_over}`")
    for folder, stage in ((paths.MODELS, "train"), (paths.EVALUATIONS, "evaluate")):
        for name in wanted:
            if folder / name not in present:
                raise UserError(folder / name, f"not found; run `dvc repro {stage}@{name}`")


def _check_identity(name: str, result: TrialResult, params: Params, dataset: str) -> None:
    trial = params.trials[name]
    expected = {
        "trial": name,
        "backbone": trial.backbone,
        "variant": trial.variant,
        "seed": trial.seed,
        "dataset": dataset,
    }
    for key, value in expected.items():
        found = getattr(result.evaluation, key)
        if found != value:
            file = paths.EVALUATIONS / name / "evaluation.json"
            raise UserError(file, f"{key} is {found!r}, expected {value!r}; run `dvc repro`")


def _check_settings(name: str, result: TrialResult, params: Params) -> None:
    """Check that the trial was trained with the present ``params.yaml``, as only DVC would otherwise."""
    settings = params.trial(name)
    trained = result.model.model_dump()
    for section, values in settings.model_dump(include=SECTIONS).items():
        for key, value in values.items():
            found = trained[section].get(key)
            if found != value:
                raise UserError(
                    paths.MODELS / name / "model.json",
                    f"trained with {section.removesuffix('_options')}.{key} "
                    f"{found!r}, expected {value!r}; run `dvc repro`",
                )


def _read(path: Path, parse: Callable[[Path], dict[str, Any]], keys: Sequence[str]) -> dict[str, Any]:
    try:
        content = parse(path)
    except FileNotFoundError:
        raise UserError(path, "not found; run `dvc repro`") from None
    except (OSError, *NO_ARRAY) as error:
        raise UserError(path, f"unreadable: {one_line(error)}") from None
    missing = [key for key in keys if key not in content]
    if missing:
        raise UserError(path, f"lacks {', '.join(missing)}; run `dvc repro -f` for the stage that wrote it")
    return content


def _arrays(path: Path) -> dict[str, Any]:
    if path.exists() and not zipfile.is_zipfile(path):
        raise ValueError("not a NumPy .npz file")
    with np.load(path, allow_pickle=False) as file:
        return dict(file.items())


def _columns(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    return {name: [float(row[name] or "") for row in rows] for name in reader.fieldnames or ()}
