"""Figures of the quality gate, which show a data set beside published statistics of So2Sat LCZ42 v2.

They are drawn from a sample that depends only on the data, so equal data give equal bytes. Memory does not grow with
the data set.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from tqdm import tqdm

from bp_lcz.bands import ALL_CHANNELS, GROUPS, PATCH_SIDE, Channels
from bp_lcz.drawing import (
    HEAD,
    INK,
    MUTED,
    RESOLUTION,
    RULE,
    WIDTH,
    Drawing,
    Note,
    class_histogram,
    titled_figure,
)
from bp_lcz.params import SPLITS
from bp_lcz.records import GateSummary
from bp_lcz.scheme import CLASS_COUNT, ZONES
from bp_lcz.so2sat.layout import open_split
from bp_lcz.so2sat.published import PUBLISHED

SAMPLE = 1_000
"""Largest number of patches of a split in the histograms; they are evenly spaced in its file."""

SHOWN = 3
"""Largest number of patches of a class that are shown."""

_BINS = 70
_FOOT = 0.78  # inches below the panels
_DASHES = (0, (3, 2))
_SHADE = 0.55
_COLORS = {"training": "#0072b2", "validation": "#e69f00", "testing": "#b5179e"}
_TRUE_COLOR = ("B04", "B03", "B02")
_VV, _VH = "VV_lee_intensity", "VH_lee_intensity"
_REFLECTANCE = (0.03, 0.4)
"""Reflectances that are drawn as black and as white in every patch of every data set."""
_GAMMA = 0.7
"""Exponent of the stretch. It brightens shadow and trees, and keeps the texture of sand and bright roofs."""
_DECIBEL = {"VV": (-20.0, 0.0), "VH": (-26.0, -6.0), "VV/VH": (0.0, 12.0)}
"""Values in dB that are drawn as black and as full red, green and blue."""


class Histogram(NamedTuple):
    """Pixels of one channel and split.

    Attributes:
        share: share of all pixels in each bin.
        below: share of the pixels below the first bin.
        above: share of the pixels above the last.
    """

    share: Float[np.ndarray, " bin"]
    below: float
    above: float


class Sample(NamedTuple):
    """A patch in the figure.

    Attributes:
        name: name such as ``training.h5[17]``.
        images: images of 32 x 32 pixels in three colours, by kind: true colour, SAR, or one of them.
    """

    name: str
    images: Mapping[str, UInt8[np.ndarray, "32 32 3"]]


def write_gate_figures(root: Path, summary: GateSummary, out: Path) -> None:
    """Write ``classes.png``, ``bands.png`` and ``patches.png`` into an existing empty folder.

    Args:
        root: folder of the data set.
        summary: results of the gate.
        out: folder for the figures.

    Raises:
        UserError: if a file cannot be read.
    """
    channels = summary.channels
    histograms = _count_pixels(root, channels)
    samples = _choose_patches(root, channels)
    name, caution = summary.dataset, summary.caution
    counts: dict[str, tuple[int, ...]] = {split: summary.splits[split].class_counts for split in SPLITS}
    means: dict[str, dict[str, float]] = {
        split: {band: summary.bands[split][band].mean for band in channels.names} for split in SPLITS
    }
    every = all(sum(counts[split]) <= SAMPLE for split in SPLITS)
    pixels = "pixels of all patches" if every else f"pixels of at most {SAMPLE:,} patches of a split"
    for file, png in (
        ("classes.png", class_histogram(counts, Note(name, caution))),
        ("bands.png", band_histograms(channels, histograms, means, Note(f"{name}, {pixels}", caution))),
        ("patches.png", sample_patches(samples, Note(f"{name}, up to {SHOWN} patches of each class", caution))),
    ):
        (out / file).write_bytes(png)


def spaced(count: int, wanted: int) -> Int[np.ndarray, " index"]:
    """At most ``wanted`` evenly spaced indices of 0..count - 1, each in the middle of an equal part."""
    wanted = min(count, wanted)
    return (np.arange(wanted) * 2 + 1) * count // (2 * max(wanted, 1))


def _count_pixels(root: Path, channels: Channels) -> dict[str, dict[str, Histogram]]:
    """Histograms by split and channel."""
    histograms: dict[str, dict[str, Histogram]] = {}
    for split in SPLITS:
        with open_split(root, split) as reader:
            indices = spaced(reader.count, SAMPLE)
            counts = np.zeros((len(channels.names), _BINS + 2), dtype=np.int64)  # and below and above
            progress = tqdm(reader.pick(indices), total=len(indices), desc=f"figures {split}", unit="patch")
            for _, sen1, sen2 in progress:
                for row, band in enumerate(channels.names):
                    radar = row < len(channels.sen1)
                    values = sen1[..., row] if radar else sen2[..., row - len(channels.sen1)]
                    counts[row] += _bin(_scaled(band, values), *_span(band))
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        histograms[split] = {
            band: Histogram(share[1:-1], float(share[0]), float(share[-1]))
            for band, share in zip(channels.names, shares, strict=True)
        }
    return histograms


def _bin(values: np.ndarray, low: float, high: float) -> Int[np.ndarray, " bin"]:
    with np.errstate(invalid="ignore"):
        position = np.clip(np.floor((values.ravel() - low) * _BINS / (high - low)), -1, _BINS)
    return np.bincount(position.astype(np.int64) + 1, minlength=_BINS + 2)


def _is_intensity(band: str) -> bool:
    return band.endswith("_intensity")


def _is_component(band: str) -> bool:
    return band.endswith(("_real", "_imag"))


def _scaled(band: str, values: Any) -> np.ndarray:
    """Intensities in dB, with values up to zero far below the first bin; other channels unchanged."""
    values = np.asarray(values, dtype=np.float64)
    return np.asarray(10 * np.log10(np.maximum(values, 1e-30))) if _is_intensity(band) else values


def _span(band: str) -> tuple[float, float]:
    """Range of values in which a channel is drawn. It is fixed, so that figures of two data sets can be compared."""
    if _is_intensity(band):
        return -35.0, 15.0
    if band in ALL_CHANNELS.sen2:
        return 0.0, 0.7
    reach = 2.0 if band.startswith("VV") else 1.0 if band.startswith("VH") else 4.0
    return -reach, reach


def _ticks(band: str) -> list[float]:
    low, high = _span(band)
    if _is_component(band):
        return [low, low / 2, 0.0, high / 2, high]
    step = 10.0 if _is_intensity(band) else 0.2
    return [step * i for i in range(int(np.ceil(low / step)), int(high / step) + 1)]


def band_histograms(
    channels: Channels,
    histograms: Mapping[str, Mapping[str, Histogram]],
    means: Mapping[str, Mapping[str, float]],
    note: Note,
) -> bytes:
    """A panel for each channel: its values in each split and, if all channels are there, published statistics.

    Args:
        channels: channels of the data set.
        histograms: histograms by split and channel.
        means: means over all pixels, by split and channel, in stored units.
        note: description of the data.
    """
    grouped = [band for group in GROUPS.values() for band in group]
    sensors = [[band for band in grouped if band in bands] for bands in (channels.sen1, channels.sen2)]
    rows = [bands[i : i + 3] for bands in sensors for i in range(0, len(bands), 3)]
    is_complete = set(channels.names) == set(ALL_CHANNELS.names)
    with titled_figure("Values of each channel", note, body=_FOOT + 1.12 * len(rows)) as drawing:
        panels = drawing.figure.subplots(len(rows), 3, squeeze=False)
        for line, bands in zip(panels, rows, strict=True):
            for axes in line[len(bands) :]:
                axes.set_axis_off()
            for axes, band in zip(line, bands, strict=False):
                if is_complete:
                    _draw_published(axes, band)
                _draw_histogram(axes, band, histograms, means)
        _key_to_histograms(drawing, channels, is_complete)
    return drawing.png


def _draw_published(axes: Axes, band: str) -> None:
    mean, std = PUBLISHED.mean["training"][band], PUBLISHED.std["training"][band]
    low, high = _span(band)
    left, middle, right = (float(_scaled(band, value)) for value in (mean - std, mean, mean + std))
    axes.axvspan(max(left, low), min(right, high), color=RULE, alpha=_SHADE, linewidth=0)
    axes.axvline(middle, color=INK, linewidth=0.9, linestyle=_DASHES)


def _draw_histogram(
    axes: Axes,
    band: str,
    histograms: Mapping[str, Mapping[str, Histogram]],
    means: Mapping[str, Mapping[str, float]],
) -> None:
    low, high = _span(band)
    edges = np.linspace(low, high, _BINS + 1)
    for split in SPLITS:
        share = histograms[split][band].share
        axes.stairs(np.where(share > 0, share, np.nan), edges, baseline=None, color=_COLORS[split], linewidth=1.0)
        mean = float(_scaled(band, means[split][band]))
        if low <= mean <= high:
            marker: dict[str, Any] = {"marker": "^", "markersize": 4.5, "markeredgewidth": 0, "clip_on": False}
            axes.plot(mean, 0, color=_COLORS[split], transform=axes.get_xaxis_transform(), zorder=5, **marker)
    if _is_component(band):
        axes.set_yscale("log")
        axes.set_ylim(bottom=1e-6)
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlim(low, high)
    axes.set_title(f"{band}, dB" if _is_intensity(band) else band, fontsize=8.5)
    axes.tick_params(axis="x", labelsize=7.5, length=2.5)
    axes.set_xticks(_ticks(band), [f"{tick:g}".replace("0.", ".").replace("-", "−") for tick in _ticks(band)])
    axes.set_yticks([])
    axes.set_yticks([], minor=True)
    axes.spines["left"].set_visible(False)
    for text, place, align in (
        (_outside([histograms[split][band].below for split in SPLITS], "◂ {}"), 0.0, "left"),
        (_outside([histograms[split][band].above for split in SPLITS], "{} ▸"), 1.0, "right"),
    ):
        axes.text(place, 0.97, text, transform=axes.transAxes, ha=align, va="top", fontsize=6.5, color=MUTED)


def _outside(shares: Sequence[float], form: str) -> str:
    """The largest share of a split outside of a panel, if it is at least 0.05 %."""
    return form.format(f"{100 * max(shares):.1f} %") if max(shares) >= 0.0005 else ""


def _key_to_histograms(drawing: Drawing, channels: Channels, is_complete: bool) -> None:
    figure = drawing.figure
    height = figure.get_figheight()
    layout = ConstrainedLayoutEngine(rect=(0, _FOOT / height, 1, 1 - (HEAD + _FOOT) / height), w_pad=0.07)
    figure.set_layout_engine(layout)
    handles: list[Any] = [Line2D([], [], color=_COLORS[split], linewidth=1.4) for split in SPLITS]
    handles.append(Line2D([], [], color=MUTED, marker="^", markersize=5, markeredgewidth=0, linestyle="none"))
    names = [*SPLITS, "mean of the split"]
    text = "Height: share of pixels"
    if any(_is_component(band) for band in channels.names):
        text += ", on a log scale for real and imaginary parts"
    text += ". ◂ ▸: largest share of a split beyond a panel."
    if is_complete:
        handles += [Line2D([], [], color=INK, linewidth=0.9, linestyle=_DASHES), Patch(color=RULE, alpha=_SHADE)]
        names += ["So2Sat LCZ42 v2, published: mean", "± one standard deviation (training split)"]
        text += "\nPublished values are in linear units, so in dB the band has no lower end."
    key: dict[str, Any] = {"ncols": 3 if is_complete else 4, "fontsize": 7.5, "columnspacing": 1.2}
    anchor = (0.008, (_FOOT - 0.02) / height)
    figure.legend(handles, names, loc="upper left", bbox_to_anchor=anchor, borderaxespad=0, **key)
    below = _FOOT - (0.42 if is_complete else 0.25)
    figure.text(0.012, below / height, text, fontsize=7, color=MUTED, va="top", linespacing=1.35)


def _choose_patches(root: Path, channels: Channels) -> list[list[Sample]]:
    """Up to `SHOWN` patches of each class, from training or from the first other split that has the class."""
    samples: list[list[Sample]] = [[] for _ in range(CLASS_COUNT)]
    for split in SPLITS:
        with open_split(root, split) as reader:
            classes = reader.labels().argmax(axis=1)
            wanted: dict[int, int] = {}
            for lcz in range(CLASS_COUNT):
                members = np.flatnonzero(classes == lcz)
                if not samples[lcz]:
                    wanted |= {int(members[i]): lcz for i in spaced(len(members), SHOWN)}
            for index, sen1, sen2 in reader.pick(np.array(sorted(wanted), dtype=np.int64)):
                samples[wanted[index]].append(Sample(f"{split}.h5[{index}]", _images(channels, sen1, sen2)))
    return samples


def _images(
    channels: Channels, sen1: Float[np.ndarray, "32 32 c1"], sen2: Float[np.ndarray, "32 32 c2"]
) -> dict[str, UInt8[np.ndarray, "32 32 3"]]:
    images = {}
    if set(_TRUE_COLOR) <= set(channels.sen2):
        bands = [sen2[..., channels.sen2.index(band)] for band in _TRUE_COLOR]
        images["true colour"] = np.stack([_stretched(band, *_REFLECTANCE, _GAMMA) for band in bands], axis=-1)
    if {_VV, _VH} <= set(channels.sen1):
        vv, vh = (_scaled(band, sen1[..., channels.sen1.index(band)]) for band in (_VV, _VH))
        parts = zip((vv, vh, vv - vh), _DECIBEL.values(), strict=True)
        images["SAR"] = np.stack([_stretched(part, *limits) for part, limits in parts], axis=-1)
    return images


def _stretched(values: np.ndarray, black: float, white: float, power: float = 1.0) -> UInt8[np.ndarray, "32 32"]:
    share = np.clip((np.asarray(values, dtype=np.float64) - black) / (white - black), 0, 1)
    return np.rint(255 * share**power).astype(np.uint8)


_ZOOM = 4  # dots of the figure for each pixel of a patch
_ROW_DOTS = PATCH_SIDE * _ZOOM + 24
_LEFT_DOTS = 236


def sample_patches(samples: Sequence[Sequence[Sample]], note: Note) -> bytes:
    """A row for each class with its patches, each in true colour beside its SAR composite.

    Args:
        samples: patches of each of the 17 classes; empty for a class without a patch.
        note: description of the data.
    """
    kinds = next((list(patch.images) for row in samples for patch in row), [])
    dots = round(WIDTH * RESOLUTION), CLASS_COUNT * _ROW_DOTS
    head, foot = 30, 84  # dots above and below the rows
    canvas = np.full((dots[1] + head + foot, dots[0], 3), 255, dtype=np.uint8)
    height = len(canvas)
    with titled_figure("Patches of each class", note, body=height / RESOLUTION) as drawing:
        figure = drawing.figure
        figure.set_layout_engine("none")  # every dot has its place
        axes = figure.add_axes((0, 0, 1, height / RESOLUTION / figure.get_figheight()))
        axes.set_axis_off()
        axes.set_xlim(0, dots[0])
        axes.set_ylim(height, 0)
        side = PATCH_SIDE * _ZOOM
        pitch = (dots[0] - _LEFT_DOTS) // SHOWN
        small: dict[str, Any] = {"fontsize": 5.5, "color": MUTED, "va": "top"}
        for row, (zone, patches) in enumerate(zip(ZONES, samples, strict=True)):
            top = head + row * _ROW_DOTS
            axes.add_patch(_swatch(zone.color, top))
            axes.text(44, top + side / 2 - 3, f"LCZ {zone.code}", fontsize=8, fontweight="bold", va="bottom")
            axes.text(44, top + side / 2 + 3, zone.name.replace(" or ", "\nor "), fontsize=6.5, va="top", color=MUTED)
            if not patches:
                axes.text(_LEFT_DOTS, top + side / 2, "none", fontsize=8, color=MUTED, va="center")
            for column, patch in enumerate(patches):
                left = _LEFT_DOTS + column * pitch
                axes.text(left, top + side + 3, patch.name, **small)
                for place, image in enumerate(patch.images.values()):
                    x = left + place * (side + 2)
                    canvas[top : top + side, x : x + side] = image.repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1)
        for column in range(SHOWN):
            for place, kind in enumerate(kinds):
                axes.text(_LEFT_DOTS + column * pitch + place * (side + 2), head - 8, kind, fontsize=6.5, color=INK)
        axes.text(12, height - foot + 12, _legend(kinds), fontsize=7, color=MUTED, va="top", linespacing=1.35)
        figure.figimage(canvas, zorder=-1)
    return drawing.png


def _swatch(color: str, top: int) -> Rectangle:
    return Rectangle((14, top), 16, PATCH_SIDE * _ZOOM, facecolor=color, edgecolor=MUTED, linewidth=0.4)


def _legend(kinds: Sequence[str]) -> str:
    lines = []
    if "true colour" in kinds:
        low, high = _REFLECTANCE
        lines.append(
            f"True colour: {', '.join(_TRUE_COLOR)}, reflectance {low:g} to {high:g}, to the power {_GAMMA:g}."
        )
    if "SAR" in kinds:
        parts = zip(("red", "green", "blue"), _DECIBEL.items(), strict=True)
        text = ", ".join(f"{color} {name} {low:g} to {high:g} dB" for color, (name, (low, high)) in parts)
        lines.append(f"SAR, filtered intensities: {text}.")
    return "\n".join(lines) or "The data set has neither B04, B03 and B02 nor the intensities of VV and VH."
