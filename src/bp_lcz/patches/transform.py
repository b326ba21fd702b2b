"""From stored values to the values that networks see: one parameter-free function for training and serving.

Sentinel-1 is extremely heavy-tailed (channels 4 to 7 reach 10^4 where 99.9 % lie below 1 to 15), so that a
plain z-score is useless: intensities go to decibels, signed amplitudes to a signed logarithm. Reflectances
stay as they are. Centring and scaling with the training split's statistics belong to the network.
"""

import numpy as np
from jaxtyping import Float, Float32

from bp_lcz.bands import Channels

DB_FLOOR = -50.0
"""Backscatter in dB of a pixel without signal; far below the noise floor of Sentinel-1 (about -25 dB)."""

AMPLITUDE_SCALE = 0.1
"""Scale of the signed logarithm of complex amplitudes: typical magnitude of So2Sat's channels 0 to 3."""

COVARIANCE_SCALE = 0.01
"""Scale of the signed logarithm of the covariance off-diagonal: about its typical magnitude."""

_LARGEST = np.float32(1e35)
"""Bound of magnitudes, so that no step overflows in float32."""

_CHECKED_AT_ONCE = 64
"""Patches: a few MiB as float32."""


def transform(
    sen1: Float[np.ndarray, "*shape c1"],
    sen2: Float[np.ndarray, "*shape c2"],
    channels: Channels,
) -> Float32[np.ndarray, "*shape c"]:
    """Transform pixels as stored in So2Sat; each by itself, so that it does not matter in which patch they are.

    Args:
        sen1: Sentinel-1 channels, linear power or amplitude.
        sen2: Sentinel-2 channels, top-of-atmosphere reflectance.
        channels: names of the last axes.

    Returns:
        Sentinel-1 then Sentinel-2 channels. Intensities are in dB, at least `DB_FLOOR` and always finite
        (zero, negative or undefined power is at the floor); amplitudes and covariances x are
        ``sign(x) log(1 + |x|/s)``; reflectances are unchanged. The result depends on the float32 value of
        the input alone, so float64 and float32 files of the same patches give the same bits.
    """
    split = len(channels.sen1)
    values = np.empty((*sen1.shape[:-1], split + len(channels.sen2)), dtype=np.float32)
    values[..., :split] = sen1
    values[..., split:] = sen2
    for position, band in enumerate(channels.sen1):
        channel = values[..., position]
        if band.endswith("_lee_intensity"):
            values[..., position] = _decibel(channel)
        else:
            scale = COVARIANCE_SCALE if band.startswith("C12") else AMPLITUDE_SCALE
            magnitude = np.minimum(np.abs(channel), _LARGEST) / np.float32(scale)
            values[..., position] = np.copysign(np.log1p(magnitude), channel)
    return values


def first_not_finite(images: np.ndarray) -> int | None:
    """Index of the first patch with a value that is not finite as float32, which is what networks see; else None.

    Args:
        images: patches first, of any float type: NaN, infinities, and float64 beyond 3.4e38 are not finite.
    """
    for start in range(0, len(images), _CHECKED_AT_ONCE):
        with np.errstate(over="ignore"):
            values = images[start : start + _CHECKED_AT_ONCE].astype(np.float32, copy=False)
        finite = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
        if not finite.all():
            return start + int(np.flatnonzero(~finite)[0])
    return None


def _decibel(power: Float32[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    lowest = np.float32(10 ** (DB_FLOOR / 10))
    # fmax and fmin take the other argument where power is NaN.
    bounded = np.fmin(np.fmax(power, lowest), _LARGEST)
    decibel: np.ndarray = np.maximum(10 * np.log10(bounded), np.float32(DB_FLOOR))
    return decibel
