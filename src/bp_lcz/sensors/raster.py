"""Rasters of any projection, resolution and direction, read on one grid."""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from jaxtyping import Bool, Num
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform, transform_bounds
from rasterio.windows import Window
from shapely import Polygon

from bp_lcz.bands import PATCH_SIDE
from bp_lcz.errors import UserError
from bp_lcz.files import refuse_missing
from bp_lcz.so2sat.geo import PIXEL_M

_WEB_MERCATOR = 3857  # EPSG; its metres are not metres on the ground
_NO_PLACE = "its coordinates are no place that Sentinel sees; take the file as it was, or georeference it anew"
_HIGHEST_LATITUDE = 84.5  # degrees; Sentinel-2 takes no images beyond it
_HALF_TURN = np.pi * 6378137  # easting of 180 degrees in Web Mercator
_MOST_STRETCH = 0.05
"""Largest relative error of a grid's metres: 0.5 % in a neighbouring UTM zone, 5 % at the rim of a continental grid."""
_CLOSE = 1e-4
"""Largest distance of two points that count as the same place, in pixels or cells."""
SIDE_POINTS = 64
"""Points of each side of an outline that is bent in other coordinates."""
_UTM = re.compile(r"32[67]\d\d")
CELL_PIXELS = 10
CELL_M = CELL_PIXELS * PIXEL_M
CELL = slice((PATCH_SIDE - CELL_PIXELS) // 2, (PATCH_SIDE + CELL_PIXELS) // 2)
"""Rows and columns of the 100 m cell in the middle of a patch. The class of a patch describes this cell."""


@dataclass(frozen=True)
class Grid:
    """A north-up grid of pixels of 10 m, in a projection with metres of the ground. Width and height are in pixels."""

    crs: CRS
    transform: Affine
    width: int
    height: int


class Layer:
    """Bands of a raster, read on the grid. The raster may cover any part of it."""

    def __init__(
        self,
        path: Path,
        dataset: Any,
        bands: Sequence[int],
        width: int,
        corner: tuple[int, int] = (0, 0),
        steps: tuple[int, int] = (1, 1),
        alpha: bool = False,
    ) -> None:
        self._path, self._dataset, self._bands, self._width = path, dataset, list(bands), width
        self._top, self._left = corner
        self._down, self._right = steps
        self._alpha = alpha
        self._is_whole = all(dataset.mask_flag_enums[band - 1] == [MaskFlags.all_valid] for band in bands)

    @property
    def is_resampled(self) -> bool:
        """Whether its pixels are interpolated, since they do not match the grid."""
        return isinstance(self._dataset, WarpedVRT)

    def read(self, row: int, rows: int) -> tuple[Num[np.ndarray, "band row width"], Bool[np.ndarray, "row width"]]:
        """Values of some rows, and where all bands are known. Pixels outside the raster are unknown."""
        file = self._dataset
        kind = np.result_type(*(file.dtypes[band - 1] for band in self._bands))
        top, bottom = max(row, self._top), min(row + rows, self._top + file.height)
        left, right = max(0, self._left), min(self._width, self._left + file.width)
        if top >= bottom or left >= right:
            return np.zeros((len(self._bands), rows, self._width), kind), np.zeros((rows, self._width), dtype=bool)
        first = top - self._top if self._down > 0 else self._top + file.height - bottom
        begin = left - self._left if self._right > 0 else self._left + file.width - right
        window = Window(begin, first, right - left, bottom - top)
        is_known = np.ones((bottom - top, right - left), dtype=bool)
        with reading(self._path):
            read = file.read(self._bands, window=window)
            if not self._is_whole:
                is_known &= (file.read_masks(self._bands, window=window) != 0).all(axis=0)
            if self._alpha:  # read_masks ignores the alpha band
                is_known &= file.read(file.count, window=window) != 0
        if read.dtype.kind == "f":
            is_known &= np.isfinite(read).all(axis=0)
        read, is_known = read[:, :: self._down, :: self._right], is_known[:: self._down, :: self._right]
        if is_known.shape == (rows, self._width):
            return read, is_known
        values = np.zeros((len(self._bands), rows, self._width), read.dtype)
        known = np.zeros((rows, self._width), dtype=bool)
        here = np.s_[top - row : bottom - row, left:right]
        values[:, *here], known[here] = read, is_known
        return values, known


@contextmanager
def opened(path: Path, target: str | None = None) -> Iterator[Any]:
    """Open a raster that has coordinates.

    Args:
        path: of the raster.
        target: what GDAL opens, if it differs from the path, as for a file in a zip.

    Raises:
        UserError: if it is missing or unreadable, or has no map coordinates.
    """
    if target is None:
        refuse_missing(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # an error below says it
            dataset = rasterio.open(target or path)
    except (RasterioError, CPLE_BaseError, UnicodeDecodeError):  # the last comes from a coordinate system
        raise UserError(path, "not a readable raster") from None
    with dataset:
        if dataset.crs is None or dataset.transform.is_identity:
            if dataset.gcps[0] or dataset.rpcs is not None:
                raise UserError(
                    path,
                    "has control points in place of a grid: the sensor's own geometry, whose pixels are no places of a "
                    "map (of Sentinel-1 it is uncalibrated, too); give a terrain-corrected product, of Sentinel-1 "
                    "calibrated backscatter such as RTC",
                )
            lacking = "coordinate reference system" if dataset.crs is None else "place in its coordinates"
            raise UserError(path, f"has no {lacking}; take the file that has it, or georeference this one")
        try:
            is_place = not dataset.transform.is_degenerate and np.isfinite(_degrees(dataset)).all()
        except (RasterioError, CPLE_BaseError):
            is_place = False
        if not is_place:
            raise UserError(path, _NO_PLACE)
        yield dataset


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of GDAL into one line with their cause, which rasterio's own text leaves out."""
    try:
        yield
    except (RasterioError, CPLE_BaseError) as error:  # rasterio does not wrap all errors of GDAL
        cause = " ".join(str(error.__cause__ or error).split())
        raise UserError(path, f"cannot be read (truncated or corrupted?): {cause}") from None


def check_overlap(path: Path, dataset: Any, reference: Path, other: Any) -> None:
    """Refuse a raster that shows another place than the reference does."""
    (west, south, east, north), here = _degrees(dataset), _degrees(other)
    # Degrees of longitude begin anew at 180.
    is_beside = all(east + turn <= here[0] or west + turn >= here[2] for turn in (-360, 0, 360))
    if is_beside or north <= here[1] or south >= here[3]:
        raise UserError(path, f"does not overlap {reference}; are they of one place?")


def bounds_of(dataset: Any) -> tuple[float, float, float, float]:
    """West, south, east, north of a raster in its own coordinates, whatever its direction."""
    corners = [dataset.transform @ (x, y) for x in (0, dataset.width) for y in (0, dataset.height)]
    x, y = zip(*corners, strict=True)
    return min(x), min(y), max(x), max(y)


def _degrees(dataset: Any) -> tuple[float, float, float, float]:
    """West, south, east, north in degrees; east is beyond 180 where the raster crosses that meridian."""
    west, south, east, north = transform_bounds(dataset.crs, "EPSG:4326", *bounds_of(dataset))
    return west, south, east + 360 if east < west else east, north


def grid_crs(path: Path, dataset: Any, asked: str | None) -> CRS:
    """Coordinate system of the grid: the one asked for, the raster's own, or its UTM zone.

    Raises:
        UserError: if the one asked for has no EPSG code, or its metres are not metres on the ground there.
    """
    west, south, east, north = bounds_of(dataset)
    middle = [(west + east) / 2], [(south + north) / 2]
    (longitude,), (latitude,) = transform(dataset.crs, "EPSG:4326", *middle)
    if not np.isfinite(longitude) or not abs(latitude) < _HIGHEST_LATITUDE:
        raise UserError(path, _NO_PLACE)
    zone = int((longitude + 180) // 6) % 60 + 1
    utm = CRS.from_epsg((32600 if latitude >= 0 else 32700) + zone)
    (x,), (y,) = transform(dataset.crs, utm, *middle)
    if asked is not None:
        try:
            crs = CRS.from_user_input(asked)
        except CRSError:
            crs = CRS()
        if not _is_metric(crs):
            raise UserError(f"--crs {asked}", "expected a projection in metres such as EPSG:32633, a UTM zone")
        if not _is_true(crs, utm, x, y):
            raise UserError(f"--crs {asked}", f"its metres are none on the ground of {path}; give {utm.to_string()}")
        return crs
    is_fit = _is_metric(dataset.crs) and (_steps(dataset) or _UTM.fullmatch(str(dataset.crs.to_epsg())))
    return dataset.crs if is_fit and _is_true(dataset.crs, utm, x, y) else utm


def _is_true(crs: CRS, utm: CRS, x: float, y: float) -> bool:
    """Whether a kilometre east and a kilometre north of a place in UTM are about one in these coordinates, too."""
    try:
        east, north = np.array(transform(utm, crs, [x, x + 1000, x], [y, y, y + 1000]))
    except (RasterioError, CPLE_BaseError):
        return False
    sides = np.hypot(east[1:] - east[0], north[1:] - north[0]) / 1000
    return bool((abs(sides - 1) < _MOST_STRETCH).all())


def _is_metric(crs: CRS) -> bool:
    return bool(
        crs.is_projected and crs.to_epsg() not in (None, _WEB_MERCATOR) and np.isclose(crs.linear_units_factor[1], 1)
    )


def outline(path: Path, dataset: Any, crs: CRS, points: int | None = None) -> Polygon:
    """The outline of a raster, starting along its first row and its last column. In other coordinates its sides bend.

    Args:
        path: of the raster.
        dataset: the open raster.
        crs: coordinates of the outline.
        points: number for each side; None takes 1 for a straight side and `SIDE_POINTS` for a bent one.

    Raises:
        UserError: if the raster has no place in those coordinates.
    """
    steps = np.linspace(0, 1, points or (1 if dataset.crs == crs else SIDE_POINTS), endpoint=False)
    ones = np.ones_like(steps)
    across = np.concatenate([steps, ones, 1 - steps, 0 * ones]) * dataset.width
    down = np.concatenate([0 * ones, steps, ones, 1 - steps]) * dataset.height
    place = dataset.transform
    x, y = place.a * across + place.b * down + place.c, place.d * across + place.e * down + place.f
    if dataset.crs != crs:
        try:
            x, y = map(np.array, transform(dataset.crs, crs, x, y))
        except (RasterioError, CPLE_BaseError):
            raise UserError(path, f"does not lie within {crs.to_string()}") from None
        if crs.is_geographic:  # longitudes go on beyond 180 degrees
            x = x[0] + (x - x[0] + 180) % 360 - 180
    if not np.isfinite([x, y]).all():
        raise UserError(path, f"does not lie within {crs.to_string()}")
    return Polygon(np.column_stack([x, y]))


def cell_grid(crs: CRS, bounds: tuple[float, float, float, float]) -> Grid:
    """The grid that holds the whole patch of each 100 m cell that touches these bounds.

    Args:
        crs: coordinates of the grid.
        bounds: west, south, east, north in these coordinates.
    """
    west, south, east, north = bounds
    left, bottom = (np.floor(low / CELL_M + _CLOSE) for low in (west, south))
    right, top = (np.ceil(high / CELL_M - _CLOSE) for high in (east, north))
    rim = CELL.start * PIXEL_M
    corner = Affine(PIXEL_M, 0, left * CELL_M - rim, 0, -PIXEL_M, top * CELL_M + rim)
    rest = PATCH_SIDE - CELL_PIXELS
    return Grid(crs, corner, int(right - left) * CELL_PIXELS + rest, int(top - bottom) * CELL_PIXELS + rest)


def pixel_grid(path: Path, dataset: Any, grid: Grid) -> tuple[Grid, list[str]]:
    """The grid moved by less than a pixel onto the pixels of a raster of 10 m, and a note about the move.

    So no pixel is interpolated, and the image keeps its noise and contrast. The places of cells are wrong by 5 m at
    most, which is less than the geolocation error of Sentinel-2.
    """
    if _steps(dataset) is None or dataset.crs != grid.crs:
        return grid, []
    west, _, _, north = bounds_of(dataset)
    place = grid.transform
    east, up = (
        (there - here + PIXEL_M / 2) % PIXEL_M - PIXEL_M / 2 for there, here in ((west, place.c), (north, place.f))
    )
    if max(abs(east), abs(up)) < _CLOSE * PIXEL_M:
        return grid, []
    moved = replace(grid, transform=Affine.translation(east, up) @ place)
    said = f"pixels stand {east:+.1f} m east and {up:+.1f} m north of multiples of {PIXEL_M:g} m"
    return moved, [f"{path.name}: {said}, and are taken as they are"]


def _steps(dataset: Any) -> tuple[int, int] | None:
    """1 or -1: whether rows run south, and columns east. None unless pixels are squares of 10 m along the axes."""
    place = dataset.transform
    is_square = np.allclose([abs(place.a), place.b, place.d, abs(place.e)], [PIXEL_M, 0, 0, PIXEL_M], atol=1e-6)
    if not is_square or not dataset.crs.is_projected or not np.isclose(dataset.crs.linear_units_factor[1], 1):
        return None
    return (1 if place.e < 0 else -1), (1 if place.a > 0 else -1)


def on_grid(
    stack: ExitStack,
    path: Path,
    dataset: Any,
    grid: Grid,
    bands: list[int],
    resampling: Resampling,
    fill: float | None = None,
    fill_alone: bool = True,
) -> Layer:
    """A raster on the grid: as stored if its pixels match the grid, otherwise warped.

    Args:
        stack: closes the warped raster.
        path: of the raster.
        dataset: the open raster.
        grid: of the patches.
        bands: numbers of the bands, from 1 on.
        resampling: method of the warp.
        fill: a stored value that means no data though the file does not say so.
        fill_alone: whether fill in a single band means no data, or only fill in all bands.
    """
    west, _, _, north = bounds_of(dataset)
    steps = _steps(dataset)
    corner = np.array([grid.transform.f - north, west - grid.transform.c]) / PIXEL_M
    if steps and dataset.crs == grid.crs and np.allclose(corner, np.round(corner), atol=_CLOSE, rtol=0):
        top, left = np.round(corner).astype(int).tolist()
        return Layer(path, dataset, bands, grid.width, (top, left), steps)
    options: dict[str, Any] = {"src_crs": _unbroken(dataset)}
    has_mask = dataset.nodata is not None or ColorInterp.alpha in dataset.colorinterp
    if not has_mask and fill is not None:
        kind = np.dtype(dataset.dtypes[0])
        unused = np.nan if kind.kind == "f" else np.iinfo(kind).max if kind.kind == "u" else np.iinfo(kind).min
        options |= {"src_nodata": fill, "nodata": unused, "UNIFIED_SRC_NODATA": "NO" if fill_alone else "YES"}
        has_mask = True
    warped = stack.enter_context(
        WarpedVRT(
            dataset,
            crs=grid.crs,
            transform=grid.transform,
            width=grid.width,
            height=grid.height,
            resampling=resampling,
            add_alpha=not has_mask,
            **options,
        )
    )
    return Layer(path, warped, bands, grid.width, alpha=not has_mask)


def _unbroken(dataset: Any) -> CRS:
    """The raster's coordinates, made to go on beyond 180 degrees if the raster does. The warper would stop there."""
    west, _, east, _ = bounds_of(dataset)
    crs, turn = dataset.crs, (1 if east + west > 0 else -1)
    if crs.is_geographic and (west < -180 or east > 180):
        return CRS.from_string(f"{crs.to_proj4()} +lon_wrap={(west + east) / 2:.6f}")
    if crs.to_epsg() == _WEB_MERCATOR and (west < -_HALF_TURN or east > _HALF_TURN):
        middle = f"+lon_0={180 * turn} +x_0={_HALF_TURN * turn}"
        return CRS.from_string(f"+proj=merc +a=6378137 +b=6378137 +lat_ts=0 {middle} +units=m +nadgrids=@null +no_defs")
    return crs
