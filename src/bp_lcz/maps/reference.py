"""Reads a reference for a map: known zones of its cells, and the polygon or block that each cell belongs to."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from affine import Affine
from jaxtyping import Bool, Int
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.warp import transform

from bp_lcz.bands import PATCH_SIDE
from bp_lcz.errors import UserError
from bp_lcz.files import file_sha256
from bp_lcz.maps.against import zones_of
from bp_lcz.records import Places
from bp_lcz.scenes.areas import degrees_around, moved
from bp_lcz.scenes.polygons import Overlaps, are_polygons, read_zones
from bp_lcz.sensors.raster import CELL_M
from bp_lcz.so2sat.geo import PIXEL_M, geo_file_of, read_geo
from bp_lcz.so2sat.places import near
from bp_lcz.words import counted

_DEGREES = CRS.from_epsg(4326)
_BLOCK_M = 1000
_PATCH_M = PATCH_SIDE * PIXEL_M
_DECIMALS = 6
"""Decimals of positions in cells. Rounding keeps patches that only touch from overlapping."""


@dataclass(frozen=True)
class Reference:
    """Zones of the cells of a map.

    Attributes:
        name: name of the file.
        sha256: SHA-256 of the file.
        kind: whether it holds polygons or a raster.
        band: band of a raster.
        zones: class index 0..16 of each cell, -1 for none.
        unit: number of the polygon or block that a cell lies in.
        lines: what was found in the file and left out, as messages.
    """

    name: str
    sha256: str
    kind: Literal["polygons", "raster"]
    band: str | None
    zones: Int[np.ndarray, "row column"]
    unit: Int[np.ndarray, "row column"]
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """How the zones of a file of polygons are read; see `read_zones`.

    Attributes:
        field: field that holds the zones.
        label_map: JSON from other names to zones.
        overlaps: what to do with overlapping polygons of different zones.
    """

    field: str | None = None
    label_map: Path | None = None
    overlaps: Overlaps = "refuse"


AS_USUAL = Reading()


def read_reference(
    path: Path, crs: CRS, place: Affine, shape: tuple[int, int], reading: Reading = AS_USUAL
) -> Reference:
    """Read zones onto the cells of a map. Each cell gets the zone of the pixel or polygon at its centre.

    Args:
        path: a raster as in `zones_of`, or polygons as in `read_zones`. Its suffix tells which.
        crs: coordinates of the cells.
        place: transform from cells to these coordinates.
        shape: rows and columns of cells.
        reading: how polygons are read.

    Raises:
        UserError: as in `zones_of` and `read_zones`; if no cell has its centre in a polygon; if options for polygons
            are given for a raster; or if it is a folder.
    """
    if path.is_dir():
        raise UserError(
            path, "is a folder; a map made by `bp-lcz map` is no reference: give it to --against or --compare"
        )
    if are_polygons(path):
        return _polygons(path, crs, place, shape, reading)
    if reading != AS_USUAL:
        raise UserError(
            path, "is not a file of polygons, and --field, --label-map and --overlaps are for polygons alone"
        )
    zones, band = zones_of(path, crs, place, shape)
    return Reference(path.name, file_sha256(path), "raster", band, zones, blocks(place, shape))


def _polygons(path: Path, crs: CRS, place: Affine, shape: tuple[int, int], reading: Reading) -> Reference:
    within = degrees_around(crs, place, shape)
    found = read_zones(path, reading.field, reading.label_map, reading.overlaps, within)
    there = [moved(path, polygon, _DEGREES, crs) for polygon in found.shapes]
    numbered = [(polygon, number) for number, polygon in enumerate(there, start=1) if not polygon.is_empty]
    unit = rasterize(numbered, shape, transform=place, dtype=np.int32).astype(np.int64) - 1
    lost = len(there) - len(np.unique(unit[unit >= 0]))
    if lost == len(there):
        raise UserError(path, "no polygon holds the middle of a cell of this map; do both show the same place?")
    zones = np.where(unit >= 0, found.classes[unit] - 1, -1)
    without = [f"{path.name}: {counted(lost, 'polygon')} without the middle of a cell of this map"] if lost else []
    return Reference(path.name, file_sha256(path), "polygons", None, zones, unit, (*found.lines, *without))


def seen_cells(root: Path, crs: CRS, place: Affine, shape: tuple[int, int]) -> Bool[np.ndarray, "row column"]:
    """Cells whose patch of 320 m shares ground with a patch of a training split.

    Args:
        root: folder of the data set.
        crs: coordinates of the cells.
        place: transform from cells to these coordinates.
        shape: rows and columns of cells.

    Raises:
        UserError: if the training split has no geo file.
    """
    geo = read_geo(root, "training")
    if geo is None:
        raise UserError(geo_file_of(root / "training.h5"), "not found; it tells where the training patches lie")
    ends = np.zeros((shape[0] + 1, shape[1] + 1), np.int64)
    reach = _PATCH_M / CELL_M
    for epsg in np.unique(geo.epsg):
        rows = geo.epsg == epsg
        east, north = geo.easting[rows] + _PATCH_M / 2, geo.northing[rows] - _PATCH_M / 2
        across, down = ~place @ np.array(transform(CRS.from_epsg(int(epsg)), crs, east, north))
        known = np.isfinite(across) & np.isfinite(down)
        middle = np.stack([down[known], across[known]]) - 0.5
        first = np.floor(np.round(middle - reach, _DECIMALS)).astype(np.int64) + 1
        last = np.ceil(np.round(middle + reach, _DECIMALS)).astype(np.int64)
        top, left = np.clip(first, 0, np.array(shape)[:, None])
        bottom, right = np.clip(last, 0, np.array(shape)[:, None])
        for row, column, sign in ((top, left, 1), (top, right, -1), (bottom, left, -1), (bottom, right, 1)):
            np.add.at(ends, (row, column), sign)
    return ends.cumsum(axis=0).cumsum(axis=1)[:-1, :-1] > 0


def near_cells(
    places: Places, crs: CRS, place: Affine, shape: tuple[int, int]
) -> Bool[np.ndarray, "row column"] | None:
    """Cells whose patch of 320 m touches a square with training patches. They include those of `seen_cells`.

    Args:
        places: squares with training patches, from a checkpoint.
        crs: coordinates of the cells.
        place: transform from cells to these coordinates.
        shape: rows and columns of cells.

    Returns:
        The cells; None if the coordinates have no EPSG code or are not in metres.
    """
    epsg, rows = crs.to_epsg(), []
    east = place.c + place.a * (np.arange(shape[1]) + 0.5)
    for row in range(shape[0]):
        north = np.full_like(east, place.f + place.e * (row + 0.5))
        if epsg is None or (found := near(places, east, north, epsg)) is None:
            return None
        rows.append(found)
    return np.stack(rows)


def blocks(place: Affine, shape: tuple[int, int]) -> Int[np.ndarray, "row column"]:
    """Number of the block of 1 km that each cell lies in. Blocks lie on multiples of 1 km."""
    row, column = np.indices(shape)
    east, north = place.c + place.a * (column + 0.5), place.f + place.e * (row + 0.5)
    block = np.stack([north // _BLOCK_M, east // _BLOCK_M]).astype(np.int64)
    block -= block.min(axis=(1, 2), keepdims=True)
    return block[0] * (block[1].max() + 1) + block[1]
