"""The report of one experiment matrix: a self-contained page, the same as Markdown, and the figures.

It begins with the answer, one table and one figure. On the page, every other section is folded into one line.
The report is a pure function of the gate's summary and patches, the manifest of the packed arrays, each trial's files,
``paper.yaml`` and ``references.yaml``. It does not depend on time, host or order of files: equal inputs, equal bytes.
"""

import base64
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, groupby
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from tqdm import tqdm

from bp_lcz.drawing import Note, class_histogram
from bp_lcz.params import SPLITS
from bp_lcz.records import CheckedClaim, GateSummary, PackManifest
from bp_lcz.report import features, figures, tables
from bp_lcz.report.claims import Paper, data_text
from bp_lcz.report.left_out import NOTE, left_out_table
from bp_lcz.report.method import answer_sentence, method_sentences
from bp_lcz.report.references import References, references_table, why_not
from bp_lcz.scoring.metrics import reliability
from bp_lcz.scoring.results import METRICS, Group, Matrix, TrialResult, check_same_patches, group_seeds
from bp_lcz.templates import template_environment
from bp_lcz.text.prompts import SIGHTS

PAGE, MARKDOWN, FIGURES = "index.html", "report.md", "figures"
SECTIONS = {
    "overview": "",
    "classes": "",
    "patches": "The quality gate made this figure. All patches share one stretch of reflectance and backscatter.",
    "recall": "Recall is the share of the patches of a class that are classified correctly.",
    "confusion": "Rows are true classes. Numbers count patches; the colour is their share of the true class.",
    "groups": f"{'; '.join(SIGHTS.values())}. A dark blue diagonal: each band group matches its own text.",
    "prompts": "Cosine of a band group with the text of the right class, minus its highest cosine with a text of "
    "another class. Blue: the group tells the class by itself. Red: another class's text is nearer.",
    "calibration": "On the dashed line, predictions are right as often as their probability says. The area of a marker "
    "grows with the number of patches in its bin.",
    "embedding": "A point is the feature of a test patch that the classifier receives, reduced to its first two "
    "principal components. Its colour is the true class.",
    "curves": "The ring marks the epoch whose weights were kept.",
}
"""Sections with figures in the order of the page, and the explanation below their first figure."""


def write_report(
    out: Path,
    matrix: Matrix,
    *,
    outcomes: Sequence[CheckedClaim],
    references: References,
    paper: Paper,
    manifest: PackManifest,
    patches: bytes,
    profile: str | None,
    command: str,
) -> None:
    """Write ``index.html``, ``report.md`` and ``figures/*.png`` into an empty folder.

    Args:
        out: existing empty folder.
        matrix: the gate's summary, and the trials in the order in which the report shows them; at least one.
        outcomes: verdicts on the paper's claims.
        references: published levels of accuracy.
        paper: the paper to cite.
        manifest: manifest of the packed arrays.
        patches: the gate's figure of some patches, a PNG.
        profile: name of the matrix, if it has one.
        command: command that rebuilds this report from a fresh clone.

    Raises:
        UserError: if trials were evaluated on different patches, or a seed is missing from a group of trials.
    """
    check_same_patches(matrix.results)
    groups = group_seeds(matrix.results)
    drawn = _draw(matrix.summary, groups, patches)
    context = _context(matrix, groups, outcomes, references, manifest)
    context |= {"paper": paper, "profile": profile, "command": command}
    (out / FIGURES).mkdir()
    for figure in (figure for section in drawn.values() for figure in section):
        (out / figure.path).write_bytes(figure.png)
    for name in (PAGE, MARKDOWN):
        template = environment().get_template(f"{name}.j2")
        (out / name).write_text(template.render(figures=drawn, **context), encoding="utf-8")


