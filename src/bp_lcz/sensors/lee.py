"""The Lee filter of radar intensities."""

import numpy as np
from jaxtyping import Bool, Float

LEE_WINDOW = 7
"""Side of the filter's window, in pixels, as in So2Sat."""
LEE_LOOKS = 4.4
"""Equivalent number of looks of Sentinel-1 IW ground range products and of what is derived from them."""


def lee(
    power: Float[np.ndarray, "band row column"], known: Bool[np.ndarray, "row column"]
) -> Float[np.ndarray, "band row column"]:
    """Move each pixel towards the mean of its window's known pixels: wholly where speckle explains the variance.

    Args:
        power: linear power.
        known: pixels to filter and to use. The others stay as they are.

    A pixel depends on its window alone, and sums run in a fixed order. So its bits do not depend on what else is read.

    Source: Lee (1980), IEEE PAMI 2(2):165-168, for multiplicative noise.
    """
    weight = _sums(known[None].astype(np.float64))
    inside = np.where(known, power, 0)
    mean, square = (_sums(values) / np.maximum(weight, 1) for values in (inside, inside**2))
    variance = np.maximum(square - mean**2, 0)
    noise = mean**2 / LEE_LOOKS
    share = np.clip((variance - noise) / np.maximum(variance * (1 + 1 / LEE_LOOKS), 1e-30), 0, 1)
    return np.where(known, mean + share * (power - mean), power)


def _sums(values: Float[np.ndarray, "band row column"]) -> Float[np.ndarray, "band row column"]:
    """Sums over the window around each pixel. Pixels outside the array count as 0."""
    for axis in (1, 2):
        half = LEE_WINDOW // 2
        padded = np.pad(values, [(half, half) if here == axis else (0, 0) for here in range(3)])
        length = values.shape[axis]
        values = np.sum([np.take(padded, range(n, n + length), axis) for n in range(LEE_WINDOW)], axis=0)
    return values
