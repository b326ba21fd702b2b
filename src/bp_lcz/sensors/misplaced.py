"""Find bands that are shifted against each other, by correlating their fine detail."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float
from rasterio.windows import Window
from scipy.ndimage import uniform_filter

from bp_lcz.bands import SEN2_BANDS
from bp_lcz.sensors.raster import reading
from bp_lcz.sensors.sampling import WHOLE_VALUES
from bp_lcz.sensors.stack import Stack

_SIDE, _WINDOWS, _SMALL = 96, 3, 9
"""Side of a window in pixels, number of windows along a scene's diagonal, and side of fine detail in pixels."""
_APART, _TOGETHER, _SHIFT = 0.2, 0.4, 2
"""Neighbouring bands are misplaced if they correlate below the first number, and above the second after a shift of at
least the third, in pixels. At three real sites bands correlate at 0.34 or more, and shifted ones at 0.08 or less."""


def misplaced_bands(path: Path, dataset: Stack, numbers: list[int]) -> list[str]:
    """Warn of neighbouring bands that are shifted against each other.

    Args:
        path: of the scene.
        dataset: the open scene. A scene above `WHOLE_VALUES` is not checked.
        numbers: band numbers of So2Sat's ten bands, from 1 on.

    Returns:
        One line for each such pair.
    """
    if dataset.height * dataset.width * dataset.count > WHOLE_VALUES:
        return []
    details = [_detail(window) for window in _windows(path, dataset, numbers)]
    if not details:
        return []
    said = []
    for one, other in pairwise(range(len(SEN2_BANDS))):
        here = float(np.mean([(detail[one] * detail[other]).mean() for detail in details]))
        if here > _APART:
            continue
        found = np.mean([_correlation(detail[one], detail[other]) for detail in details], axis=0)
        at = np.unravel_index(found.argmax(), found.shape)
        down, right = (int((place + side // 2) % side - side // 2) for place, side in zip(at, found.shape, strict=True))
        if found[at] > _TOGETHER and max(abs(down), abs(right)) >= _SHIFT:
            said.append(
                f"{path.name}: warning: {SEN2_BANDS[one]} and {SEN2_BANDS[other]} do not lie on each other: their "
                f"correlation is {here:.2f}, and {found[at]:.2f} once the latter is moved by {down} rows and {right} "
                "columns"
            )
    return said


def _windows(path: Path, dataset: Stack, numbers: list[int]) -> Iterator[Float[np.ndarray, "10 row column"]]:
    """Windows of the scene in which all pixels are known."""
    height, width = min(dataset.height, _SIDE), min(dataset.width, _SIDE)
    for number in range(1, _WINDOWS + 1):
        top, left = (
            (whole - side) * number // (_WINDOWS + 1)
            for whole, side in ((dataset.height, height), (dataset.width, width))
        )
        window, shape = Window(left, top, width, height), (len(numbers), height, width)
        with reading(path):
            values = dataset.read(numbers, window, shape)
        if np.isfinite(values).all() and not (values == values[0]).all(axis=0).any():
            yield values.astype(np.float64)


def _detail(values: Float[np.ndarray, "10 row column"]) -> Float[np.ndarray, "10 row column"]:
    """Fine detail of each band, with a mean of 0 and a standard deviation of 1. It is 0 in a band of one value."""
    small = values - uniform_filter(values, (0, _SMALL, _SMALL))
    lowest, highest = np.quantile(small, [0.01, 0.99], axis=(1, 2), keepdims=True)
    small = small.clip(lowest, highest)  # otherwise a few bright roofs decide the correlation
    small -= small.mean(axis=(1, 2), keepdims=True)
    return small / np.maximum(small.std(axis=(1, 2), keepdims=True), 1e-9)


def _correlation(one: Float[np.ndarray, "row column"], other: Float[np.ndarray, "row column"]) -> np.ndarray:
    """Correlation for each shift of the other by (row, column); indices above half the length are negative shifts."""
    both = np.fft.rfft2(one) * np.fft.rfft2(other).conj()
    return np.fft.irfft2(both, s=one.shape) / one.size
