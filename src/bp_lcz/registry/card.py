"""The model card: what a version was made from, how good it is, and what it must not be used for.

Every number is read from the files of the trial; none is written by hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from bp_lcz.params import SPLITS, Split, Start
from bp_lcz.records import Evaluation, GateSummary, Interval, Metric, ModelDescription, TextOrigin, TrialTags
from bp_lcz.scheme import CODES
from bp_lcz.scoring.score import fraction
from bp_lcz.so2sat.geo import Geo
from bp_lcz.so2sat.ground import on_globe

MOST_DESCRIPTION = 5000
"""Characters that MLflow's database keeps of a description."""

_MOST_CITIES = 60
"""Largest number of cities that the card names; So2Sat has 52."""

_METRICS: dict[Metric, str] = {
    "oa": "overall accuracy",
    "aa": "average accuracy",
    "kappa": "kappa",
    "macro_f1": "macro-F1",
}


def model_card(
    model: ModelDescription,
    evaluation: Evaluation,
    summary: GateSummary,
    tags: TrialTags,
    places: Mapping[Split, Geo | None],
) -> str:
    """The card as Markdown.

    Args:
        model: ``model.json`` of the trial.
        evaluation: its ``evaluation.json``.
        summary: the gate's ``summary.json``.
        tags: tags of the run, from `bp_lcz.registry.lineage.tags_of_trials`.
        places: positions of the patches of each split; None if they are not known.
    """
    interval = evaluation.interval
    lines = [
        f"# {tags.trial}",
        "",
        f"**{evaluation.heading}**: {evaluation.sentence}".rstrip(": "),
        *(["", "Parts of the testing split were seen in training."] * bool(evaluation.leakage.mark)),
        "",
        "## Model",
        f"- backbone {model.backbone}, variant {model.variant}, seed {model.seed}, "
        f"{model.parameters:,} parameters, best epoch {model.best_epoch}",
        f"- sen1: {', '.join(model.channels.sen1) or 'none'}",
        f"- sen2: {', '.join(model.channels.sen2) or 'none'}; level {model.level or 'not stated'}",
        f"- text encoder: {_encoder(model.text)}",
        *([] if (start := model.train.start) is None else [_start(start, model)]),
        f"- weights sha256 {tags.weights_sha256}",
        f"- commit {tags.git_commit}{' with changes' if tags.git_dirty == 'true' else ''}; "
        + ", ".join(f"{name} {value}" for name, value in sorted(model.versions.items())),
        "",
        "## Data",
        f"- data set {summary.dataset}, release {summary.release or 'none that is known'}, "
        f"source: {summary.source or 'not stated'}",
        f"- md5 {tags.data_md5}, testing split {tags.testing_digest[:16]}",
        "",
        "| split | patches | cities | classes |",
        "|---|---|---|---|",
        *(
            f"| {name} | {split.patches:,} | {split.cities or '-'} | {_present(split.class_counts)} |"
            for name, split in ((name, summary.splits[name]) for name in SPLITS)
        ),
        "",
        f"## Testing split, {interval.level:.0%} intervals by {interval.unit} ({interval.blocks:,})",
        "",
        "| metric | value | interval |",
        "|---|---|---|",
        *(
            f"| {meaning} | {fraction(getattr(evaluation, key), 3)} | {_bounds(evaluation.intervals[key])} |"
            for key, meaning in _METRICS.items()
        ),
    ]
    if interval.lower_bound:
        lines += ["", "Patches overlap but were resampled one by one, so the intervals are too narrow."]
    lines += [
        "",
        "## Where it was tried",
        *_tried(model, summary, places),
        "",
        "## Use and limits",
        "- For patches of 32 x 32 pixels of 10 m as So2Sat stores them: linear Sentinel-1, Sentinel-2 reflectance "
        "without the offset of baseline 04.00; normalisation is inside.",
        "- Not for other sensors, resolutions or channels, nor for decisions on single buildings or people.",
        "- The model comes from one seed. Its probabilities have the calibration error below. It does worse in cities "
        "that differ from those of the training.",
        f"- Expected calibration error {fraction(evaluation.ece, 3)}, {fraction(evaluation.ece_before, 3)} before the "
        f"temperature {evaluation.temperature:g}.",
        f"- Class sets with {(sets := evaluation.coverage).asked:.0%} coverage asked hold the true class "
        f"of {fraction(sets.reached, 3)} of the patches, with {sets.classes:.1f} classes on average.",
        "",
        "## Classes",
        "",
        "| LCZ | name | patches | precision | recall | F1 |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row.code} | {row.name} | {row.support:,} | {fraction(row.precision, 3)} "
            f"| {fraction(row.recall, 3)} | {fraction(row.f1, 3)} |"
            for row in evaluation.per_class
        ),
    ]
    return "\n".join(lines) + "\n"


