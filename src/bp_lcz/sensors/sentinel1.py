"""Sentinel-1 files to linear power: finds the bands, their unit, and the pixels that are not backscatter."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Num
from scipy.ndimage import maximum_filter, minimum_filter, uniform_filter

from bp_lcz.bands import SEN1_BANDS
from bp_lcz.errors import UserError
from bp_lcz.sensors.names import naming_texts, polarisation, why_by_order
from bp_lcz.sensors.sampling import majority, sample
from bp_lcz.sensors.stack import Stack

INTENSITIES = ("VH_lee_intensity", "VV_lee_intensity")
UNITS = ("auto", "db", "linear", "amplitude")

LINEAR = (-0.05, 1e5)
"""Range of a pixel's linear power. So2Sat's largest is about 10^4; thermal noise removal leaves some just below 0."""
DECIBELS = (-80.0, 50.0)
"""Range of a pixel in decibels."""
MEDIAN_LINEAR = (1e-5, 10.0)
"""Range of a scene's median VV in linear power: from calm water below the noise floor to more than any city has."""
MEDIAN_DECIBELS = (-50.0, -0.5)
"""Range of a scene's median VV in decibels. Higher medians may be linear power."""

_SIDE, _STEP = 8, 4
"""Side of a square, and distance of the pixels that are compared first, in pixels."""
_BRIGHT = 1.0
"""Decibels. No square of ground has half of its pixels between 0 and this, and none below 0: speckle varies more."""
_MOST_STRANGE = 0.05
"""Highest share of values, without fill, that may lie outside the range of a unit."""
_MANY_EQUAL = 16
"""Number of pixels with equal VV and VH from which on it is not chance."""
_AMPLITUDE_RATIO = 0.42
"""Median of VH / VV above which they are amplitudes. Volume scattering depolarises most, and gives a third in power."""
_NOISE = 0.006
"""Highest linear power of thermal noise (-22 dB). Noise removal can leave zeros in one polarisation."""
_CLEAR_VV = 0.03
"""Median VV in linear power above which VH / VV is meaningful. Near the noise floor it is not."""


@dataclass(frozen=True)
class Radar:
    """How a scene's stored values become So2Sat's.

    Attributes:
        bands: number, from 1 on, of each channel by So2Sat's name and in its order.
        unit: ``db``, ``linear`` or ``amplitude``.
        scale: scale that the file declares for its values.
        shift: offset that the file declares for its values.
        fill: a value that means no data though the file does not say so.
        notes: what was found.
    """

    bands: dict[str, int]
    unit: str
    scale: float
    shift: float
    fill: float | None
    notes: list[str]

    @property
    def looks_around(self) -> bool:
        """Whether a pixel's mask always depends on its neighbours."""
        return False

    def is_power_at_rim(self, stored: Num[np.ndarray, "band row column"]) -> bool:
        """Whether a block of linear power among decibels may reach into the first or last row."""
        if self.unit != "db":
            return False
        rim = stored[:, [0, -1]]
        is_positive = (rim * self.scale + self.shift >= 0) & (rim != 0)
        for step in (1, 2, 4):  # runs of 2, 4 and 8 pixels
            is_positive = is_positive[:, :, step:] & is_positive[:, :, :-step]
        return bool(is_positive.any())

    @property
    def level(self) -> None:
        """None: only Sentinel-2 has levels."""

    @property
    def taken(self) -> None:
        """None: a map takes its time from Sentinel-2."""

    @property
    def fill_alone(self) -> bool:
        """Whether fill in a single band means no data. A 0 does not: noise removal leaves zeros."""
        return self.fill != 0

    def values(
        self,
        stored: Num[np.ndarray, "band row column"],
        stands_still: Bool[np.ndarray, "band row column"] | None = None,
    ) -> tuple[Float[np.ndarray, "band row column"], Bool[np.ndarray, "row column"]]:
        """Channels in linear power, and pixels where all of them are possible backscatter and none stands still."""
        values = np.multiply(stored, self.scale, dtype=np.float64)
        values += self.shift
        known = (stored != 0).any(axis=0)
        if self.fill:
            known &= (stored != self.fill).all(axis=0)
        if stands_still is not None:
            known &= ~stands_still.any(axis=0)
        if self.unit == "db":
            never_zero = values[:1] if stored.dtype.kind in "iu" else values  # bright ground may be rounded to 0 dB
            known &= ~_outside(values, "db").any(axis=0) & (never_zero != 0).all(axis=0)
            known &= ~np.any([_is_power(channel, known) for channel in values], axis=0)
            return 10 ** (np.clip(values, *DECIBELS) / 10), known
        if self.unit == "amplitude":
            values = values**2
        for band, channel in zip(self.bands, values, strict=True):
            if band in INTENSITIES:
                known &= ~_outside(channel, "linear")
                np.maximum(channel, 0, out=channel)
            else:
                known &= np.abs(channel) <= LINEAR[1]
        if tuple(self.bands) == INTENSITIES:  # no ground gives VH without VV
            known &= (values[1] != 0) | (values[0] < _NOISE)
        return values, known


