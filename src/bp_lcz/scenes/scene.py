"""Scenes on one grid of 10 m, read in strips. Tiles and maps are made from them.

The grid is snapped to multiples of 100 m, mostly in a UTM zone. So cells of two tiles, dates or crops are the same
ground. The values of a strip do not depend on what was read before, and memory grows with a scene's width only.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import rasterio
import shapely
from affine import Affine
from jaxtyping import Bool, Float32, Int
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.features import rasterize
from rasterio.warp import transform_bounds
from shapely import Polygon, union_all
from shapely.geometry.base import BaseGeometry

from bp_lcz.bands import PATCH_SIDE, SCL_UNUSABLE, SEN2_BANDS, Channels, Level
from bp_lcz.errors import UsageError, UserError
from bp_lcz.records import SceneFindings
from bp_lcz.scenes.areas import read_area
from bp_lcz.scenes.mosaic import MosaicPart, check_parts, merged
from bp_lcz.scenes.turned import note_turned
from bp_lcz.sensors.lee import LEE_LOOKS, LEE_WINDOW
from bp_lcz.sensors.misplaced import misplaced_bands
from bp_lcz.sensors.products import open_optical, open_radar
from bp_lcz.sensors.raster import (
    CELL,
    CELL_M,
    CELL_PIXELS,
    Grid,
    Layer,
    cell_grid,
    check_overlap,
    grid_crs,
    on_grid,
    opened,
    outline,
    pixel_grid,
)
from bp_lcz.sensors.sampling import sample
from bp_lcz.sensors.sentinel1 import INTENSITIES, Radar, read_radar
from bp_lcz.sensors.sentinel1 import UNITS as S1_UNITS
from bp_lcz.sensors.sentinel2 import OFFSET_DN, Optical, read_optical
from bp_lcz.sensors.stack import Stack, StackLayer
from bp_lcz.so2sat.geo import PIXEL_M
from bp_lcz.words import counted

_CHUNK = 64
"""Rows that are read together, at fixed northings."""
_DRAWN = 8
"""Chunks whose outlines are rasterised together."""
_HIGHEST_SCL = 11
_COARSEST_M = 100
"""Largest side of a pixel in m. Those of Sentinel-2 are 10 to 60 m."""
_CACHE_BYTES = 256 * 2**20
"""GDAL's cache of decoded blocks. It holds a row of blocks of 1024 x 1024 of all bands of a Sentinel-2 tile."""


@dataclass(frozen=True)
class SceneOptions:
    """Files, and what their metadata lack or state wrongly.

    Attributes:
        s2: scenes of Sentinel-2.
        s1: scenes of Sentinel-1, if there are any.
        s2_units: ``dn``, ``reflectance`` or ``auto``. The last takes whole numbers, or a median above 10, as
            digital numbers.
        s2_offset: offset in digital numbers, 0 or 1000; None looks for it.
        s2_bands: names in stored order, such as ``B02``; None reads the bands' descriptions.
        s1_units: unit of intensities: ``db``, ``linear``, ``amplitude`` or ``auto``. The last takes the one of the
            first two to which nearly all values belong.
        s1_bands: ``VV`` and ``VH`` in stored order; None reads the bands' descriptions.
        s1_filter: filter of intensities, ``none`` or ``lee``.
        s2_level: ``L1C`` or ``L2A``; None looks for it.
        mask: raster whose pixels of some values are left out, such as the scene classification (SCL) of Level 2A.
        mask_values: these values; None takes `SCL_UNUSABLE`. Pixels that the mask does not know count as 0.
        area: area to which the scene is cut: a file of polygons, or ``W,S,E,N`` in degrees.
        crs: projection of the grid, in metres; None takes that of the first file, or its UTM zone.
    """

    s2: tuple[Path, ...]
    s1: tuple[Path, ...] = ()
    s2_units: str = "auto"
    s2_offset: float | None = None
    s2_bands: tuple[str, ...] | None = None
    s1_units: str = "auto"
    s1_bands: tuple[str, ...] | None = None
    s1_filter: str = "none"
    s2_level: str | None = None
    mask: Path | None = None
    mask_values: tuple[int, ...] | None = None
    area: str | None = None
    crs: str | None = None

    def __post_init__(self) -> None:
        radar = {
            "--s1-units": self.s1_units != "auto",
            "--s1-bands": self.s1_bands is not None,
            "--s1-filter": self.s1_filter != "none",
        }
        for given, needed, options in (
            (self.s1, "--s1", radar),
            (self.mask, "--mask", {"--mask-values": self.mask_values is not None}),
        ):
            for option in [option for option, is_said in options.items() if is_said and not given]:
                raise UsageError(option, f"is about a file that is not given; name that with {needed}, too")
        if not self.s2:
            raise UserError("--s2", "expected a scene of Sentinel-2")
        if self.s2_offset not in (None, 0.0, OFFSET_DN):
            raise UserError(f"--s2-offset {self.s2_offset:g}", f"expected 0 or {OFFSET_DN:g}")
        for option, value, known in (
            ("--s1-units", self.s1_units, S1_UNITS),
            ("--s2-units", self.s2_units, ("auto", "dn", "reflectance")),
            ("--s1-filter", self.s1_filter, ("none", "lee")),
            ("--s2-level", self.s2_level or "L1C", get_args(Level)),
        ):
            if value not in known:
                raise UserError(f"{option} {value}", f"expected {', '.join(known)}")


