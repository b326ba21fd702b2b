"""Forecasts the size of a map and the time it takes, from some of its rows."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from affine import Affine

from bp_lcz.maps.cells import WITH_ZONE, Reason, looked_at
from bp_lcz.maps.outputs import CELL_KM2
from bp_lcz.model.checkpoint import Classifier
from bp_lcz.scenes.scene import Scene

_TRIED_PATCHES = 32


@dataclass(frozen=True)
class Forecast:
    """Size and duration of a map that is not made yet.

    Attributes:
        crs: coordinates of its grid.
        across: cells from west to east.
        down: cells from north to south.
        cell: side of a cell in units of the CRS, m.
        west: easting of the north-west corner.
        north: northing of the north-west corner.
        rows: number of rows that were checked.
        reasons: number of their cells by reason, in words.
        cells: estimated number of cells that would get a zone.
        seconds: estimated time that the network would take for them.
        device: device of the network.
    """

    crs: str
    across: int
    down: int
    cell: float
    west: float
    north: float
    rows: int
    reasons: Mapping[str, int]
    cells: int
    seconds: float
    device: str


def look_ahead(
    scene: Scene, classifier: Classifier, place: Affine, tell: Callable[[str], object]
) -> tuple[Forecast, np.ndarray]:
    """Check some rows, and print the grid through `tell`.

    Returns:
        The forecast, and the number of checked cells by `Reason`.
    """
    down, across = scene.cells
    west, north = place @ (0, 0)
    crs = scene.grid.crs.to_string()
    tell(
        f"grid: {crs}, {across:,} x {down:,} cells of {place.a:g} m, north-west corner {west:.0f} E {north:.0f} N, "
        f"{down * across * CELL_KM2:,.0f} km2"
    )
    reasons, rows = looked_at(scene, classifier)
    asked = float(reasons[Reason.MAPPED] / reasons.sum() * down * across)
    seconds = asked * _seconds_per_patch(classifier)
    words = {kind.word: int(reasons[kind]) for kind in Reason}
    found = Forecast(crs, across, down, place.a, west, north, rows, words, round(asked), seconds, classifier.device)
    return found, reasons


def shares(reasons: np.ndarray) -> str:
    """Percentage of cells with a zone, and of those without one by reason, as text."""
    percent = 100 * reasons / max(int(reasons.sum()), 1)
    mapped = f"mapped {percent[list(WITH_ZONE)].sum():.1f} %"
    if reasons[Reason.UNLIKE]:
        share = 100 * reasons[Reason.UNLIKE] / reasons[list(WITH_ZONE)].sum()
        mapped += f" (of these unlike the training data {share:.1f} %)"
    rest = [f"{kind.word} {percent[kind]:.1f} %" for kind in Reason if reasons[kind] and kind not in WITH_ZONE]
    return ", ".join([mapped, *rest])


def duration(seconds: float) -> str:
    """A duration as text, in seconds, minutes or hours."""
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _seconds_per_patch(classifier: Classifier) -> float:
    """Time of the network for a patch, measured on zeros."""
    images = torch.zeros(_TRIED_PATCHES, 32, 32, len(classifier.channels.names))
    classifier.run(images)
    start = time.perf_counter()
    classifier.run(images).logits.cpu()
    return (time.perf_counter() - start) / _TRIED_PATCHES