def run_note(evaluation: Evaluation) -> str:
    """The note that MLflow shows above the numbers of a run, as Markdown: the model, its data and its accuracy."""
    interval = evaluation.interval
    numbers = [
        f"{_METRICS[key]} {fraction(getattr(evaluation, key), 3)} ({_bounds(evaluation.intervals[key])})"
        for key in ("oa", "kappa")
    ]
    return "\n\n".join(
        [
            f"Backbone {evaluation.backbone} as variant {evaluation.variant}, seed {evaluation.seed}, trained on "
            f"{evaluation.dataset}: **{evaluation.heading}**. {evaluation.sentence}".rstrip(),
            f"Testing split: {', '.join(numbers)}. In brackets are {interval.level:.0%} intervals by {interval.unit}. "
            "One seed decides nothing between trials.",
            "reports/index.html of the workspace compares all trials. In the project, docs/method.md explains the "
            "variants, and docs/statistics.md explains the intervals.",
        ]
    )


def _tried(model: ModelDescription, summary: GateSummary, places: Mapping[Split, Geo | None]) -> list[str]:
    """Lines on levels, sensors and places, and on zones that are in no split."""
    channels, level = model.channels, model.level
    other = {"L1C": "never on L2A", "L2A": "never on L1C"}.get(str(level), "so L1C and L2A are both untested")
    sensors = [f"Sentinel-{key[-1]} ({len(bands)} channels)" for key, bands in asdict(channels).items() if bands]
    unseen = [code for code, count in zip(CODES, summary.splits["training"].class_counts, strict=True) if not count]
    untried = [code for code, count in zip(CODES, summary.splits["testing"].class_counts, strict=True) if not count]
    return [
        f"- level of Sentinel-2: {level or 'not stated'}, {other}",
        f"- sensors: {', '.join(sensors)}; never on others",
        *(f"- {split}: {_place(places.get(split))}" for split in ("training", "testing")),
        "- never on any other city, nor in other climates than those of these places",
        f"- zones without a training patch, which the model cannot predict: {', '.join(unseen) or 'none'}",
        f"- zones without a testing patch: {', '.join(untried) or 'none'}",
    ]


def _place(geo: Geo | None) -> str:
    """Cities and degrees of a split."""
    if geo is None or not len(geo.epsg):
        return "the positions of its patches are not known"
    cities = sorted(set(geo.city.tolist()))
    shown = ", ".join(cities[:_MOST_CITIES]) + f" and {len(cities) - _MOST_CITIES} more" * (len(cities) > _MOST_CITIES)
    corner = np.stack([geo.easting, geo.northing], axis=1)
    globe = [on_globe(corner[geo.epsg == code], code) for code in sorted(set(geo.epsg.tolist()))]
    known = [np.degrees(part) for part in globe if part is not None]
    if not known:
        return shown
    (west, south), (east, north) = (np.concatenate(known).min(axis=0), np.concatenate(known).max(axis=0))
    return f"{shown}; {_degrees(south, north, 'NS')}, {_degrees(west, east, 'EW')}"


def _degrees(low: float, high: float, signs: str) -> str:
    """A range of degrees, rounded outwards to whole degrees, such as ``33 S to 53 N``."""
    whole = int(np.floor(low)), int(np.ceil(high))
    return " to ".join(f"{abs(degree)} {signs[degree < 0]}" for degree in whole)


def description_of(card: str) -> str:
    """The card as a description in MLflow: as many whole lines as its database keeps."""
    if len(card) <= MOST_DESCRIPTION:
        return card
    note = "\n(cut here; the whole card is the artifact model_card.md)"
    return card[: card.rindex("\n", 0, MOST_DESCRIPTION - len(note))] + note


def _encoder(text: TextOrigin | None) -> str:
    if text is None:
        return "none"
    return f"{text.encoder}, sha256 {text.sha256[:16]}, template `{text.template}`"


def _start(start: Start, model: ModelDescription) -> str:
    return f"- {model.from_start:,} parameters began with those of {start.name}, sha256 {start.sha256}"


def _present(counts: Sequence[int]) -> str:
    return f"{sum(count > 0 for count in counts)} of {len(counts)}"


def _bounds(bounds: Interval) -> str:
    return "-" if bounds is None else f"{fraction(bounds[0], 3)} to {fraction(bounds[1], 3)}"
