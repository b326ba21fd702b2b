"""A sample of a scene's pixels, from which its bands and units are found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from rasterio.windows import Window

from bp_lcz.sensors.raster import reading

_SAMPLE_VALUES = 1_000_000
"""Values that are sampled from a scene, in all bands together."""
WHOLE_VALUES = 50_000_000
"""Values of a file, in all bands, up to which the sample may read the whole file."""
_FOR_MEDIAN = 25_000
"""Pixels of a band that are enough for its median and for the 99.9 % quantile of all bands."""
_PLACES = 8
"""Windows that are sampled along each side of a larger file."""


def sample(path: Path, dataset: Any, bands: Sequence[int]) -> Float[np.ndarray, "band pixel"]:
    """Known pixels from the whole scene: every n-th one, or those of windows spread over a large scene."""
    pieces = []
    for window, shape in _places(dataset, len(bands)):
        form = {"window": window, "out_shape": (len(bands), *shape)}
        with reading(path), np.errstate(invalid="ignore"):  # damaged files can hold signalling NaNs
            values = dataset.read(list(bands), **form).astype(np.float64)
            known = (dataset.read_masks(list(bands), **form) != 0).all(axis=0)
        pieces.append(pixels_where(known & np.isfinite(values).all(axis=0), values))
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)


def pixels_where(
    keep: Bool[np.ndarray, "*shape"], values: Float[np.ndarray, "band *shape"]
) -> Float[np.ndarray, "band pixel"]:
    """Chosen pixels of all bands. If all are chosen, nothing is copied."""
    return values.reshape(len(values), -1) if keep.all() else values[:, keep]


def thinned(values: Float[np.ndarray, "band pixel"]) -> Float[np.ndarray, "band some"]:
    """Every n-th pixel, as many as a median needs."""
    return values[:, :: max(values.shape[1] // _FOR_MEDIAN, 1)]


def _places(dataset: Any, bands: int) -> list[tuple[Window, tuple[int, int]]]:
    """Windows to sample, each with the shape in which to read it.

    Without overviews, a thinned-out read of a whole file reads all of it. That takes minutes for a large file.
    """
    height, width = dataset.height, dataset.width
    most = int(np.sqrt(_SAMPLE_VALUES / bands))
    if height * width * dataset.count <= WHOLE_VALUES or dataset.overviews(1):
        return [(Window(0, 0, width, height), (min(height, most), min(width, most)))]
    side = most // _PLACES
    tops, lefts = (np.linspace(0, length - side, _PLACES).astype(int).tolist() for length in (height, width))
    return [(Window(left, top, side, side), (side, side)) for top in tops for left in lefts]


def majority(values: Float[np.ndarray, " n"]) -> float | None:
    """The value that more than half of the values have; None if there is none."""
    if not values.size:
        return None
    middle = np.partition(values, values.size // 2)[values.size // 2]
    return float(middle) if (values == middle).mean() > 0.5 else None