def read_radar(path: Path, dataset: Stack, named: tuple[str, ...] | None, asked: str) -> Radar:
    """Find the bands and the unit of a scene.

    Args:
        path: of the raster.
        dataset: the open scene.
        named: ``VV`` and ``VH`` in stored order; None reads the bands' descriptions.
        asked: one of `UNITS`.

    Raises:
        UserError: if bands or units are not clear, or VV and VH seem swapped.
    """
    bands, said = _bands(path, dataset, named)
    numbers = list(bands.values())
    scales, shifts = ({values[n - 1] for n in numbers} for values in (dataset.scales, dataset.offsets))
    if len(scales) > 1 or len(shifts) > 1:
        raise UserError(path, "its bands declare different scales or offsets")
    scale, shift = scales.pop(), shifts.pop()
    stored = sample(path, dataset, numbers)
    is_blank = ~stored.any(axis=0)
    if is_blank.all():
        raise UserError(path, "holds no data")
    if (scale, shift) != (1.0, 0.0):
        said.append(f"{path.name}: values by the file's own scale {scale:g} and offset {shift:g}")
    if tuple(bands) != INTENSITIES:
        if asked in ("db", "amplitude"):
            raise UserError(path, f"complex channels are linear; --s1-units {asked} is for intensities")
        return Radar(bands, "linear", scale, shift, None, [*said, f"{path.name}: So2Sat's eight channels, linear"])
    stored = stored[:, ~is_blank]
    values = stored * scale + shift
    unit = _unit(path, dataset, values, asked)
    fill = _fill(values, unit, stored)
    if fill is None and is_blank.any():
        fill = 0.0
    if fill:
        said.append(f"{path.name}: {fill:g} is taken for no data, which the file does not declare")
    words = {"db": "decibels", "linear": "linear power", "amplitude": "amplitudes, squared"}
    said.append(f"{path.name}: VV and VH in {words[unit]}")
    below = float(((values < 0) & ~_outside(values, unit)).mean()) if unit == "linear" else 0
    if below:
        said.append(f"{path.name}: {below:.2g} of its values lie just below 0, as without thermal noise; stored as 0")
    radar = Radar(bands, unit, scale, shift, fill, said)
    power, known = radar.values(stored[:, None])
    _check_polarisations(path, power[:, known], asked)
    return radar


def _bands(path: Path, dataset: Stack, named: tuple[str, ...] | None) -> tuple[dict[str, int], list[str]]:
    texts = naming_texts(dataset) if named is None else list(named)
    if any(str(kind).startswith("complex") for kind in dataset.dtypes):  # complex_int16 is no type of NumPy
        raise UserError(path, "holds complex numbers; give calibrated intensities, or So2Sat's eight real channels")
    if named is not None and len(named) != dataset.count:
        raise UserError(path, f"has {dataset.count} bands, but --s1-bands names {len(named)}")
    official = {band.lower(): band for band in SEN1_BANDS}
    if texts is None:
        order = {len(SEN1_BANDS): SEN1_BANDS, 2: INTENSITIES[::-1]}.get(dataset.count)  # VV first, as in products
        found = {} if order is None else {band: [number] for number, band in enumerate(order, start=1)}
        by = why_by_order(dataset)
    elif len(texts) == len(SEN1_BANDS) and {text.strip().lower() for text in texts} == set(official):
        found = {official[text.strip().lower()]: [number] for number, text in enumerate(texts, start=1)}
        by = "by name"
    else:
        found = {}
        for number, text in enumerate(texts, start=1):
            if name := polarisation(text):
                found.setdefault(INTENSITIES[name == "VV"], []).append(number)
        by = "by name"
    wanted = SEN1_BANDS if len(found) == len(SEN1_BANDS) else INTENSITIES
    if set(found) != set(wanted) or any(len(numbers) > 1 for numbers in found.values()):
        shown = "" if texts is None else f" (found: {', '.join(texts)})"
        raise UserError(
            path,
            f"has {dataset.count} bands, of which VV and VH are not known; expected 2 or "
            f"{len(SEN1_BANDS)} bands, or --s1-bands such as VV,VH{shown}",
        )
    bands = {band: found[band][0] for band in wanted}
    stored = sorted(bands, key=bands.__getitem__)
    taken = ", ".join(f"{bands[band]} {band.removesuffix('_lee_intensity')}" for band in stored)
    return bands, [f"{path.name}: bands {taken}, {by}"]


