"""Some pixels of a scene, to find out what it holds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from rasterio.windows import Window

from bp_lcz.sensors.raster import reading

_SAMPLE_VALUES = 1_000_000
"""Read of a scene to find out what it holds, in all bands together."""
WHOLE_VALUES = 50_000_000
"""Of a file up to which all of it may be read for that."""
_FOR_MEDIAN = 25_000
"""Pixels of a band that are enough for its median and for the brightest thousandth of all bands."""
_PLACES = 8
"""Of a larger one, along each side."""


def sample(path: Path, dataset: Any, bands: Sequence[int]) -> Float[np.ndarray, "band pixel"]:
    """Pixels of the whole scene that are not said to be unknown: thinned out, or of places all over a large one."""
    pieces = []
    for window, shape in _places(dataset, len(bands)):
        form = {"window": window, "out_shape": (len(bands), *shape)}
        with reading(path), np.errstate(invalid="ignore"):  # of a signalling NaN, which damage can make
            values = dataset.read(list(bands), **form).astype(np.float64)
            known = (dataset.read_masks(list(bands), **form) != 0).all(axis=0)
        pieces.append(pixels_where(known & np.isfinite(values).all(axis=0), values))
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)


def pixels_where(
    keep: Bool[np.ndarray, "*shape"], values: Float[np.ndarray, "band *shape"]
) -> Float[np.ndarray, "band pixel"]:
    """Some pixels of all bands, without a copy where it is all of them."""
    return values.reshape(len(values), -1) if keep.all() else values[:, keep]


def thinned(values: Float[np.ndarray, "band pixel"]) -> Float[np.ndarray, "band some"]:
    """Pixels enough for a median, evenly over all of them."""
    return values[:, :: max(values.shape[1] // _FOR_MEDIAN, 1)]


def _places(dataset: Any, bands: int) -> list[tuple[Window, tuple[int, int]]]:
    """Windows to look at, each with the shape in which to read it.

    Thinning out a file that holds no smaller versions of itself reads all of it, which takes minutes for a large one.
    """
    height, width = dataset.height, dataset.width
    most = int(np.sqrt(_SAMPLE_VALUES / bands))
    if height * width * dataset.count <= WHOLE_VALUES or dataset.overviews(1):
        return [(Window(0, 0, width, height), (min(height, most), min(width, most)))]
    side = most // _PLACES
    tops, lefts = (np.linspace(0, length - side, _PLACES).astype(int).tolist() for length in (height, width))
    return [(Window(left, top, side, side), (side, side)) for top in tops for left in lefts]


def majority(values: Float[np.ndarray, " n"]) -> float | None:
    """The value that more than half of them have, if there is one."""
    if not values.size:
        return None
    middle = np.partition(values, values.size // 2)[values.size // 2]
    return float(middle) if (values == middle).mean() > 0.5 else None
