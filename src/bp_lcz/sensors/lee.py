"""The Lee filter of radar intensities."""

import numpy as np
from jaxtyping import Bool, Float

LEE_WINDOW = 7
"""Pixels along a side of its window, as in So2Sat."""
LEE_LOOKS = 4.4
"""Equivalent number of looks of Sentinel-1 IW ground range and what is made of it."""


def lee(
    power: Float[np.ndarray, "band row column"], known: Bool[np.ndarray, "row column"]
) -> Float[np.ndarray, "band row column"]:
    """Speckle filtered towards the mean of the known pixels of a window, the more the less it varies beyond speckle.

    Each pixel is computed from its window alone and in the same order, so its bits do not depend on what else is read.

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
    """Of the window round each pixel; beyond the array there is nothing."""
    for axis in (1, 2):
        half = LEE_WINDOW // 2
        padded = np.pad(values, [(half, half) if here == axis else (0, 0) for here in range(3)])
        length = values.shape[axis]
        values = np.sum([np.take(padded, range(n, n + length), axis) for n in range(LEE_WINDOW)], axis=0)
    return values
