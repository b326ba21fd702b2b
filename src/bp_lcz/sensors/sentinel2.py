"""Sentinel-2 files to reflectance: finds the bands, their unit, and whether they carry the +1000 offset.

Evidence for the offset, in this order: what the user says, metadata of the product, scale and offset of the file, the
baseline in its name. The pixels must agree with each but the first. Without such evidence the pixels decide.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Num
from scipy.ndimage import label

from bp_lcz.bands import SEN2_BANDS
from bp_lcz.errors import UsageError, UserError
from bp_lcz.sensors.names import ORDERS, band_name, level_of, moment, naming_texts, why_by_order
from bp_lcz.sensors.sampling import majority, pixels_where, sample, thinned
from bp_lcz.sensors.spectrum import check_spectrum
from bp_lcz.sensors.stack import Stack
from bp_lcz.sensors.still import min_without_fill

OFFSET_DN = 1000.0
"""Offset of digital numbers of Sentinel-2 since processing baseline 04.00 (25 January 2022)."""
DN = 10_000.0
"""Digital number of a reflectance of 1."""

REFLECTANCE = (-0.15, 3.0)
"""Range of a pixel. Overcorrection of the atmosphere gives values just below 0; So2Sat's largest is 2.8."""
BRIGHTEST_MEDIAN = (0.005, 1.2)
"""Range of the median reflectance of a scene's brightest band: from open sea to closed clouds."""
_BRIGHTEST = (0.08, 3.0)
"""Range of the 99.9 % quantile of reflectance in a scene with some land."""

_DARKEST = 0.001
_NONE_BELOW, _OFFSET_FROM, _OFFSET_TO = 900.0, 970.0, 1600.0
"""Digital numbers of the darkest pixels: below the first without the offset, between the others with it. Overcorrected
water lies a little below 1000. Above the last number both are possible, in a bright desert or snow."""
_DARK, _DARK_TAIL = 0.12, 0.03
"""Highest reflectance of water: in any band, and in bands of longer wavelength than one with a 0."""
_CLIPPED = 1.5e-4
"""Level 2A clips water to a digital number of 0 or 1, which is a reflectance below this."""
FIRST_WITH_OFFSET = 4.0
"""First processing baseline with the offset."""
_NAMED_TIME = re.compile(r"(?:S2[A-D]_MSIL(?:1C|2A)|T\d\d[C-X][A-Z]{2})_(\d{8}T\d{6})")


