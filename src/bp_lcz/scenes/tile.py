"""Own Sentinel scenes into patches: co-registered GeoTIFFs to So2Sat's keys and geo files.

Sentinel-2 gives the grid: north-up, 10 m, in its own projected coordinates, or in the local UTM zone where it is
not so. Sentinel-1 and labels are warped onto it while they are read, in strips of 32 rows, so memory grows with
the width of a scene and not with its area.
"""

import json
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from jaxtyping import Bool, Float, Int, Num, Shaped
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.warp import calculate_default_transform, transform_bounds
from rasterio.windows import Window
from tqdm import tqdm

from bp_lcz.bands import PATCH_SIDE, SEN1_BANDS, SEN2_BANDS, Channels
from bp_lcz.errors import UserError
from bp_lcz.scenes.split import SplitRule, counted, new_folder, write_splits
from bp_lcz.scheme import CLASS_COUNT, CODES, NAMES
from bp_lcz.so2sat.geo import PIXEL_M, geo_file_of, world_files
from bp_lcz.so2sat.layout import KEYS
from bp_lcz.so2sat.writer import new_patches

INTENSITIES = ("VH_lee_intensity", "VV_lee_intensity")
PATCHES = "patches.h5"
OFFSET_DN = 1000.0
"""Added to digital numbers of Sentinel-2 from processing baseline 04.00 on (25 January 2022)."""

CELL = slice(11, 21)
"""The 100 m cell in the middle of a patch, in pixels: what its label is about."""

_L1C = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
_ORDERS = {10: SEN2_BANDS, 12: tuple(band for band in _L1C if band != "B10"), 13: _L1C}
_WEB_MERCATOR = 3857  # its metres are none on the ground
_DARK = 0.001
_SAMPLE_SIDE = 1000


@dataclass(frozen=True)
class TileOptions:
    """What the files do not say, or say wrongly.

    Attributes:
        city: name in the geo file; None takes that of the output folder.
        stride_m: between corners of neighbouring patches, a multiple of 10 m.
        s1_units: of intensities: ``db``, ``linear`` or ``auto``, which takes negative values for decibels.
        s2_units: ``dn``, ``reflectance`` or ``auto``, which takes whole numbers, or a median above 10, for
            digital numbers.
        s2_offset: in digital numbers; None looks for it.
        s1_bands: ``VV`` and ``VH`` in stored order; None reads the bands' descriptions.
        s2_bands: names in stored order, such as ``B02``; None reads the bands' descriptions.
        min_share: of the cell in a patch's middle that its class must cover.
        split: rule for the splits; None leaves all patches in one file.
    """

    city: str | None = None
    stride_m: int = 100
    s1_units: str = "auto"
    s2_units: str = "auto"
    s2_offset: float | None = None
    s1_bands: tuple[str, ...] | None = None
    s2_bands: tuple[str, ...] | None = None
    min_share: float = 0.5
    split: SplitRule | None = field(default_factory=SplitRule)

    def __post_init__(self) -> None:
        if self.city is not None and not self.city.strip():
            raise UserError("--city", "expected a name; leave it out to take that of the folder")
        if self.s2_offset not in (None, 0.0, OFFSET_DN):
            raise UserError(f"--s2-offset {self.s2_offset:g}", f"expected 0 or {OFFSET_DN:g}")
        for option, value, known in (
            ("--s1-units", self.s1_units, ("auto", "db", "linear")),
            ("--s2-units", self.s2_units, ("auto", "dn", "reflectance")),
        ):
            if value not in known:
                raise UserError(f"{option} {value}", f"expected {', '.join(known)}")
        if self.stride_m <= 0 or self.stride_m % PIXEL_M:
            raise UserError(f"--stride {self.stride_m}", f"expected a positive multiple of {PIXEL_M:g} m")
        if not 0 < self.min_share <= 1:
            raise UserError(f"--min-share {self.min_share:g}", "expected a share above 0, at most 1")


@dataclass(frozen=True)
class _Grid:
    crs: CRS
    transform: Affine
    width: int
    height: int


