"""Common parts of the figures of gate and report: style, head, and the histogram of classes.

The head of each figure names the data set, the split and the origin of the labels, so that no figure can be quoted
without them. Figures are narrow compared with their font, so that text stays legible on a phone.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from bp_lcz.scheme import CLASS_COUNT, CODES, COLORS

WIDTH = 5.4  # inches
RESOLUTION = 200  # dots per inch
HEAD = 0.58  # inches kept for title and note
INK, MUTED, RULE, ABSENT = "#1f2328", "#59636e", "#d1d9e0", "#eceff2"
NOTICE = "#8a4600"
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.grid": False,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@dataclass(frozen=True)
class Note:
    """The line under the title of a figure.

    Attributes:
        text: data set, split and patches.
        warning: caution about the numbers, such as "simulated data"; empty if there is none.
    """

    text: str
    warning: str


class Drawing:
    """A figure, and its bytes once it is finished."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        self.png = b""


@contextmanager
def titled_figure(title: str, note: Note, body: float) -> Iterator[Drawing]:
    """A figure with a head. Its bytes are ready after the block, and depend only on what was drawn.

    Args:
        title: first line of the head.
        note: second line.
        body: height below the head in inches.
    """
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever a matplotlibrc says, the bytes are the same
        mpl.rcParams.update(_STYLE)
        height = body + HEAD
        layout = ConstrainedLayoutEngine(rect=(0, 0, 1, body / height), w_pad=0.07)
        figure = Figure(figsize=(WIDTH, height), layout=layout)
        FigureCanvasAgg(figure)
        figure.text(0.012, 1 - 0.08 / height, title, fontsize=12, fontweight="bold", va="top")
        below = 1 - 0.34 / height
        text = figure.text(0.012, below, note.text, fontsize=8.5, color=MUTED, va="top")
        if note.warning:
            text.set_text(f"{note.warning} · {note.text}")
            text.set_color(NOTICE)
        drawing = Drawing(figure)
        yield drawing
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=RESOLUTION, metadata={"Software": None})
        drawing.png = buffer.getvalue()


def class_histogram(class_counts: Mapping[str, Sequence[int]], note: Note) -> bytes:
    """Patches of each class in each split, in the standard colours of the scheme."""
    with titled_figure("Patches by class", note, body=0.3 + 1.55 * len(class_counts)) as drawing:
        panels = drawing.figure.subplots(len(class_counts), 1, sharex=True, squeeze=False).ravel()
        positions = np.arange(CLASS_COUNT)
        for axes, (split, counts) in zip(panels, class_counts.items(), strict=True):
            axes.bar(positions, counts, color=COLORS, edgecolor=MUTED, linewidth=0.5, width=0.82)
            for position, count in zip(positions, counts, strict=True):
                axes.annotate(
                    f"{count}",
                    (position, count),
                    (0, 2),
                    textcoords="offset points",
                    ha="center",
                    fontsize=7,
                    color=INK if count else "#afb8c1",
                )
            axes.set_title(f"{split}: {sum(counts):,} patches")
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            axes.margins(x=0.01, y=0.16)
            axes.tick_params(axis="x", length=0, labelbottom=True)
            axes.set_xticks(positions, CODES)
        panels[-1].set_xlabel("local climate zone")
    return drawing.png