@dataclass(frozen=True)
class DrawnFigure:
    """A figure of the report.

    Attributes:
        number: its number in the order of the page, from 1.
        file: file name in the folder of figures.
        alternative: what it shows, for readers who cannot see it.
        explanation: further sentences of the caption.
        png: the image.
    """

    number: int
    file: str
    alternative: str
    explanation: str
    png: bytes

    @property
    def caption(self) -> str:
        """The sentences below the figure."""
        return " ".join(filter(None, [f"{self.alternative}.", self.explanation]))

    @property
    def path(self) -> str:
        """Path relative to the report."""
        return f"{FIGURES}/{self.file}"

    @property
    def data_uri(self) -> str:
        """The image as a data URI."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode('ascii')}"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width, height = struct.unpack(">II", self.png[16:24])
        return width, height


class PlannedFigure(NamedTuple):
    """A figure that is still to be drawn."""

    section: str
    file: str
    alternative: str
    draw: Callable[[], bytes]


def _draw(summary: GateSummary, groups: Sequence[Group], patches: bytes) -> dict[str, list[DrawnFigure]]:
    drawn: dict[str, list[DrawnFigure]] = {section: [] for section in SECTIONS}
    order = list(SECTIONS)
    plans = sorted(_plan(summary, groups, patches), key=lambda plan: order.index(plan.section))
    for number, plan in enumerate(tqdm(plans, desc="figures", unit="figure"), 1):
        explanation = "" if drawn[plan.section] else SECTIONS[plan.section]
        drawn[plan.section].append(DrawnFigure(number, plan.file, plan.alternative, explanation, plan.draw()))
    return drawn


def _plan(summary: GateSummary, groups: Sequence[Group], patches: bytes) -> list[PlannedFigure]:
    note = Note(f"{summary.dataset}, testing split, {tables.patches(summary):,} patches", summary.caution)
    data_note = Note(summary.dataset, summary.caution)
    class_counts: dict[str, tuple[int, ...]] = {split: summary.splits[split].class_counts for split in SPLITS}
    plan = [
        PlannedFigure(
            "classes",
            "classes.png",
            "Patches of each class in each split",
            partial(class_histogram, class_counts, data_note),
        ),
        PlannedFigure("patches", "patches.png", "Some patches of each class", lambda: patches),
    ]
    by_backbone, everything = _by_backbone(groups), [_pooled(group) for group in groups]
    for backbone, members in by_backbone:
        plan.append(
            PlannedFigure(
                "overview",
                "overview.png" if len(by_backbone) == 1 else f"overview-{backbone}.png",
                f"Overall accuracy and kappa with intervals, {backbone}",
                partial(
                    figures.overview,
                    [_pooled(member) for member in members],
                    note,
                    "Overall accuracy and kappa" + f", {backbone}" * (len(by_backbone) > 1),
                    everything,
                ),
            )
        )
        # Recall, curves and maps of an ablation's settings would be too many to read: its table has them all.
        shown = [member for member in members if not member.overrides] or members
        plan += _plan_backbone(backbone, shown, note, data_note)
        for member in shown:
            plan += _plan_group(member, note)
    return plan


def _plan_backbone(backbone: str, groups: Sequence[Group], note: Note, data_note: Note) -> list[PlannedFigure]:
    pooled = [_pooled(group) for group in groups]
    histories = {group.label: [_with_cross_entropy(member) for member in group.members] for group in groups}
    bins = {
        group.label: reliability(
            np.concatenate([member.predictions["y_true"] for member in group.members]),
            np.concatenate([member.predictions["probability"] for member in group.members]),
        )
        for group in groups
    }
    embeddings = {group.label: _embedding(group.members[0]) for group in groups}
    y_true = groups[0].y_true
    return [
        PlannedFigure(
            "recall",
            f"recall-{backbone}.png",
            f"Recall by class, {backbone}",
            partial(figures.recall, pooled, note),
        ),
        PlannedFigure(
            "curves",
            f"training-{backbone}.png",
            f"Loss and validation kappa by epoch, {backbone}",
            partial(figures.curves, histories, pooled, data_note),
        ),
        PlannedFigure(
            "embedding",
            f"embedding-{backbone}.png",
            f"Fused features of the test patches in two dimensions, {backbone}",
            partial(features.embedding, embeddings, y_true, groups[0].seeds[0], note),
        ),
        PlannedFigure(
            "calibration",
            f"calibration-{backbone}.png",
            f"Confidence against accuracy, {backbone}",
            partial(features.calibration, bins, pooled, note),
        ),
    ]


def _plan_group(group: Group, note: Note) -> list[PlannedFigure]:
    name = group.label
    file = re.sub(r"[^A-Za-z0-9._-]+", "-", name)
    plan = [
        PlannedFigure(
            "confusion",
            f"confusion-{file}.png",
            f"Confusion matrix of {name}",
            partial(figures.confusion, _pooled(group), note),
        )
    ]
    if all("groups" in member.predictions for member in group.members):
        bands = [str(band) for band in group.members[0].predictions["groups"]]
        by_group, by_class = (
            np.mean([member.predictions[key] for member in group.members], axis=0)
            for key in ("group_similarity", "class_similarity")
        )
        plan += [
            PlannedFigure(
                "groups",
                f"groups-{file}.png",
                f"Cosine of band groups and the texts of groups, {name}",
                partial(features.group_similarity, name, bands, by_group, note),
            ),
            PlannedFigure(
                "prompts",
                f"prompts-{file}.png",
                f"Lead of the right class among the texts of all classes, {name}",
                partial(features.class_similarity, name, bands, by_class, note),
            ),
        ]
    return plan


def _pooled(group: Group) -> figures.Pooled:
    """What the figures draw of a group."""
    return figures.Pooled(
        trial=group.label,
        variant=group.variant,
        by_seed={key: group.values(key) for key in (*METRICS, "ece")},
        intervals=group.intervals(),
        interval=group.members[0].evaluation.interval,
        per_class=tables.per_class(group),
        confusion=np.sum([member.evaluation.confusion for member in group.members], axis=0),
    )


def _with_cross_entropy(result: TrialResult) -> dict[str, Any]:
    """The history and the training loss without its alignment part: cross-entropy, weighted by class."""
    weight = result.model.model.alignment_weight
    loss, alignment = (np.asarray(result.history[f"training_{name}"]) for name in ("loss", "alignment"))
    best = result.evaluation.best_epoch
    return {**result.history, "training_cross_entropy": loss - weight * alignment, "best_epoch": best}


def _embedding(result: TrialResult) -> features.Embedding:
    return features.Embedding(result.predictions["embedding"], result.predictions["embedding_share"])


def _context(
    matrix: Matrix,
    groups: Sequence[Group],
    outcomes: Sequence[CheckedClaim],
    references: References,
    manifest: PackManifest,
) -> dict[str, Any]:
    summary, results = matrix
    shown = {
        "answer": tables.answer_table(summary, groups),
        "ablation": tables.ablation_table(summary, groups),
        "left_out": left_out_table(summary, groups),
        "results": tables.results_table(summary, groups),
        "trials": tables.trials_table(summary, results) if len(groups) < len(results) else None,
        "comparison": tables.comparison_table(summary, groups),
        "data": tables.data_table(summary),
        "zones": tables.zones_table(summary, groups),
        **{group.label: tables.class_table(summary, group) for group in groups},
        "claims": tables.claims_table(summary, outcomes),
        "untested": tables.untested_table(summary, outcomes),
        "references": references_table(summary, groups, references),
        "calibration": tables.calibration_table(summary, groups),
        "coverage": tables.coverage_table(summary, groups),
        "environment": tables.environment_table(summary, results),
        "cost": tables.cost_table(summary, results),
    }
    return {
        "data": summary,
        "source": " ".join(summary.source.split()) if summary.source else None,
        "patches": tables.patches(summary),
        "expectations_met": sum(expectation.success for expectation in summary.expectations),
        "answer": [answer_sentence(groups), *method_sentences(groups)],
        "interval_notes": tables.interval_notes(groups),
        "left_out_note": NOTE,
        "claims_note": data_text(summary),
        "references_note": why_not(summary) or references.rule(),
        "text": next((result.model.text for result in results if result.model.text), None),
        "trial_count": len(results),
        "checksum": manifest.digest(),
        "tables": _numbered(shown),
        "class_tables": [group.label for group in groups],
    }


def _numbered(shown: Mapping[str, tables.Table | None]) -> dict[str, tables.Table | None]:
    """Tables with their numbers, in the order of the page."""
    numbers = count(1)
    return {
        name: table and replace(table, caption=f"Table {next(numbers)}. {table.caption}")
        for name, table in shown.items()
    }


def _by_backbone(groups: Iterable[Group]) -> list[tuple[str, list[Group]]]:
    def backbone(group: Group) -> str:
        return group.backbone

    return [(name, list(members)) for name, members in groupby(sorted(groups, key=backbone), backbone)]


def environment() -> jinja2.Environment:
    """The Jinja environment of the report's templates, with their filters."""
    made = template_environment("bp_lcz.report", lambda name: name is not None and name.endswith((".html.j2", ".css")))
    made.filters["markdown"] = _markdown
    return made


def _markdown(text: str) -> str:
    """Escape characters that Markdown reads as markup; an underscore inside a word is not markup."""
    return re.sub(r"([\\`*<>|~]|(?<![a-zA-Z0-9])_|_(?![a-zA-Z0-9])|\](?=\())", r"\\\1", text)