class _Layer:
    """A raster on the grid, read in strips of 32 rows."""

    def __init__(self, path: Path, dataset: Any, bands: Sequence[int]) -> None:
        self._path, self._dataset, self._bands = path, dataset, list(bands)

    def strip(self, row: int) -> tuple[Num[np.ndarray, "band 32 width"], Bool[np.ndarray, "32 width"]]:
        """Values, and where all of them are known."""
        window = Window(0, row, self._dataset.width, PATCH_SIDE)
        with _reading(self._path):
            values = self._dataset.read(self._bands, window=window)
            known = (self._dataset.read_masks(self._bands, window=window) != 0).all(axis=0)
        return values, known & np.isfinite(values).all(axis=0)


def cut_scenes(
    s1: Path, s2: Path, out: Path, labels: Path | None, label_map: Path | None, options: TileOptions
) -> list[str]:
    """Cut scenes into a data set.

    Args:
        s1: Sentinel-1, calibrated: VV and VH intensities in decibels or linear power, or So2Sat's eight channels.
        s2: Sentinel-2 with 10, 12 or 13 bands, or any that have descriptions.
        out: folder to make: three splits and their geo files, or ``patches.h5`` and ``patches_geo.h5`` without
            labels or without a rule for splits. Without labels there is no key ``label``.
        labels: raster of local climate zones: 1..17, or 1..10 and 101..107; everything else is unlabelled.
        label_map: JSON from the values of another raster to codes ``1``..``10``, ``A``..``G`` or null; its labels
            are headed as weak.
        options: see there.

    Returns:
        What was found and done, in lines.

    Raises:
        UserError: if a file is unreadable, has no coordinates or other bands than expected, the scenes do not
            overlap, VV and VH seem swapped, units make no sense, or no patch remains.
    """
    with ExitStack() as stack:
        optical, radar = (stack.enter_context(_open(path)) for path in (s2, s1))
        zones = None if labels is None else stack.enter_context(_open(labels))
        for path, other in ((s1, radar), (labels, zones)):
            if path is not None and other is not None:
                _check_overlap(path, other, s2, optical)
        grid, notes = _grid(s2, optical)
        sen2_bands = _sen2_bands(s2, optical, options.s2_bands)
        to_reflectance, said = _reflectance(s2, optical, sen2_bands, options)
        notes.append(said)
        sen1 = _sen1_bands(s1, radar, options.s1_bands)
        is_db, said = _radar_units(s1, radar, sen1, options.s1_units)
        notes.append(said)
        layers = {
            "sen2": _layer(stack, s2, optical, grid, list(sen2_bands.values()), Resampling.bilinear),
            "sen1": _layer(stack, s1, radar, grid, list(sen1.values()), Resampling.bilinear),
        }
        lookup = None
        if zones is not None and labels is not None:
            layers["label"] = _layer(stack, labels, zones, grid, [1], Resampling.nearest)
            lookup = _class_lookup(labels, zones, label_map)
        writer = _Strips(layers, grid, to_reflectance, is_db, lookup, options)
        folder = stack.enter_context(new_folder(out))
        path = folder / PATCHES
        source = None if labels is None else _source(labels, label_map)
        notes += writer.write(path, tuple(sen1), options.city or out.name or "city", source)
        if not writer.kept:
            raise UserError(s2, f"no patch remains: {'; '.join(writer.losses())}")
        if labels is not None:
            notes.append(f"{labels.name}: {writer.classes()}")
        if labels is None or options.split is None:
            return [*notes, f"{PATCHES}  {counted(writer.kept, 'patch')}"]
        notes += write_splits([path], folder, options.split)
        for file in (path, geo_file_of(path)):
            file.unlink()
        return notes