@dataclass(frozen=True)
class Optical:
    """How a scene's stored values become reflectance.

    Attributes:
        bands: number, from 1 on, of each of So2Sat's ten bands.
        unit: ``digital numbers`` or ``reflectance``.
        scale: reflectance of a stored 1.
        shift: reflectance of a stored 0.
        has_offset: whether stored values carry the offset, so that 0 is never a measured value.
        fill: a value that means no data though the file does not say so.
        level: ``L1C`` or ``L2A``; None if unknown.
        taken: first and last time of acquisition; None if unknown.
        notes: what was found.
    """

    bands: dict[str, int]
    unit: str
    scale: float
    shift: float
    has_offset: bool
    fill: float | None
    level: str | None
    taken: tuple[str, str] | None
    notes: list[str]

    @property
    def looks_around(self) -> bool:
        """Whether a pixel's mask depends on its neighbours. It does if 0 may be a measured value."""
        return not (self.has_offset or self.level == "L1C")

    @property
    def fill_alone(self) -> bool:
        """Whether fill in a single band means no data. A 0 may also be water, in Level 2A without the offset."""
        return self.has_offset or self.level == "L1C" or self.fill != 0

    def values(
        self, stored: Num[np.ndarray, "10 row column"], stands_still: Bool[np.ndarray, "10 row column"] | None = None
    ) -> tuple[Float32[np.ndarray, "10 row column"], Bool[np.ndarray, "row column"]]:
        """Reflectance, and pixels where all bands are possible reflectance and none stands still, except in water."""
        # Scales are positive: the least stored value is the least reflectance.
        least, most = stored.min(axis=0), stored.max(axis=0)
        is_fill = least == most  # no ground is equal in all bands
        known = ~is_fill & (self._reflectance(least) >= REFLECTANCE[0]) & (self._reflectance(most) <= REFLECTANCE[1])
        doubtful = known & (least <= 0)
        if stands_still is not None or doubtful.any():
            is_odd = stored == 0
            if stands_still is not None:
                is_odd |= stands_still
            has_odd = is_odd.any(axis=0)
            doubtful = known & has_odd
            known[doubtful] = False
            if self.looks_around:
                is_water = _is_water(self._reflectance(stored[:, doubtful]), is_odd[:, doubtful])
                known[doubtful] = is_water & ~_runs_into(has_odd, is_fill)[doubtful]
        values = np.empty(stored.shape, np.float32)
        for here, band in zip(values, stored, strict=True):
            here[:] = self._reflectance(band)
        # Removing the offset can leave noise below 0, but no reflectance is negative.
        return np.maximum(values, 0, out=values), known

    def _reflectance(self, stored: Num[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
        values = stored.astype(np.float64)
        values *= self.scale
        values += self.shift
        return values


def _is_fill(stored: Num[np.ndarray, "band *shape"]) -> Bool[np.ndarray, "*shape"]:
    """Pixels that are equal in all bands. No ground is."""
    return (stored == stored[0]).all(axis=0)


def _is_water(
    values: Float[np.ndarray, "10 pixel"], is_odd: Bool[np.ndarray, "10 pixel"]
) -> Bool[np.ndarray, " pixel"]:
    """Pixels whose zeros in single bands are water, which Level 2A clips to 0 (or, in some versions, to 1).

    Water is dark, at least in the near infrared. Its zeros begin at the longest wavelength.
    """
    is_clipped = (values >= 0) & (values < _CLIPPED)
    beyond = np.maximum.accumulate(values[::-1], axis=0)[::-1]
    tail = np.concatenate([beyond[1:], np.zeros_like(beyond[:1])])
    infrared = values[[SEN2_BANDS.index(band) for band in ("B07", "B08", "B8A")]].max(axis=0)
    is_dark = (beyond[0] < _DARK) | ((infrared > 0) & (infrared < _DARK))
    found: np.ndarray = is_dark & (~is_odd | (is_clipped & (tail <= _DARK_TAIL))).all(axis=0)
    return found


def _runs_into(
    has_odd: Bool[np.ndarray, "row column"], is_fill: Bool[np.ndarray, "row column"]
) -> Bool[np.ndarray, "row column"]:
    """Odd pixels that are connected to pixels of fill, as at the edge of a detector's view."""
    areas, _ = label(has_odd, structure=np.ones((3, 3)))
    found: np.ndarray = np.isin(areas, areas[is_fill])
    return found


def read_optical(
    path: Path,
    dataset: Stack,
    named: tuple[str, ...] | None,
    units: str,
    asked_offset: float | None,
    asked_level: str | None = None,
) -> Optical:
    """Find the bands, unit, offset, level and time of a scene.

    Args:
        path: of the raster.
        dataset: the open scene.
        named: bands in stored order; None reads their descriptions.
        units: ``dn``, ``reflectance`` or ``auto``.
        asked_offset: offset in digital numbers; None looks for it.
        asked_level: ``L1C`` or ``L2A``; None looks for it.

    Raises:
        UserError: if bands, units or offset are not clear, or metadata and pixels contradict each other.
    """
    names, said = _names(path, dataset, named)
    bands = {band: names.index(band) + 1 for band in SEN2_BANDS}
    numbers = list(bands.values())
    stored = sample(path, dataset, numbers)
    is_fill = _is_fill(stored)
    fills, stored = stored[0, is_fill], pixels_where(~is_fill, stored)
    if not stored.size:
        raise UserError(path, "holds no data")
    scales, shifts = ({values[n - 1] for n in numbers} for values in (dataset.scales, dataset.offsets))
    is_declared = units == "auto" and (scales, shifts) != ({1.0}, {0.0})
    if is_declared and (len(scales) > 1 or len(shifts) > 1):
        raise UserError(
            path, "its bands declare different scales or offsets; --s2-units dn or reflectance leaves them out"
        )
    scale, shift = (scales.pop(), shifts.pop()) if is_declared else (1.0, 0.0)
    fill = majority(fills)
    some = thinned(stored)
    values = some * scale + shift
    seen = values if fill is None else values[some != fill]  # NumPy compares with None in Python, value by value
    unit = _unit(path, dataset, values, seen, units, is_declared)
    # From here on values are digital numbers, and still carry an offset that the file has.
    slope, start = scale * DN / unit, shift * DN / unit
    declared = None
    if np.isclose(start, OFFSET_DN):
        raise UserError(
            path, f"declares an offset of {shift:+g}, which is -0.1 with another sign; --s2-units dn leaves it out"
        )
    if is_declared:
        own = f"the file's own scale {scale:g}" + (f" and offset {shift:g}" if asked_offset is None else "")
        said.append(f"{path.name}: reflectance by {own}")
        takes_off = bool(np.isclose(start, -OFFSET_DN))
        if takes_off or start == 0:
            declared = (OFFSET_DN * takes_off, f"its scale {scale:g} and offset {shift:g}")
            start = 0.0
    cirrus = names.index("B10") + 1 if "B10" in names else None
    dark = _darkest(path, dataset, stored, cirrus, slope, start)
    offset, evidence = _offset(path, dataset, dark, asked_offset, declared)
    found = "digital numbers" if unit == DN else "reflectance"
    if asked_offset is not None:
        said.append(f"{path.name}: {found}, offset {offset:g} as asked")
    elif not is_declared:
        known = f"the +{OFFSET_DN:g} offset of processing baseline 04.00 found and removed" if offset else "no offset"
        said.append(f"{path.name}: {found}, {known}")
    level, by = _level(path, dataset, names)
    if asked_level is not None:
        if level not in (None, asked_level):
            raise UserError(path, f"is of level {level}, {by}, but --s2-level says {asked_level}")
        level, by = asked_level, "by --s2-level"
    said += [f"{path.name}: {evidence}", f"{path.name}: level {level or 'unknown'}, {by}"]
    measured = pixels_where((stored != 0).all(axis=0), stored) * (slope / DN) + (start - offset) / DN
    naming, by_order = (None, False) if named is not None else (dataset.naming, naming_texts(dataset) is None)
    said += check_spectrum(path, measured, level if asked_offset is None else None, naming, by_order)
    taken, by = _taken(path, dataset)
    if taken is not None:
        said.append(f"{path.name}: taken {' to '.join(dict.fromkeys(taken))}, by {by}")
    if fill is None and (offset or dataset.stated):
        fill = 0.0
    if fill:
        said.append(f"{path.name}: {fill:g} in all bands is taken for no data")
    return Optical(bands, found, slope / DN, (start - offset) / DN, offset != 0, fill, level, taken, said)


def _names(path: Path, dataset: Stack, named: tuple[str, ...] | None) -> tuple[list[str], list[str]]:
    """Name of each band in stored order (empty if it is not Sentinel-2's), and how the names were found."""
    if named is not None and not dataset.is_one_file:
        raise UsageError("--s2-bands", f"is for one raster of all bands; the files of {path} are named by theirs")
    texts = naming_texts(dataset) if named is None else list(named)
    if texts is None:
        if dataset.count not in ORDERS:
            known = ", ".join(map(str, ORDERS))
            needed = ", ".join(SEN2_BANDS)
            raise UserError(
                path,
                f"has {dataset.count} bands without names; expected {known} bands, or names in --s2-bands, of which "
                f"{needed} are needed",
            )
        names, by = list(ORDERS[dataset.count]), why_by_order(dataset)
    else:
        if len(texts) != dataset.count:
            raise UserError(path, f"has {dataset.count} bands, but --s2-bands names {len(texts)}")
        names, by = [band_name(text) for text in texts], "by name" if named is None else "by --s2-bands"
    shown = f"{dataset.naming} (found: {', '.join(texts or [])})"
    missing = [band for band in SEN2_BANDS if band not in names]
    if missing:
        raise UserError(path, f"lacks the Sentinel-2 bands {', '.join(missing)}; {shown}")
    twice = [band for band in SEN2_BANDS if names.count(band) > 1]
    if twice:
        raise UserError(path, f"has {', '.join(twice)} more than once; {shown}")
    order = ", ".join(f"{number} {name}" for number, name in enumerate(names, start=1) if name)
    said = [f"{path.name}: bands {order}, {by}"]
    own = [band_name(text or "") for text in dataset.descriptions]
    if set(SEN2_BANDS) <= set(own) and names != own:
        other = next(number for number, pair in enumerate(zip(names, own, strict=True), 1) if len(set(pair)) > 1)
        told = f"{names[other - 1] or 'none'} is band {other}, which its description calls {own[other - 1] or 'none'}"
        said.append(f"{path.name}: warning: by --s2-bands {told}")
    return names, said


def _level(path: Path, dataset: Stack, names: list[str]) -> tuple[str | None, str]:
    """The processing level, which a model depends on, and the evidence for it."""
    if dataset.stated is not None and dataset.stated.level:
        return dataset.stated.level, f"by {dataset.stated.by}"
    name, tags = re.search(r"MSIL(1C|2A)", path.name), dataset.tags()
    by_tag = level_of(tags.get("PROCESSING_LEVEL", tags.get("PRODUCT_TYPE", "")))
    for level, evidence in ((by_tag, "its metadata"), (level_of(name[0]) if name else None, "its name")):
        if level:
            return level, f"by {evidence}"
    if "B10" in names:
        return "L1C", "as it has B10"
    # Level 2A drops only the cirrus band.
    return ("L2A", "as it lacks B10 alone") if {"B01", "B09"} <= set(names) else (None, "while So2Sat's is L1C")


def _taken(path: Path, dataset: Stack) -> tuple[tuple[str, str] | None, str]:
    """Times of acquisition, and the evidence for them."""
    if dataset.stated is not None and dataset.stated.taken:
        return dataset.stated.taken, dataset.stated.by
    tags = dataset.tags()
    by_tag = tags.get("DATATAKE_1_DATATAKE_SENSING_START", tags.get("PRODUCT_START_TIME", ""))
    files = {found[1] for band in dataset.bands if (found := _NAMED_TIME.search(band.path.name))}
    if len(files) > 1:
        raise UserError(path, f"its bands are of several times ({', '.join(sorted(files))}), by their names")
    own = _NAMED_TIME.search(path.name)
    by_name = own[1] if own else next(iter(files), "")
    for text, evidence in ((by_tag, "its metadata"), (by_name, "its name")):
        if seen := moment(text):
            return (seen, seen), evidence
    return None, ""


def _unit(
    path: Path,
    dataset: Stack,
    values: Float[np.ndarray, "10 pixel"],
    seen: Float[np.ndarray, "..."],
    asked: str,
    is_declared: bool,
) -> float:
    """The value of a reflectance of 1, after a declared scale: 10000 for digital numbers, or 1.

    Args:
        path: of the raster.
        dataset: the open scene.
        values: values after a declared scale.
        seen: values without fill.
        asked: ``dn``, ``reflectance`` or ``auto``.
        is_declared: whether the file declares a scale or an offset.

    Raises:
        UserError: if the pixels are not reflectance in that unit.
    """
    medians = np.median(values, axis=1)
    brightest = float(medians.max())
    if any(str(kind) in ("uint8", "int8") for kind in dataset.dtypes):
        raise UserError(path, "holds numbers of 8 bits, as pictures do, which are too coarse for reflectance")
    is_whole = "int" in dataset.dtypes[0] and not is_declared
    is_dn = asked == "dn" or (asked == "auto" and (is_whole or np.median(values) > 10))
    unit = DN if is_dn else 1.0
    top = float(np.quantile(seen, 1 - _DARKEST)) / unit if seen.size else 0.0
    is_seen = asked != "auto" or _BRIGHTEST[0] <= top <= _BRIGHTEST[1]
    if not (is_seen and BRIGHTEST_MEDIAN[0] <= brightest / unit <= BRIGHTEST_MEDIAN[1]):
        kind = "digital numbers of reflectance" if is_dn else "reflectance"
        by = " after the scale that the file declares" if is_declared else ""
        raise UserError(
            path,
            f"its brightest band has a median of {brightest:.4g} and all bands a brightest thousandth of "
            f"{top * unit:.4g}{by}, which is no {kind}; give reflectance, or reflectance x {DN:,.0f}"
            + ("" if is_seen else ", or say that it is with --s2-units"),
        )
    return unit


def _darkest(
    path: Path,
    dataset: Stack,
    stored: Float[np.ndarray, "10 pixel"],
    cirrus: int | None,
    slope: float,
    start: float,
) -> float:
    """Digital number of the darkest pixels, before an offset is removed.

    It is the median of the cirrus band if there is one, since water vapour hides the ground there. Otherwise it is the
    minimum of the ten bands. Water, shadow or the short-wave infrared comes near 0 in any scene but a bright desert.
    Zeros and impossible reflectance are left out.
    """
    if cirrus is not None:
        water_vapour = sample(path, dataset, [cirrus])
        water_vapour = water_vapour[water_vapour != 0]
        if water_vapour.size:
            dark = float(np.median(water_vapour)) * slope + start
            if dark > _OFFSET_TO:
                raise UserError(
                    path, f"B10 has a median of {dark:.0f} of {DN:.0f}, which is no cirrus band; {dataset.naming}"
                )
            return dark
    numbers = stored * slope + start
    told = (stored != 0) & (numbers >= REFLECTANCE[0] * DN) & (numbers <= REFLECTANCE[1] * DN + OFFSET_DN)
    kept = [band[where] for band, where in zip(numbers, told, strict=True) if where.any()]
    return min_without_fill(kept, _DARKEST)


def _offset(
    path: Path, dataset: Stack, dark: float, asked: float | None, declared: tuple[float, str] | None
) -> tuple[float, str]:
    """The offset to remove, in digital numbers, and the evidence for it."""
    seen = 0.0 if dark < _NONE_BELOW else OFFSET_DN if _OFFSET_FROM <= dark <= _OFFSET_TO else None
    pixels = f"its darkest pixels stand at {dark:.0f} of {DN:.0f}"
    if asked is not None:
        against = "" if seen in (None, asked) else f"; warning: {pixels}, as with an offset of {seen:g}"
        return asked, f"offset {asked:g} by --s2-offset{against}"
    said = _said_by_product(path, dataset) or declared or _said_by_name(path)
    if said is None and seen is None:
        raise UserError(
            path, f"{pixels}, as neither without nor with the offset of 1000; say which with --s2-offset 0 or 1000"
        )
    if said is None:
        assert seen is not None
        return seen, f"offset {seen:g} by its pixels: {pixels}"
    offset, by = said
    if seen not in (None, offset):
        raise UserError(
            path,
            f"{by} means an offset of {offset:g}, but {pixels}, as with an offset of {seen:g}; say which it is with "
            f"--s2-offset {offset:g} or --s2-offset {seen:g}",
        )
    return offset, f"offset {offset:g} by {by}; {pixels}"


def _said_by_product(path: Path, dataset: Stack) -> tuple[float, str] | None:
    if dataset.stated is not None and dataset.stated.offset is not None:
        return dataset.stated.offset, dataset.stated.offset_by
    tags = [dataset.tags(number) for number in range(1, dataset.count + 1)]
    stated = {
        (key, value.strip())
        for one in tags
        for key, value in one.items()
        if re.match(r"(BOA|RADIO)_ADD_OFFSET", key.upper())
    }
    if not stated:
        return None
    key, text = min(stated)
    values = {value for _, value in stated}
    if len(values) > 1 or text.lstrip("+-") not in ("0", "0.0", "1000", "1000.0"):
        raise UserError(path, f"its tags state {', '.join(sorted(values))} as {key}; expected -1000 or 0 for all bands")
    return abs(float(text)), f"its tag {key} {text}"


def _said_by_name(path: Path) -> tuple[float, str] | None:
    baseline = re.search(r"_N(\d{4})_", path.name)
    if baseline is None:
        return None
    return OFFSET_DN * (int(baseline[1]) / 100 >= FIRST_WITH_OFFSET), f"the baseline N{baseline[1]} in its name"