@dataclass(frozen=True)
class Strip:
    """Rows of a scene on its grid.

    Attributes:
        sen1: linear power; no channels without Sentinel-1.
        sen2: reflectance.
        sen1_known: where `sen1` is known; everywhere without Sentinel-1.
        sen2_known: where `sen2` is known.
        masked: where the mask excludes pixels.
        outside: where no raster of Sentinel-2 lies.
    """

    sen1: Float32[np.ndarray, "channel row width"]
    sen2: Float32[np.ndarray, "band row width"]
    sen1_known: Bool[np.ndarray, "row width"]
    sen2_known: Bool[np.ndarray, "row width"]
    masked: Bool[np.ndarray, "row width"]
    outside: Bool[np.ndarray, "row width"]


class Scene:
    """Open scenes on one grid. `opened_scene` makes it.

    Attributes:
        grid: pixels of 10 m. Its corner is 110 m west and north of a multiple of 100 m, so that the cell (i, j), 100 m
            square, is the pixels 10 i + 11 to 10 i + 20 and its patch the rows 10 i to 10 i + 31, columns likewise.
            Every cell that the scene touches is in it.
        channels: channels that are present.
        level: ``L1C`` or ``L2A``; None if unknown.
        area: area to which the scene is cut, in the grid's coordinates.
        findings: what was found in each file.
        lines: the same as messages.
        first: the first file of Sentinel-2 and its open raster.
        ground: grid on which files are read: `grid`, moved by less than a pixel onto the first raster's pixels.
    """

    def __init__(
        self,
        grid: Grid,
        ground: Grid,
        sen1: Sequence[MosaicPart],
        sen2: Sequence[MosaicPart],
        lines: list[str],
        first: tuple[Path, Any],
        area: BaseGeometry | None = None,
        mask: tuple[Layer, tuple[int, ...]] | None = None,
    ) -> None:
        self.ground, self.first, self.area, self._mask = ground, first, area, mask
        self.grid, self._parts, self.lines = grid, {"sen1": list(sen1), "sen2": list(sen2)}, lines
        self.channels = Channels(tuple(sen1[0].form.bands) if sen1 else (), SEN2_BANDS)
        levels = {part.form.level for part in sen2}
        self.level = levels.pop() if len(levels) == 1 else None
        files = [part for parts in self._parts.values() for part in parts]
        for part in files:
            part.strange = 0  # pixels counted during the checks are read again
        self.findings = SceneFindings(
            crs=grid.crs.to_string(), level=self.level, files=tuple(part.findings for part in files)
        )
        self._first = round(-grid.transform.f / PIXEL_M) % _CHUNK
        self._chunks: dict[int, Strip] = {}
        self._drawn: tuple[int, np.ndarray] = (0, np.empty((0, grid.width), dtype=bool))

    @property
    def files(self) -> list[Path]:
        """Files that GDAL reads, except for those in archives."""
        bands = [band for parts in self._parts.values() for part in parts for band in part.scene.bands]
        return [Path(file) for band in bands for file in band.dataset.files]

    @property
    def cells(self) -> tuple[int, int]:
        """Number of cells of 100 m down and across."""
        down, across = ((side - PATCH_SIDE) // CELL_PIXELS + 1 for side in (self.grid.height, self.grid.width))
        return down, across

    def strip(self, row: int, rows: int = PATCH_SIDE) -> Strip:
        """Read rows of the grid.

        Raises:
            UserError: if a file cannot be read there.
        """
        first, last = (at + self._first for at in (row, row + rows))
        numbers = range(first // _CHUNK, (last - 1) // _CHUNK + 1)
        self._chunks = {number: chunk for number, chunk in self._chunks.items() if number in numbers}
        pieces = []
        for number in numbers:
            start = number * _CHUNK
            if number not in self._chunks:
                self._chunks[number] = self._read(start - self._first)
            within = slice(max(first - start, 0), min(last - start, _CHUNK))
            pieces.append([values[..., within, :] for values in vars(self._chunks[number]).values()])
        return Strip(*(np.concatenate(values, axis=-2) for values in zip(*pieces, strict=True)))

    def touches(self, row: int, columns: Int[np.ndarray, " patch"]) -> Bool[np.ndarray, " patch"]:
        """Whether the cell of each patch touches the area. Pixels of their upper left corners name the patches."""
        if self.area is None:
            return np.ones(len(columns), dtype=bool)
        place = self.grid.transform
        west = place.c + PIXEL_M * (columns + CELL.start)
        north = place.f - PIXEL_M * (row + CELL.start)
        return shapely.intersects(self.area, shapely.box(west, north - CELL_M, west + CELL_M, north))

    def losses(self) -> list[str]:
        """A line for each file about pixels with impossible values, which count as unknown."""
        return [
            f"{part.path.name}: {counted(part.strange, 'pixel')} with values that no {quantity} has, taken for no data"
            for key, quantity in (("sen1", "backscatter"), ("sen2", "reflectance"))
            for part in self._parts[key]
            if part.strange
        ]

    def _read(self, row: int) -> Strip:
        (sen1, sen1_known), (sen2, sen2_known) = (
            merged(self._parts[key], self.ground, len(getattr(self.channels, key)), row, _CHUNK)
            for key in ("sen1", "sen2")
        )
        masked = np.zeros((_CHUNK, self.grid.width), dtype=bool)
        if self._mask is not None:
            layer, unwanted = self._mask
            values, is_known = layer.read(row, _CHUNK)
            masked = np.isin(np.where(is_known, values[0], 0), unwanted)
        return Strip(sen1, sen2, sen1_known, sen2_known, masked, self._outside(row))

    def _outside(self, row: int) -> Bool[np.ndarray, "row width"]:
        """Where no raster lies. Many rows are rasterised at once, since a call of GDAL is slow."""
        ahead = row - self._drawn[0]
        if not 0 <= ahead < len(self._drawn[1]):
            place = self.ground.transform @ Affine.translation(0, row)
            shapes = [part.shape for part in self._parts["sen2"]]
            inside = rasterize(shapes, (_DRAWN * _CHUNK, self.grid.width), transform=place, dtype=np.uint8)
            self._drawn, ahead = (row, inside == 0), 0
        return self._drawn[1][ahead : ahead + _CHUNK]


@contextmanager
def opened_scene(options: SceneOptions) -> Iterator[Scene]:
    """Open files, find their bands, units and level, and put them on one grid.

    Raises:
        UserError: if a file is unreadable, has no coordinates or other bands than expected, the files do not
            overlap, VV and VH seem swapped, or units, level or offset are not clear.
    """
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES, GDAL_NUM_THREADS="ALL_CPUS"), ExitStack() as stack:
        optical = [open_optical(stack, path) for path in options.s2]
        radar = open_radar(stack, options.s1)
        first = (optical[0].path, optical[0])
        for scene in radar:
            check_overlap(scene.path, scene, *first)
        crs = grid_crs(*first, options.crs)
        shapes = union_all([_outline(scene, crs) for scene in optical])
        west, south, east, north = shapes.bounds
        width, height = round((east - west) / PIXEL_M), round((north - south) / PIXEL_M)
        if min(width, height) < PATCH_SIDE:
            raise UserError(options.s2[0], f"{width} x {height} pixels of 10 m are less than one patch of {PATCH_SIDE}")
        area = None if options.area is None else read_area(options.area, crs)
        wanted = shapes if area is None else area.intersection(shapes)
        if not wanted.area:
            box = ",".join(f"{side:.4f}" for side in transform_bounds(crs, "EPSG:4326", *shapes.bounds))
            raise UserError(options.area, f"lies outside {options.s2[0]}, which shows W,S,E,N {box} degrees")
        grid = cell_grid(crs, wanted.bounds)
        ground, lines = pixel_grid(*first, grid)
        sen2 = [_optical(stack, scene, ground, options) for scene in optical]
        sen1 = [_radar(stack, scene, ground, options) for scene in radar]
        note_turned(sen1, sen2, ground)
        lines += [note for part in (*sen2, *sen1) for note in part.form.notes]
        for parts in (sen2, sen1):
            if len(parts) > 1:
                check_parts(parts, ground)
        mask = None if options.mask is None else _mask(stack, options.mask, first, ground, options, lines)
        yield Scene(grid, ground, sen1, sen2, lines, first, area, mask)


def _outline(scene: Stack, crs: CRS) -> Polygon:
    shape = outline(scene.path, scene, crs)
    side = np.sqrt(shape.area / (scene.width * scene.height))
    if side > _COARSEST_M:
        raise UserError(scene.path, f"has pixels of {side:,.0f} m; expected 10 m, or at most {_COARSEST_M:g}")
    return shape


def _optical(stack: ExitStack, scene: Stack, grid: Grid, options: SceneOptions) -> MosaicPart:
    form = read_optical(scene.path, scene, options.s2_bands, options.s2_units, options.s2_offset, options.s2_level)
    form.notes.extend(misplaced_bands(scene.path, scene, list(form.bands.values())))
    layer = _layer(stack, scene, form, grid)
    if layer.is_resampled:
        note = f"{scene.path.name}: warped to 10 m in {grid.crs.to_string()}; pixels made anew change zones"
        form.notes.append(note)
    return MosaicPart(scene, layer, form, outline(scene.path, scene, grid.crs))


def _radar(stack: ExitStack, scene: Stack, grid: Grid, options: SceneOptions) -> MosaicPart:
    form = read_radar(scene.path, scene, options.s1_bands, options.s1_units)
    is_filtered = options.s1_filter == "lee"
    if is_filtered and tuple(form.bands) != INTENSITIES:
        raise UserError("--s1-filter lee", f"is for two intensities; {scene.path} holds So2Sat's filtered channels")
    if is_filtered:
        form.notes.append(f"{scene.path.name}: Lee filter of {LEE_WINDOW} x {LEE_WINDOW} pixels, {LEE_LOOKS:g} looks")
    return MosaicPart(scene, _layer(stack, scene, form, grid), form, outline(scene.path, scene, grid.crs), is_filtered)


def _layer(stack: ExitStack, scene: Stack, form: Optical | Radar, grid: Grid) -> StackLayer:
    return scene.on_grid(stack, grid, list(form.bands.values()), form.fill, form.fill_alone)


def _mask(
    stack: ExitStack, path: Path, first: tuple[Path, Any], grid: Grid, options: SceneOptions, lines: list[str]
) -> tuple[Layer, tuple[int, ...]]:
    dataset = stack.enter_context(opened(path))
    check_overlap(path, dataset, *first)
    if dataset.count > 1 or np.dtype(dataset.dtypes[0]).kind not in "iu":
        raise UserError(path, "expected a mask of one band of whole numbers, such as SCL")
    values = options.mask_values or SCL_UNUSABLE
    if options.mask_values is None and (sample(path, dataset, [1]) > _HIGHEST_SCL).any():
        raise UserError(
            path, f"holds values above {_HIGHEST_SCL}, so it is no SCL; say those to leave out: --mask-values"
        )
    lines.append(f"{path.name}: pixels of {', '.join(map(str, values))} are masked")
    return on_grid(stack, path, dataset, grid, [1], Resampling.nearest), values