def _is_power(
    values: Float[np.ndarray, "row column"], known: Bool[np.ndarray, "row column"]
) -> Bool[np.ndarray, "row column"]:
    """Pixels of squares that hold linear power, though the scene is in decibels."""
    is_positive = (values >= 0) & known
    corners = is_positive[::_STEP, ::_STEP]
    if not (corners[:-1, :-1] & corners[1:, :-1] & corners[:-1, 1:] & corners[1:, 1:]).any():
        return np.zeros_like(known)
    share = uniform_filter((values < _BRIGHT).astype(np.float64), _SIDE, mode="nearest")
    is_square = minimum_filter(is_positive, _SIDE, mode="nearest") & (share > 0.5)
    found: np.ndarray = maximum_filter(is_square, _SIDE, origin=-1, mode="constant")
    return found


def _outside(values: Float[np.ndarray, "*shape"], unit: str) -> Bool[np.ndarray, "*shape"]:
    low, high = DECIBELS if unit == "db" else LINEAR
    return (values < low) | (values > high)


def _fill(values: Float[np.ndarray, "band pixel"], unit: str, stored: Float[np.ndarray, "band pixel"]) -> float | None:
    """The stored value of most pixels outside the unit's range, or else of most that are equal in all bands."""
    strange = stored[_outside(values, unit)]
    if strange.size:
        return majority(strange)
    equal = stored[0, (stored == stored[0]).all(axis=0)]
    return majority(equal) if equal.size >= _MANY_EQUAL else None


def _unit(path: Path, dataset: Stack, values: Float[np.ndarray, "band pixel"], asked: str) -> str:
    """The unit whose range holds nearly all values, and both medians."""
    if any("AMPLITUDE" in (text or "").upper() for text in dataset.descriptions) and asked == "auto":
        raise UserError(path, "its bands are called amplitudes; --s1-units amplitude squares them")
    found = [unit for unit in ("db", "linear") if _belongs(values, unit)]
    if asked == "amplitude" and found == ["linear"]:
        return asked
    if asked in found or (asked == "auto" and len(found) == 1):
        return found[0] if asked == "auto" else asked
    vh, vv = np.median(values, axis=1)
    if asked in ("linear", "amplitude") and (values < LINEAR[0]).mean() > _MOST_STRANGE:
        raise UserError(path, f"negative values are not linear power; leave out --s1-units {asked}")
    if vv > MEDIAN_LINEAR[1]:
        raise UserError(path, f"median VV of {vv:.4g}: not calibrated? Give sigma or gamma nought")
    seen = f"medians of VV {vv:.4g} and VH {vh:.4g}"
    for factor in (10, 100, 1000):
        if _belongs(values / factor, "db"):
            raise UserError(
                path, f"{seen} are those of decibels times {factor}; divide them, or declare a scale of {1 / factor:g}"
            )
    told = "neither decibels nor linear power" if asked == "auto" else f"not what --s1-units {asked} says"
    raise UserError(path, f"{seen} are {told}; give calibrated sigma or gamma nought")


def _belongs(values: Float[np.ndarray, "band pixel"], unit: str) -> bool:
    fill = _fill(values, unit, values)
    if fill is not None:
        values = values[:, (values != fill).all(axis=0)]
    inside = ~_outside(values, unit).any(axis=0)
    if not inside.any() or (~inside).mean() > _MOST_STRANGE:
        return False
    vh, vv = np.median(values[:, inside], axis=1)
    low, high = MEDIAN_DECIBELS if unit == "db" else MEDIAN_LINEAR
    return bool(low <= vv <= high and (vh <= high if unit == "db" else vh >= 0))


def _check_polarisations(path: Path, power: Float[np.ndarray, "band pixel"], asked: str) -> None:
    if (share := float((power[0] == power[1]).mean())) > _MOST_STRANGE:
        raise UserError(path, f"VV and VH are equal in {share:.0%} of all pixels: one under two names")
    vh, vv = np.median(power, axis=1)
    if vh > vv:
        raise UserError(
            path, "VH is brighter than VV, so they seem swapped; name them the other way round with --s1-bands"
        )
    ratio = float(np.median(power[0] / np.maximum(power[1], 1e-12)))
    if asked == "auto" and vv > _CLEAR_VV and ratio > _AMPLITUDE_RATIO:
        raise UserError(
            path,
            f"VH is {ratio:.2f} of VV, as amplitudes are and powers are not; --s1-units amplitude squares them, "
            "linear or db takes them as they are",
        )
