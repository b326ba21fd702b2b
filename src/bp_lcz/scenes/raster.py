"""Rasters as people have them, read on one grid: whatever projection, resolution and direction they are stored in."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from jaxtyping import Bool, Float, Num
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.warp import calculate_default_transform, transform, transform_bounds
from rasterio.windows import Window

from bp_lcz.bands import PATCH_SIDE
from bp_lcz.errors import UserError
from bp_lcz.so2sat.geo import PIXEL_M

_WEB_MERCATOR = 3857  # its metres are none on the ground
_NO_PLACE = "its coordinates are no place on Earth; georeference it first (gdal_edit.py)"
_HALF_TURN = np.pi * 6378137  # of its easting
_SAMPLE_VALUES = 2_000_000
"""Read of a scene to find out what it holds, in all bands together."""
_CLOSE_M = 1e-5


@dataclass(frozen=True)
class Grid:
    """North-up squares of 10 m in metres of the ground."""

    crs: CRS
    transform: Affine
    width: int
    height: int


class Layer:
    """A raster on the grid, read in strips of 32 rows."""

    def __init__(self, path: Path, dataset: Any, bands: Sequence[int], steps: tuple[int, int], alpha: bool) -> None:
        self._path, self._dataset, self._bands = path, dataset, list(bands)
        self._down, self._right = steps
        self._alpha = alpha

    def strip(self, row: int) -> tuple[Num[np.ndarray, "band 32 width"], Bool[np.ndarray, "32 width"]]:
        """Values, and where the file does not say that one of them is unknown."""
        first = row if self._down > 0 else self._dataset.height - row - PATCH_SIDE
        window = Window(0, first, self._dataset.width, PATCH_SIDE)
        with reading(self._path):
            values = self._dataset.read(self._bands, window=window)
            known = (self._dataset.read_masks(self._bands, window=window) != 0).all(axis=0)
            if self._alpha:  # which read_masks does not look at
                known &= self._dataset.read(self._dataset.count, window=window) != 0
        known &= np.isfinite(values).all(axis=0)
        return values[:, :: self._down, :: self._right], known[:: self._down, :: self._right]


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A raster with coordinates.

    Raises:
        UserError: if it is missing, unreadable, or without coordinates of a map.
    """
    if not path.exists():
        raise UserError(path, "not found")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # said below, as an error
            dataset = rasterio.open(path)
    except (RasterioError, CPLE_BaseError):
        raise UserError(path, "not a readable GeoTIFF") from None
    with dataset:
        if dataset.crs is None or dataset.transform.is_identity:
            if dataset.gcps[0] or dataset.rpcs is not None:
                raise UserError(
                    path,
                    "has control points in place of a grid: the sensor's own geometry, whose pixels are no places of a "
                    "map (of Sentinel-1 it is uncalibrated, too); give a terrain-corrected product, of Sentinel-1 "
                    "calibrated backscatter such as RTC",
                )
            raise UserError(path, "has no coordinate reference system; georeference it first (gdal_edit.py -a_srs)")
        with reading(path):
            is_place = not dataset.transform.is_degenerate and np.isfinite(_degrees(dataset)).all()
        if not is_place:
            raise UserError(path, _NO_PLACE)
        yield dataset


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Errors of GDAL as one line; rasterio's own text refers to the exception from which it raises."""
    try:
        yield
    except (RasterioError, CPLE_BaseError) as error:  # some of GDAL's errors come as they are
        cause = " ".join(str(error.__cause__ or error).split())
        raise UserError(path, f"cannot be read (truncated or corrupted?): {cause}") from None


def check_overlap(path: Path, dataset: Any, reference: Path, other: Any) -> None:
    """Refuse a raster that shows another place than the reference does."""
    (west, south, east, north), here = _degrees(dataset), _degrees(other)
    # Degrees of longitude begin anew at 180.
    is_beside = all(east + turn <= here[0] or west + turn >= here[2] for turn in (-360, 0, 360))
    if is_beside or north <= here[1] or south >= here[3]:
        raise UserError(path, f"does not overlap {reference}; are they of one place?")


def _bounds(dataset: Any) -> tuple[float, float, float, float]:
    """West, south, east, north of a raster in whatever direction it is stored."""
    corners = [dataset.transform @ (x, y) for x in (0, dataset.width) for y in (0, dataset.height)]
    x, y = zip(*corners, strict=True)
    return min(x), min(y), max(x), max(y)


def _degrees(dataset: Any) -> tuple[float, float, float, float]:
    """West, south, east, north in degrees; east is beyond 180 where the raster crosses that meridian."""
    west, south, east, north = transform_bounds(dataset.crs, "EPSG:4326", *_bounds(dataset))
    return west, south, east + 360 if east < west else east, north


