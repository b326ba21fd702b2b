"""Figures of the networks' outputs for each patch, as PNG bytes: similarities, confidence and features."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Integer
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bp_lcz.drawing import INK, MUTED, Note, titled_figure
from bp_lcz.report.figures import Pooled, leading_dot, trial_colors
from bp_lcz.scheme import CLASS_COUNT, CODES, COLORS
from bp_lcz.scoring.metrics import Reliability
from bp_lcz.scoring.score import fraction


def group_similarity(
    trial: str, groups: Sequence[str], similarity: Float[np.ndarray, "group group"], note: Note
) -> bytes:
    """Mean cosine of each image group with each group's prompt of the right class."""
    with titled_figure(f"Band groups and prompts: {trial}", note, body=4.5) as drawing:
        axes = drawing.figure.subplots()
        limit = _symmetric_limit(similarity)
        image = axes.imshow(similarity, cmap="RdBu", vmin=-limit, vmax=limit)
        _write_values(axes, similarity, limit)
        positions = np.arange(len(groups))
        axes.set_xticks(positions, groups)
        axes.set_yticks(positions, groups)
        axes.tick_params(length=0)
        axes.set_xlabel("prompt of the right class, by group")
        axes.set_ylabel("image group")
        _bare_heat_map(axes)
        _color_bar(drawing.figure, image, axes)
    return drawing.png


def class_similarity(
    trial: str, groups: Sequence[str], similarity: Float[np.ndarray, "group klass klass"], note: Note
) -> bytes:
    """Cosine with the prompt of the right class minus the highest other cosine, for each group and true class."""
    right = np.einsum("gkk->gk", similarity)
    others = np.where(np.eye(CLASS_COUNT, dtype=bool), -np.inf, similarity)
    lead = right - others.max(axis=2)
    with titled_figure(f"Classes and prompts: {trial}", note, body=1.05 + 0.27 * len(groups)) as drawing:
        axes = drawing.figure.subplots()
        limit = _symmetric_limit(lead)
        colors = mpl.colormaps["RdBu"].with_extremes(bad="#c4ccd4")
        image = axes.imshow(np.ma.masked_invalid(lead), cmap=colors, vmin=-limit, vmax=limit)
        _write_values(axes, lead, limit, fontsize=5.5)
        axes.set_xticks(np.arange(CLASS_COUNT), CODES)
        axes.set_yticks(np.arange(len(groups)), groups)
        axes.tick_params(length=0)
        axes.set_xlabel("true class" + ("; grey: no patch of the class" if np.isnan(lead).any() else ""))
        _bare_heat_map(axes)
        _color_bar(drawing.figure, image, axes, label="mean cosine with the right class minus the highest other one")
    return drawing.png


def _write_values(axes: Axes, values: Float[np.ndarray, "row column"], limit: float, **style: Any) -> None:
    """Each number in its cell of a heat map."""
    for row, column in np.argwhere(np.isfinite(values)):
        value = float(values[row, column])
        color = "white" if abs(value) > 0.6 * limit else INK
        axes.text(column, row, fraction(value, 2), ha="center", va="center", color=color, **style)


def calibration(curves: Mapping[str, Reliability], evaluations: Sequence[Pooled], note: Note) -> bytes:
    """Confidence against accuracy of the predicted class; the area of a marker grows with its patches."""
    with titled_figure("Calibration", note, body=4.9) as drawing:
        axes = drawing.figure.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="calibrated")
        for evaluation, color in zip(evaluations, trial_colors(evaluations), strict=True):
            curve = curves[evaluation.trial]
            filled = curve.count > 0
            label = f"{evaluation.trial}, ECE {fraction(evaluation.mean('ece'), 3)}"
            x, y = curve.confidence[filled], curve.accuracy[filled]
            axes.plot(x, y, color=color, linewidth=1.5, label=label)
            area = 8 + 110 * curve.count[filled] / curve.count.sum()
            axes.scatter(x, y, s=area, color=color, edgecolors="white", linewidths=0.6, zorder=3)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_aspect("equal")
        axes.set_xlabel("confidence")
        axes.set_ylabel("accuracy")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(np.linspace(0, 1, 6))
            axis.set_major_formatter(leading_dot())
        axes.grid()
        axes.set_axisbelow(True)
        drawing.figure.legend(loc="outside lower left", ncols=2)
    return drawing.png


class Embedding(NamedTuple):
    """Features of patches in two dimensions.

    Attributes:
        points: first two principal components of the fused feature of each patch.
        share: share of the variance that each of the two explains.
    """

    points: Float[np.ndarray, "patch 2"]
    share: Float[np.ndarray, "2"]


def embedding(
    embeddings: Mapping[str, Embedding], y_true: Integer[np.ndarray, "patch"], seed: int, note: Note
) -> bytes:
    """Fused features of the test patches, coloured by their true class; a panel for each trial."""
    columns = min(2, len(embeddings))
    rows = -(-len(embeddings) // columns)
    note = Note(f"{note.text}, seed {seed}", note.warning)
    with titled_figure("Fused features: two principal components", note, body=1.0 + rows * 5.0 / columns) as drawing:
        panels = drawing.figure.subplots(rows, columns, squeeze=False).ravel()
        order = np.random.default_rng(0).permutation(len(y_true))  # so that no class hides all others
        colors = np.asarray(COLORS)[y_true[order]]
        size = float(np.clip(4000 / len(y_true), 0.6, 9))
        for axes, (name, (points, share)) in zip(panels, embeddings.items(), strict=False):
            axes.scatter(*points[order].T, c=colors, s=size, linewidths=0.15, edgecolors=INK, rasterized=True)
            axes.set_title(name)
            axes.set_xticks([])
            axes.set_yticks([])
            for direction, value in (("x", share[0]), ("y", share[1])):
                label = f"{value:.0%} of the variance"
                (axes.set_xlabel if direction == "x" else axes.set_ylabel)(label, fontsize=8.5, color=MUTED)
        for axes in panels[len(embeddings) :]:
            axes.set_axis_off()
        present = np.unique(y_true)
        swatch: dict[str, Any] = {"linestyle": "none", "marker": "o", "markeredgecolor": MUTED, "markeredgewidth": 0.4}
        handles = [Line2D([], [], color=COLORS[c], markersize=6, **swatch) for c in present]
        names = [CODES[c] for c in present]
        drawing.figure.legend(handles, names, loc="outside lower left", ncols=9, columnspacing=1.0, handletextpad=0.2)
    return drawing.png


def _symmetric_limit(similarity: Float[np.ndarray, "..."]) -> float:
    finite = np.abs(similarity[np.isfinite(similarity)])
    return max(float(finite.max(initial=0.0)), 0.05)


def _bare_heat_map(axes: Axes) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)


def _color_bar(figure: Figure, image: ScalarMappable, axes: Any, label: str = "mean cosine") -> None:
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=28, location="bottom", pad=0.02)
    bar.set_label(label, fontsize=8.5)
    bar.outline.set_visible(False)
    bar.ax.xaxis.set_major_formatter(leading_dot())
    bar.ax.tick_params(labelsize=8)
    bar.ax.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], symmetric=True))
