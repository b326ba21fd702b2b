"""Tells whether a patch is unlike the training data. The probabilities of a network do not tell that.

A patch is its averages: of the transformed channels, or of what layers of a network take. Their distance from those of
the training data is the mean square of the averages after standardisation and, where the covariance is known, after
decorrelation: 1 on average over the training data. Measured: docs/adr/0021-unlike-the-training-data.md.
"""

import numpy as np
from jaxtyping import Bool, Float, Float64

from bp_lcz.records import Likeness

QUANTILE = 0.99
"""Share of the training patches that count as like the training data."""

MOST_UNLIKE = 0.1
"""Share of unlike patches from which on people are warned: between honest scenes and those with a wrong offset."""

LOOK_AT = "look at units, offset, level and the order of the bands; the probabilities do not tell"


def channel_means(images: Float[np.ndarray, "patch 32 32 channel"]) -> Float64[np.ndarray, "patch channel"]:
    """Average of each channel over a patch."""
    means: np.ndarray = images.mean(axis=(1, 2), dtype=np.float64)
    return means


def fit_likeness(means: Float[np.ndarray, "patch channel"]) -> Likeness:
    """Statistics of a training split that tell which other patches are unlike it.

    Args:
        means: `channel_means` of the transformed training patches, at least one.

    Returns:
        Their centre and shape, and as limit the distance that `QUANTILE` of them do not exceed. Numbers have nine
        digits, so that another order of summation does not make a manifest new.
    """
    count, channels = means.shape
    centre, std = means.mean(axis=0), means.std(axis=0)
    scale = np.where(std > 1e-12 * np.maximum(np.abs(centre), 1), std, 1.0)
    standard = (means - centre) / scale
    # Few patches span fewer directions than there are channels: only they are drawn towards no correlation, since a
    # wrong offset shows where bands that go together part, in directions of a ten-thousandth of the variance.
    weight = (channels / (channels + count)) ** 3
    correlation = (1 - weight) * (standard.T @ standard) / count + weight * np.eye(channels)
    values, vectors = np.linalg.eigh(correlation)
    fitted = Likeness(
        centre=_rounded(centre),
        scale=_rounded(scale),
        mixing=tuple(map(_rounded, (vectors / np.sqrt(values)) @ vectors.T)),
        limit=0.0,
    )
    limit = np.quantile(distances(fitted, means), QUANTILE, method="higher")
    return fitted.model_copy(update={"limit": _rounded([limit * (1 + 1e-8)])[0]})


def distances(likeness: Likeness, means: Float[np.ndarray, "patch average"]) -> Float64[np.ndarray, " patch"]:
    """Distance of patches from the training data, by their averages."""
    standard = (means - np.array(likeness.centre)) / np.array(likeness.scale)
    if likeness.mixing is not None:
        standard = standard @ np.array(likeness.mixing).T
    distance: np.ndarray = np.square(standard).mean(axis=1)
    return distance


def unlike(likeness: Likeness, means: Float[np.ndarray, "patch average"]) -> Bool[np.ndarray, " patch"]:
    """Whether patches are unlike the training data, by their averages."""
    with np.errstate(invalid="ignore", over="ignore"):  # averages may be infinite, and nothing is less like
        is_near: np.ndarray = distances(likeness, means) <= likeness.limit
    return ~is_near


def too_many_unlike(count: int, patches: int) -> str | None:
    """A warning, if so many of the patches are unlike the training data that their classes cannot be trusted."""
    if count <= MOST_UNLIKE * patches:
        return None
    return f"{count:,} of {patches:,} patches are unlike the training data of the model: {LOOK_AT}"


def _rounded(values: Float[np.ndarray, " value"] | list[float]) -> tuple[float, ...]:
    return tuple(float(f"{value:.9g}") for value in values)