def local_grid(path: Path, optical: Any) -> tuple[Grid, list[str]]:
    """The grid of the patches, and what had to be done for it: Sentinel-2's own, or that of its UTM zone.

    Raises:
        UserError: if it has no room for one patch.
    """
    west, south, east, north = _bounds(optical)
    if _steps(optical) and optical.crs.is_projected and optical.crs.to_epsg() not in (None, _WEB_MERCATOR):
        own = Affine(PIXEL_M, 0, west, 0, -PIXEL_M, north)
        grid, notes = Grid(optical.crs, own, optical.width, optical.height), []
    else:
        (longitude,), (latitude,) = transform(optical.crs, "EPSG:4326", [(west + east) / 2], [(south + north) / 2])
        if not np.isfinite([longitude, latitude]).all():
            raise UserError(path, _NO_PLACE)
        zone = int((longitude + 180) // 6) % 60 + 1
        utm = CRS.from_epsg((32600 if latitude >= 0 else 32700) + zone)
        size, box = (optical.width, optical.height), (west, south, east, north)
        with reading(path):
            place, width, height = calculate_default_transform(optical.crs, utm, *size, *box, resolution=PIXEL_M)
        grid = Grid(utm, place, int(width), int(height))
        notes = [f"{path.name}: warped to 10 m in {utm.to_string()}"]
    if min(grid.width, grid.height) < PATCH_SIDE:
        raise UserError(path, f"{grid.width} x {grid.height} pixels of 10 m are less than one patch of {PATCH_SIDE}")
    return grid, notes


def _steps(dataset: Any) -> tuple[int, int] | None:
    """Direction of rows to the south and of columns to the east, if the pixels are squares of 10 m along the axes."""
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
    """A raster on the grid: as stored where that is its own grid, warped elsewhere.

    Args:
        stack: closes the warped raster.
        path: of the raster.
        dataset: the open raster.
        grid: of the patches.
        bands: numbers of the bands, from 1 on.
        resampling: where it is warped.
        fill: a stored value that means no data though the file does not say so.
        fill_alone: whether it does so in a single band, too, or only in all bands at once.
    """
    west, _, _, north = _bounds(dataset)
    steps = _steps(dataset)
    is_same = (
        dataset.crs == grid.crs
        and np.allclose([west, north], [grid.transform.c, grid.transform.f], atol=_CLOSE_M, rtol=0)
        and (dataset.width, dataset.height) == (grid.width, grid.height)
    )
    if steps and is_same:
        return Layer(path, dataset, bands, steps, alpha=False)
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
    return Layer(path, warped, bands, (1, 1), alpha=not has_mask)


def _unbroken(dataset: Any) -> CRS:
    """The raster's coordinates without an end at 180 degrees, if it goes beyond that; the warper's own end there."""
    west, _, east, _ = _bounds(dataset)
    crs, turn = dataset.crs, (1 if east + west > 0 else -1)
    if crs.is_geographic and (west < -180 or east > 180):
        return CRS.from_string(f"{crs.to_proj4()} +lon_wrap={(west + east) / 2:.6f}")
    if crs.to_epsg() == _WEB_MERCATOR and (west < -_HALF_TURN or east > _HALF_TURN):
        middle = f"+lon_0={180 * turn} +x_0={_HALF_TURN * turn}"
        return CRS.from_string(f"+proj=merc +a=6378137 +b=6378137 +lat_ts=0 {middle} +units=m +nadgrids=@null +no_defs")
    return crs


def sample(path: Path, dataset: Any, bands: Sequence[int]) -> Float[np.ndarray, "band pixel"]:
    """Pixels of the whole scene that are not said to be unknown, thinned out for a large one."""
    most = int(np.sqrt(_SAMPLE_VALUES / len(bands)))
    shape = [min(side, most) for side in (dataset.height, dataset.width)]
    with reading(path), np.errstate(invalid="ignore"):  # of a signalling NaN, which damage can make
        values = dataset.read(list(bands), out_shape=(len(bands), *shape)).astype(np.float64)
        known = (dataset.read_masks(list(bands), out_shape=(len(bands), *shape)) != 0).all(axis=0)
    return values[:, known & np.isfinite(values).all(axis=0)]


def majority(values: Float[np.ndarray, " n"]) -> float | None:
    """The value that more than half of them have, if there is one."""
    if not values.size:
        return None
    middle = np.partition(values, values.size // 2)[values.size // 2]
    return float(middle) if (values == middle).mean() > 0.5 else None


def naming_texts(dataset: Any) -> list[str] | None:
    """Descriptions of the bands if they tell one band from another; some tools give all the same one."""
    texts = [text or "" for text in dataset.descriptions]
    return texts if any(texts) and (len(set(texts)) > 1 or len(texts) == 1) else None