class _Strips:
    """Reads strips of all layers and writes the patches that are whole."""

    def __init__(
        self,
        layers: dict[str, _Layer],
        grid: _Grid,
        to_reflectance: tuple[float, float],
        is_db: bool,
        lookup: dict[int, int] | None,
        options: TileOptions,
    ) -> None:
        self._layers, self._grid, self._lookup, self._options = layers, grid, lookup, options
        self._scale, self._shift = to_reflectance
        self._is_db = is_db
        self.kept = self._no_data = self._unlabelled = 0
        self._classes = np.zeros(CLASS_COUNT, dtype=np.int64)

    def losses(self) -> list[str]:
        """How many patches were dropped, and why."""
        lines = [f"{counted(self._no_data, 'patch')} without data in some pixel dropped"]
        if self._lookup is not None:
            unlabelled = counted(self._unlabelled, "patch")
            lines.append(f"{unlabelled} without a class on {self._options.min_share:.0%} of the cell in the middle")
        return lines

    def classes(self) -> str:
        """The classes of the patches that were kept, for a reader to see whether the labels mean what they should."""
        found = [f"{CODES[c]} ({NAMES[c]}) {self._classes[c]:,}" for c in np.flatnonzero(self._classes)]
        return f"patches of LCZ {', '.join(found)}"

    def write(self, path: Path, sen1_bands: tuple[str, ...], city: str, source: str | None) -> list[str]:
        """Write the patches and their geo file; return `losses`."""
        step = int(self._options.stride_m // PIXEL_M)
        rows = range(0, self._grid.height - PATCH_SIDE + 1, step)
        epsg, west, north = self._grid.crs.to_epsg(), self._grid.transform.c, self._grid.transform.f
        name = city.encode()
        with new_patches(
            path,
            Channels(sen1_bands, SEN2_BANDS),
            dtype=dict.fromkeys(KEYS, np.float32),
            has_labels=self._lookup is not None,
            source=source,
            city_bytes=len(name),
        ) as writer:
            for row in tqdm(rows, desc="tile", unit="strip"):
                columns, arrays = self._patches(row, step)
                places = {
                    "epsg": np.full(len(columns), epsg),
                    "tfw": world_files(west + PIXEL_M * columns, np.full(len(columns), north - PIXEL_M * row)),
                    "city": np.full(len(columns), name),
                }
                writer.add(**arrays, **places)
            self.kept = writer.count
        return self.losses()

    def _patches(self, row: int, step: int) -> tuple[Int[np.ndarray, " patch"], dict[str, np.ndarray]]:
        """Columns and arrays of the whole patches of one strip."""
        sen2, known = self._layers["sen2"].strip(row)
        sen1, seen = self._layers["sen1"].strip(row)
        # Undeclared fill: products write 0 in every band.
        known = known & seen & (sen2 != 0).any(axis=0) & (sen1 != 0).any(axis=0)
        keep = np.asarray(_windows(known[None], step).reshape(-1, PATCH_SIDE**2).all(axis=1))
        self._no_data += int((~keep).sum())
        arrays: dict[str, np.ndarray] = {}
        if self._lookup is not None:
            values, labelled = self._layers["label"].strip(row)
            classes = _windows(_mapped(values, labelled, self._lookup), step)[:, CELL, CELL, 0].reshape(len(keep), -1)
            counts = (classes[..., None] == np.arange(CLASS_COUNT)).sum(axis=1)
            is_labelled = counts.max(axis=1) >= self._options.min_share * classes.shape[1]
            self._unlabelled += int((keep & ~is_labelled).sum())
            keep &= is_labelled
            kept = counts.argmax(axis=1)[keep]
            self._classes += np.bincount(kept, minlength=CLASS_COUNT)
            arrays["label"] = np.eye(CLASS_COUNT, dtype=np.float32)[kept]
        columns = np.flatnonzero(keep)
        power = 10 ** (sen1.astype(np.float64) / 10) if self._is_db else sen1
        # Removing the offset can leave noise below 0, which no reflectance is.
        reflectance = np.maximum(sen2.astype(np.float64) * self._scale + self._shift, 0)
        for key, scene in (("sen1", power), ("sen2", reflectance)):
            arrays[key] = _windows(scene.astype(np.float32), step)[columns]
        return columns * step, arrays


def _windows(strip: Shaped[np.ndarray, "band 32 width"], step: int) -> Shaped[np.ndarray, "patch 32 32 band"]:
    """Patches of a strip, a view."""
    view = np.lib.stride_tricks.sliding_window_view(strip, PATCH_SIDE, axis=2)[:, :, ::step]
    return view.transpose(2, 1, 3, 0)


def _mapped(
    values: Num[np.ndarray, "1 32 width"], known: Bool[np.ndarray, "32 width"], lookup: dict[int, int]
) -> Int[np.ndarray, "1 32 width"]:
    """Class index 0..16 of each pixel, -1 where there is none."""
    whole, place = np.unique(np.where(known, values[0], 0), return_inverse=True)
    classes = np.array([lookup.get(int(value), -1) for value in whole])[place].reshape(known.shape)
    return np.where(known, classes, -1)[None]


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    if not path.exists():
        raise UserError(path, "not found")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # said below, as an error
            dataset = rasterio.open(path)
    except RasterioError:
        raise UserError(path, "not a readable GeoTIFF") from None
    with dataset:
        if dataset.crs is None or dataset.transform.is_identity:
            raise UserError(path, "has no coordinate reference system; georeference it first (gdal_edit.py -a_srs)")
        yield dataset


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Errors of GDAL as one line; rasterio's own text refers to the exception from which it raises."""
    try:
        yield
    except RasterioError as error:
        cause = " ".join(str(error.__cause__ or error).split())
        raise UserError(path, f"cannot be read (truncated or corrupted?): {cause}") from None


def _check_overlap(path: Path, dataset: Any, reference: Path, other: Any) -> None:
    left, bottom, right, top = transform_bounds(dataset.crs, other.crs, *dataset.bounds)
    here = other.bounds
    if right <= here.left or left >= here.right or top <= here.bottom or bottom >= here.top:
        raise UserError(path, f"does not overlap {reference}; are they of one place?")


def _grid(path: Path, optical: Any) -> tuple[_Grid, list[str]]:
    """The grid of the patches, and what had to be done for it."""
    crs, transform, epsg = optical.crs, optical.transform, optical.crs.to_epsg()
    is_grid = (
        crs.is_projected
        and epsg not in (None, _WEB_MERCATOR)
        and np.isclose(crs.linear_units_factor[1], 1)
        and np.allclose([transform.a, transform.b, transform.d, transform.e], [PIXEL_M, 0, 0, -PIXEL_M], atol=1e-6)
    )
    if is_grid:
        grid, notes = _Grid(crs, transform, optical.width, optical.height), []
    else:
        west, south, east, north = transform_bounds(crs, "EPSG:4326", *optical.bounds)
        zone = int((west + east) / 2 + 180) // 6 % 60 + 1
        utm = CRS.from_epsg((32600 if south + north >= 0 else 32700) + zone)
        transform, width, height = calculate_default_transform(
            crs, utm, optical.width, optical.height, *optical.bounds, resolution=PIXEL_M
        )
        grid = _Grid(utm, transform, int(width), int(height))
        notes = [f"{path.name}: warped to 10 m in {utm.to_string()}"]
    if min(grid.width, grid.height) < PATCH_SIDE:
        raise UserError(path, f"{grid.width} x {grid.height} pixels of 10 m are less than one patch of {PATCH_SIDE}")
    return grid, notes


def _layer(stack: ExitStack, path: Path, dataset: Any, grid: _Grid, bands: list[int], resampling: Resampling) -> _Layer:
    is_same = (
        dataset.crs == grid.crs
        and dataset.transform.almost_equals(grid.transform, 1e-6)
        and (dataset.width, dataset.height) == (grid.width, grid.height)
    )
    if is_same:
        return _Layer(path, dataset, bands)
    # Where nothing else says what is unknown, an alpha band does.
    has_mask = dataset.nodata is not None or ColorInterp.alpha in dataset.colorinterp
    warped = stack.enter_context(
        WarpedVRT(
            dataset,
            crs=grid.crs,
            transform=grid.transform,
            width=grid.width,
            height=grid.height,
            resampling=resampling,
            add_alpha=not has_mask,
        )
    )
    return _Layer(path, warped, bands)


def _sen2_bands(path: Path, optical: Any, named: tuple[str, ...] | None) -> dict[str, int]:
    """Number, from 1 on, of each of So2Sat's ten bands; ``B10`` too where there is one."""
    if named is not None:
        names = [_band_name(name) for name in named]
        if len(names) != optical.count:
            raise UserError(path, f"has {optical.count} bands, but --s2-bands names {len(names)}")
    else:
        names = [_band_name(text or "") for text in optical.descriptions]
        if not any(names):
            if optical.count not in _ORDERS:
                known = ", ".join(map(str, _ORDERS))
                raise UserError(path, f"has {optical.count} bands without names; expected {known} bands or --s2-bands")
            names = list(_ORDERS[optical.count])
    found = {name: number for number, name in enumerate(names, start=1) if name}
    missing = [band for band in SEN2_BANDS if band not in found]
    if missing:
        raise UserError(path, f"lacks the Sentinel-2 bands {', '.join(missing)}; name all bands with --s2-bands")
    return {band: found[band] for band in SEN2_BANDS}


def _band_name(text: str) -> str:
    match = re.match(r"\s*(?:B|BAND)[\s_]*0?(\d{1,2})(A?)\b", text.upper()) or re.match(r"\s*0?(\d{1,2})(A?)\s*$", text)
    if match is None:
        return ""
    name = f"B{int(match[1]):02d}" if not match[2] else f"B{int(match[1])}A"
    return name if name in _L1C else ""


def _sen1_bands(path: Path, radar: Any, named: tuple[str, ...] | None) -> dict[str, int]:
    """Number, from 1 on, of each of the scene's channels, by So2Sat's name and in its order."""
    if radar.count == len(SEN1_BANDS) and named is None:
        return {band: number for number, band in enumerate(SEN1_BANDS, start=1)}
    if any(str(kind).startswith("complex") for kind in radar.dtypes):  # complex_int16 is no type of NumPy
        raise UserError(path, "holds complex numbers; give calibrated intensities, or So2Sat's eight real channels")
    if named is not None and len(named) != radar.count:
        raise UserError(path, f"has {radar.count} bands, but --s1-bands names {len(named)}")
    texts = list(named) if named is not None else [text or "" for text in radar.descriptions]
    found: dict[str, int] = {}
    for number, text in enumerate(texts, start=1):
        words = re.split(r"[^A-Z0-9]+", text.upper())
        for polarisation, band in (("VH", INTENSITIES[0]), ("VV", INTENSITIES[1])):
            if polarisation in words:
                found.setdefault(band, number)
    if not found and named is None and radar.count == 2:
        found = {INTENSITIES[1]: 1, INTENSITIES[0]: 2}  # VV first, as in every product of dual polarisation
    if set(found) != set(INTENSITIES):
        raise UserError(
            path,
            f"has {radar.count} bands, of which VV and VH are not known; expected 2 or "
            f"{len(SEN1_BANDS)} bands, or --s1-bands such as VV,VH",
        )
    return {band: found[band] for band in INTENSITIES}


def _sample(path: Path, dataset: Any, bands: Sequence[int]) -> Float[np.ndarray, "band pixel"]:
    """Known pixels of the whole scene, thinned out for a large one."""
    shape = [min(side, _SAMPLE_SIDE) for side in (dataset.height, dataset.width)]
    with _reading(path):
        values = dataset.read(list(bands), out_shape=(len(bands), *shape)).astype(np.float64)
        known = (dataset.read_masks(list(bands), out_shape=(len(bands), *shape)) != 0).all(axis=0)
    known &= np.isfinite(values).all(axis=0) & (values != 0).any(axis=0)
    return values[:, known]


def _reflectance(
    path: Path, optical: Any, bands: dict[str, int], options: TileOptions
) -> tuple[tuple[float, float], str]:
    """Scale and shift from stored values to reflectance, and what was found."""
    numbers = list(bands.values())
    scales, shifts = ({values[n - 1] for n in numbers} for values in (optical.scales, optical.offsets))
    values = _sample(path, optical, numbers)
    if not values.size:
        raise UserError(path, "holds no data")
    if options.s2_units == "auto" and options.s2_offset is None and (scales, shifts) != ({1.0}, {0.0}):
        if len(scales) > 1 or len(shifts) > 1:
            raise UserError(path, "its bands declare different scales or offsets")
        scale, shift = scales.pop(), shifts.pop()
        return (scale, shift), f"{path.name}: reflectance by the file's own scale {scale:g} and offset {shift:g}"
    is_dn = options.s2_units == "dn" or (
        options.s2_units == "auto" and ("int" in optical.dtypes[0] or np.median(values) > 10)
    )
    unit = 10_000.0 if is_dn else 1.0
    offset = options.s2_offset
    if offset is None:
        offset = OFFSET_DN if _carries_offset(path, optical, values, unit) else 0.0
        said = f"the +{OFFSET_DN:g} offset of processing baseline 04.00 found and removed" if offset else "no offset"
    else:
        said = f"offset {offset:g} as asked"
    kind = "digital numbers" if is_dn else "reflectance"
    return (1 / unit, -offset / 10_000), f"{path.name}: {kind}, {said}"


def _carries_offset(path: Path, optical: Any, values: Float[np.ndarray, "band pixel"], unit: float) -> bool:
    """Whether the darkest pixels stand at 0.1 rather than near 0.

    Of the cirrus band the median tells, since no ground shines through water vapour; without it, the darkest of
    the ten bands, which in water, shadow or the short-wave infrared comes near 0 in any scene but a bright desert.
    """
    names = [_band_name(text or "") for text in optical.descriptions]
    cirrus = names.index("B10") + 1 if "B10" in names else 11 if optical.count == 13 and not any(names) else None
    dark = np.quantile(values, _DARK, axis=1).min() if cirrus is None else np.median(_sample(path, optical, [cirrus]))
    return bool(dark * 10_000 / unit >= OFFSET_DN)


def _radar_units(path: Path, radar: Any, bands: dict[str, int], asked: str) -> tuple[bool, str]:
    """Whether intensities are in decibels, and what was found."""
    if tuple(bands) != INTENSITIES:
        if asked == "db":
            raise UserError(path, "complex channels are linear; --s1-units db is for intensities")
        return False, f"{path.name}: So2Sat's eight channels, linear"
    values = _sample(path, radar, list(bands.values()))
    if not values.size:
        raise UserError(path, "holds no data")
    is_db = asked == "db" or (asked == "auto" and bool((values < 0).any()))
    if not is_db and (values < 0).any():
        raise UserError(path, "negative values are no linear power; leave out --s1-units linear")
    vh, vv = np.median(values, axis=1)
    if not is_db and vv > 10:
        raise UserError(path, f"median VV of {vv:.4g}: not calibrated? Give sigma or gamma nought")
    if vh > vv:
        raise UserError(path, "VH is brighter than VV, so they seem swapped; name them with --s1-bands VH,VV")
    return is_db, f"{path.name}: VV and VH in {'decibels' if is_db else 'linear power'}"


def _class_lookup(path: Path, zones: Any, label_map: Path | None) -> dict[int, int]:
    """Class index of each value of the raster that has one."""
    if label_map is None:
        lookup = {value: value - 1 for value in range(1, CLASS_COUNT + 1)}
        lookup |= {101 + i: 10 + i for i in range(7)}  # A..G as WUDAPT's generator writes them
        found = {int(value) for value in np.unique(_sample(path, zones, [1]))} - set(lookup)
        if found:
            some = ", ".join(map(str, sorted(found)[:5]))
            raise UserError(path, f"{some}: no local climate zones (1..17, or 1..10 and 101..107); give --label-map")
        return lookup
    try:
        content = json.loads(label_map.read_text(encoding="utf-8"))
        pairs = {int(value): code for value, code in content.items()}
    except FileNotFoundError:
        raise UserError(label_map, "not found") from None
    except (ValueError, AttributeError):
        raise UserError(label_map, 'expected JSON such as {"1": "G", "2": "A", "3": null}') from None
    unknown = [code for code in pairs.values() if code is not None and str(code) not in CODES]
    if unknown:
        raise UserError(label_map, f"unknown LCZ {unknown[0]!r}; known: {', '.join(CODES)}")
    missing = {int(value) for value in np.unique(_sample(path, zones, [1]))} - set(pairs)
    if missing:
        raise UserError(label_map, f"says nothing of {', '.join(map(str, sorted(missing)[:5]))} in {path.name}")
    return {value: CODES.index(str(code)) for value, code in pairs.items() if code is not None}


def _source(labels: Path, label_map: Path | None) -> str:
    if label_map is None:
        return f"raster of local climate zones {labels.name}, majority of the 100 m cell in the middle of a patch"
    return f"weak labels: {labels.name} mapped to local climate zones by {label_map.name}"
