"""Whether bands lie on each other, told by the small things that they show."""

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
"""Pixels of a window, windows along the diagonal of a scene, and pixels of what is small."""
_APART, _TOGETHER, _SHIFT = 0.2, 0.4, 2
"""Correlation of neighbouring bands that do not lie on each other, the one where they do once one of them is moved, and
by how many pixels. In windows of three real sites they have 0.34 at least, and once one is moved 0.08 at most."""


def misplaced_bands(path: Path, dataset: Stack, numbers: list[int]) -> list[str]:
    """Warn of neighbouring bands of which one is moved against the other, in lines.

    Args:
        path: of the scene.
        dataset: the open scene; one that has not been read as a whole before is not looked at.
        numbers: of So2Sat's ten bands, from 1 on.
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
    """Places of the scene of which all pixels are known."""
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
    """What is small in each band, with a mean of 0 and a deviation of 1; 0 in a band of one value."""
    small = values - uniform_filter(values, (0, _SMALL, _SMALL))
    lowest, highest = np.quantile(small, [0.01, 0.99], axis=(1, 2), keepdims=True)
    small = small.clip(lowest, highest)  # or a few bright roofs at the rim are all that counts
    small -= small.mean(axis=(1, 2), keepdims=True)
    return small / np.maximum(small.std(axis=(1, 2), keepdims=True), 1e-9)


def _correlation(one: Float[np.ndarray, "row column"], other: Float[np.ndarray, "row column"]) -> np.ndarray:
    """Of one with the other moved by so many rows and columns, beyond half of them up and to the left."""
    both = np.fft.rfft2(one) * np.fft.rfft2(other).conj()
    return np.fft.irfft2(both, s=one.shape) / one.size
