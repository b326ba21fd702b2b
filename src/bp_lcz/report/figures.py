"""Figures of scores and of training, as PNG bytes that depend only on the given numbers."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Integer
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from bp_lcz.drawing import ABSENT, INK, MUTED, Note, titled_figure
from bp_lcz.params import Variant
from bp_lcz.records import ClassScores, Interval, Metric, Resampling
from bp_lcz.scheme import CLASS_COUNT, CODES, COLORS, ZONES
from bp_lcz.scoring.score import fraction


@dataclass(frozen=True)
class Pooled:
    """The numbers of trials that differ only in the seed.

    Attributes:
        trial: the common part of their names.
        variant: their variant.
        by_seed: each metric of ``evaluation.json`` and ``ece`` by seed; None if it is undefined for a seed.
        intervals: intervals of the means over seeds.
        interval: what the intervals resample.
        per_class: means over seeds.
        confusion: sum over seeds.
    """

    trial: str
    variant: Variant
    by_seed: Mapping[str, Sequence[float] | None]
    intervals: Mapping[Metric, Interval]
    interval: Resampling
    per_class: Sequence[ClassScores]
    confusion: Integer[np.ndarray, "klass klass"]

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len(self.by_seed["oa"] or ())

    def mean(self, key: str) -> float | None:
        """Mean of a metric over seeds."""
        values = self.by_seed[key]
        return None if values is None else statistics.fmean(values)


_VARIANT_COLORS = {"plain": "#8c959f", "encoder": "#009e73", "msm": "#e69f00", "bgp": "#56b4e9", "bp-lcz": "#0072b2"}


def overview(
    evaluations: Sequence[Pooled],
    note: Note,
    title: str = "Overall accuracy and kappa",
    beside: Sequence[Pooled] = (),
) -> bytes:
    """Overall accuracy and kappa of each trial, with intervals where they are known.

    The axes also span the trials ``beside`` and leave room for their names, so that figures of several backbones can be
    compared.
    """
    with titled_figure(title, note, body=0.85 + 0.42 * len(evaluations)) as drawing:
        panels = drawing.figure.subplots(1, 2, sharey=True)
        rows = range(len(evaluations))
        shown: tuple[tuple[Metric, str], ...] = ("oa", "overall accuracy"), ("kappa", "kappa")
        for axes, (metric, label) in zip(panels, shown, strict=True):
            for row, evaluation in zip(rows, evaluations, strict=True):
                _point_with_interval(axes, row, evaluation, metric)
            axes.set_xlabel(label)
            axes.grid(axis="x")
            axes.set_axisbelow(True)
            axes.spines["left"].set_visible(False)
            axes.tick_params(axis="y", length=0)
            axes.margins(x=0.12)
            axes.update_datalim([(value, 0) for other in beside for value in _values(other, metric)], updatey=False)
            axes.autoscale_view(scaley=False)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
            axes.xaxis.set_major_formatter(leading_dot())
        longest = max((each.trial for each in (*evaluations, *beside)), key=len)
        panels[0].set_yticks([*rows, -0.5], [*(evaluation.trial for evaluation in evaluations), longest])
        panels[0].get_yticklabels()[-1].set_color("none")
        panels[0].set_ylim(len(evaluations) - 0.5, -0.8)
        drawing.figure.supxlabel(_interval_legend(evaluations), fontsize=8.5, color=MUTED)
    return drawing.png


def _values(evaluation: Pooled, metric: Metric) -> list[float]:
    return [*(evaluation.by_seed[metric] or ()), *(evaluation.intervals[metric] or ())]


def _point_with_interval(axes: Axes, row: int, evaluation: Pooled, metric: Metric) -> None:
    value = evaluation.mean(metric)
    if value is None:
        axes.text(0.5, row, "undefined", transform=axes.get_yaxis_transform(), color=MUTED, va="center")
        return
    color = _VARIANT_COLORS[evaluation.variant]
    interval = evaluation.intervals[metric]
    if interval is not None:
        axes.plot(interval, [row, row], color=_pale(color, 0.5), linewidth=4, solid_capstyle="butt")
    by_seed = evaluation.by_seed[metric] or ()
    if len(by_seed) > 1:
        ticks: dict[str, Any] = {"marker": "|", "markersize": 9, "markeredgewidth": 1.1, "linestyle": "none"}
        axes.plot(by_seed, [row] * len(by_seed), color=INK, **ticks)
    axes.plot([value], [row], marker="o", markersize=7.5, color=color, markeredgecolor="white")
    axes.annotate(
        fraction(value, 3),
        (value, row),
        (0, 6.5),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=9,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
    )


def _interval_legend(evaluations: Sequence[Pooled]) -> str:
    interval = evaluations[0].interval
    if not any(evaluation.intervals["oa"] for evaluation in evaluations):
        return f"no intervals: all patches belong to one {interval.unit}"
    seeds = evaluations[0].seeds
    over = f"by {interval.unit} ({interval.blocks:,})" + (f" and seed ({seeds})" if seeds > 1 else "")
    text = f"bars: {interval.level:.0%} intervals {over}"
    if interval.lower_bound:
        text += "; true ones are wider"
    return f"{text}; ticks: seeds" if seeds > 1 else f"{text}; one seed decides nothing"


def confusion(evaluation: Pooled, note: Note) -> bytes:
    """Counts of true against predicted classes, shaded by the share of the true class."""
    counts = evaluation.confusion
    support = counts.sum(axis=1)
    share = np.divide(counts, support[:, None], out=np.zeros(counts.shape), where=support[:, None] > 0)
    seeds = evaluation.seeds
    note = Note(f"{note.text}, sum of {seeds} seeds", note.warning) if seeds > 1 else note
    digits = len(str(counts.max()))
    with titled_figure(f"Confusion matrix of {evaluation.trial}", note, body=5.5) as drawing:
        axes = drawing.figure.subplots()
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for row in np.flatnonzero(support == 0):
            axes.axhspan(row - 0.5, row + 0.5, color=ABSENT)
        for row, column in zip(*np.nonzero(counts), strict=True):
            axes.text(
                column,
                row,
                counts[row, column],
                ha="center",
                va="center",
                fontsize=7 if digits < 5 else 5.5,
                color="white" if share[row, column] > 0.55 else INK,
                in_layout=False,
            )
        _class_axes(axes, present=support > 0)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class (grey: no patch)" if (support == 0).any() else "true class")
    return drawing.png


def _class_axes(axes: Axes, present: Any) -> None:
    positions = np.arange(CLASS_COUNT)
    swatch: dict[str, Any] = {
        "marker": "s",
        "s": 34,
        "c": COLORS,
        "edgecolors": MUTED,
        "linewidths": 0.4,
        "clip_on": False,
    }
    axes.scatter(positions, np.full(CLASS_COUNT, CLASS_COUNT - 0.1), **swatch)
    axes.scatter(np.full(CLASS_COUNT, -0.9), positions, **swatch)
    axes.set_xlim(-0.5, CLASS_COUNT - 0.5)
    axes.set_ylim(CLASS_COUNT - 0.5, -0.5)
    axes.set_xticks(positions, CODES)
    axes.set_yticks(positions, CODES)
    axes.tick_params(length=0, pad=15)
    for label, is_present in zip(axes.get_yticklabels(), present, strict=True):
        label.set_color(INK if is_present else "#afb8c1")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks(positions[1:] - 0.5, minor=True)
    axes.set_yticks(positions[1:] - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="minor", length=0)


def recall(evaluations: Sequence[Pooled], note: Note) -> bytes:
    """Recall of each class for each trial, with the number of true patches."""
    thickness = min(0.12, 0.5 / len(evaluations))
    pitch = thickness * len(evaluations) + 0.1
    columns = min(3, len(evaluations))
    legend_rows = -(-len(evaluations) // columns)
    with titled_figure("Recall by class", note, body=0.75 + 0.2 * legend_rows + CLASS_COUNT * pitch) as drawing:
        axes = drawing.figure.subplots()
        colors = trial_colors(evaluations)
        classes = np.arange(CLASS_COUNT)
        height = thickness / pitch
        for i, (evaluation, color) in enumerate(zip(evaluations, colors, strict=True)):
            values = [row.recall or 0 for row in evaluation.per_class]
            offset = (i - (len(evaluations) - 1) / 2) * height
            axes.barh(classes + offset, values, height=height * 0.92, color=color, label=evaluation.trial)
        for row, entry in enumerate(evaluations[0].per_class):
            text = f"{entry.support:,}" if entry.support else "none"
            axes.text(1.09, row, text, ha="right", va="center", color=MUTED, fontsize=8.5)
        axes.text(1.09, -0.85, "patches", ha="right", va="center", color=MUTED, fontsize=8.5)
        axes.set_yticks(classes, [f"{zone.name}  {zone.code}" for zone in ZONES])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(CLASS_COUNT - 0.4, -0.6)
        axes.set_xlim(0, 1.1)
        axes.set_xticks(np.linspace(0, 1, 5))
        axes.spines["bottom"].set_bounds(0, 1)
        axes.xaxis.set_major_formatter(leading_dot())
        axes.set_xlabel("recall")
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        drawing.figure.legend(loc="outside lower left", ncols=columns)
    return drawing.png


def curves(histories: Mapping[str, Sequence[Mapping[str, Any]]], evaluations: Sequence[Pooled], note: Note) -> bytes:
    """Losses and validation kappa by epoch, a line for each seed; a ring marks the epoch whose weights were kept.

    Args:
        histories: for each trial and each of its seeds, columns of ``history.csv`` by name, with
            ``training_cross_entropy`` and the number ``best_epoch``.
        evaluations: the trials to draw.
        note: what the data are.
    """
    aligned = any(np.any(history["training_alignment"]) for seeds in histories.values() for history in seeds)
    titles = [
        "cross-entropy (dashed: training, weighted by class; solid: validation)",
        "kappa on the validation split (ring: epoch kept)",
    ]
    if aligned:
        titles.append("alignment loss on the training split (each form has its own scale)")
    rows = -(-len(evaluations) // 3)
    with titled_figure("Training", note, body=0.5 + 1.85 * len(titles) + 0.2 * rows) as drawing:
        panels = drawing.figure.subplots(len(titles), 1, sharex=True)
        for evaluation, color in zip(evaluations, trial_colors(evaluations), strict=True):
            for history in histories[evaluation.trial]:
                _draw_history(panels, history, color, is_thin=len(histories[evaluation.trial]) > 1)
        for axes, title in zip(panels, titles, strict=True):
            axes.set_title(title)
            axes.grid(axis="y")
            axes.set_axisbelow(True)
        if aligned:
            panels[2].set_yscale("log")
            panels[2].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panels[2].yaxis.set_major_formatter("{x:g}")
            panels[2].yaxis.set_minor_locator(NullLocator())
        panels[1].yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
        panels[1].yaxis.set_major_formatter(leading_dot())
        panels[-1].set_xlabel("epoch")
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        names = [evaluation.trial for evaluation in evaluations]
        handles = [Line2D([], [], color=color, linewidth=1.7) for color in trial_colors(evaluations)]
        drawing.figure.legend(handles, names, loc="outside lower left", ncols=min(3, len(names)))
    return drawing.png


def _draw_history(panels: Any, history: Mapping[str, Any], color: Any, is_thin: bool) -> None:
    values = {name: np.asarray(column) for name, column in history.items()}
    epoch = values["epoch"]
    best = epoch == history["best_epoch"]
    width = 0.55 if is_thin else 1.0
    dashes = (0, (2, 1.5))
    panels[0].plot(epoch, values["training_cross_entropy"], color=color, linestyle=dashes, linewidth=1.3 * width)
    for axes, column in zip(panels[:2], ("validation_loss", "validation_kappa"), strict=True):
        axes.plot(epoch, values[column], color=color, linewidth=1.7 * width)
        axes.plot(
            epoch[best],
            values[column][best],
            marker="o",
            markersize=8 * width,
            markerfacecolor="white",
            markeredgecolor=color,
            markeredgewidth=1.8 * width,
        )
    if np.any(values["training_alignment"]):
        panels[2].plot(epoch, values["training_alignment"], color=color, linestyle=dashes, linewidth=1.5 * width)


def trial_colors(evaluations: Sequence[Pooled]) -> list[tuple[float, float, float]]:
    """The colour of each trial's variant; further trials of a variant, such as other seeds, get paler."""
    variants = [evaluation.variant for evaluation in evaluations]
    return [
        _pale(_VARIANT_COLORS[variant], 0.6 * variants[:i].count(variant) / variants.count(variant))
        for i, variant in enumerate(variants)
    ]


def _pale(color: str, share_of_white: float) -> tuple[float, float, float]:
    red, green, blue = (share_of_white + (1 - share_of_white) * part for part in to_rgb(color))
    return red, green, blue


def leading_dot() -> FuncFormatter:
    """Ticks with as many digits as they need and no leading zero."""

    def text(value: float, _: int | None = None) -> str:
        return f"{round(value, 6) + 0.0:g}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:g}"

    return FuncFormatter(text)
