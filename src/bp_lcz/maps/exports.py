"""Writes a map in the forms that other tools of urban climate read, with notes that these tools do not give."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from jaxtyping import Int16, UInt8
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject
from shapely import Polygon

from bp_lcz.errors import UserError
from bp_lcz.maps.filters import wudapt
from bp_lcz.maps.outputs import LCZ, PROBABILITY
from bp_lcz.maps.symbology import WUDAPT_VALUES, palette, write_symbology
from bp_lcz.sensors.raster import SIDE_POINTS, outline

FOLDER = "exports"
"""Subfolder of a map's folder for these files."""
_DEGREES = CRS.from_epsg(4326)
_STEP = 100 / 111_319.49079327358
"""Side of a cell of the LCZ Generator in degrees: 100 m at the equator. Cells are counted from 0 degrees."""


@dataclass(frozen=True)
class _Map:
    """What the forms are made from.

    Attributes:
        folder: folder of the map.
        crs: coordinates of the cells, in metres.
        transform: from cells to these coordinates.
        lcz: zones 1..17, 0 for none.
    """

    folder: Path
    crs: CRS
    transform: Affine
    lcz: UInt8[np.ndarray, "row column"]


def export_names(text: str) -> tuple[str, ...]:
    """The names in an option such as ``wudapt,wrf``.

    Raises:
        UserError: if one is unknown.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in _FORMS]
    if unknown:
        raise UserError("--export", f"unknown form {unknown[0]!r}; expected {', '.join(_FORMS)}")
    return names


def write_exports(folder: Path, names: Sequence[str]) -> list[str]:
    """Write the map of a folder in other forms, as ``exports/<name>.tif``.

    Args:
        folder: folder with ``lcz.tif`` and, for ``wudapt``, ``probability.tif``.
        names: names of the forms, from `export_names`.

    Returns:
        One line for each form, with what to know about it.
    """
    if not names:
        return []
    with rasterio.open(folder / LCZ) as file:
        source = _Map(folder, file.crs, file.transform, file.read(1))
    target = folder / FOLDER
    if names:
        target.mkdir(exist_ok=True)
    return [f"{FOLDER}/{name}.tif: {_FORMS[name](source, target / f'{name}.tif')}" for name in names]


def _write_wudapt(source: _Map, path: Path) -> str:
    """The form of the LCZ Generator, but with 0 declared as no data. Otherwise LCZ4r reads 0 as water."""
    with rasterio.open(source.folder / PROBABILITY) as file:
        percent = file.read()
    own = np.maximum(source.lcz, 1)[None].astype(np.intp) - 1
    sure = np.where(source.lcz > 0, np.take_along_axis(percent, own, axis=0)[0], 0)
    bands = {"lcz": source.lcz, "lczFilter": wudapt(source.lcz), "classProbability": sure}
    place, shape = _degree_grid(source)
    values = np.zeros((len(bands), *shape), np.int16)
    for band, layer in zip(bands.values(), values, strict=True):
        _to_degrees(source, band, layer, place)
    _write(path, values, list(bands), _DEGREES, place)
    write_symbology(path)
    return (
        "lcz, lczFilter and classProbability (%), as the LCZ Generator gives them, and 0 is declared as no data; "
        "w2w and LCZ4r read lczFilter, which is lcz after a Gaussian filter"
    )


def _write_wrf(source: _Map, path: Path) -> str:
    _write(path, source.lcz[None], ["LCZ"], source.crs, source.transform, palette())
    write_symbology(path)
    west, south, east, north = _inner_degrees(source)
    holes = 100 * float((source.lcz == 0).mean())
    silent = ", which w2w silently takes for not urban" if holes else ""
    return (
        f"for w2w, whose WRF domain must lie within {west:.4f} to {east:.4f} degrees east and "
        f"{south:.4f} to {north:.4f} north; {holes:.1f} % of the cells are holes{silent}"
    )


def _write_umep(source: _Map, path: Path) -> str:
    codes = np.array((0, *WUDAPT_VALUES), np.uint8)
    _write(path, codes[source.lcz][None], ["LCZ"], source.crs, source.transform, palette(WUDAPT_VALUES))
    write_symbology(path, WUDAPT_VALUES)
    return "for UMEP, with A to G as 101 to 107; 0 is declared as no data"


_FORMS: dict[str, Callable[[_Map, Path], str]] = {"wudapt": _write_wudapt, "wrf": _write_wrf, "umep": _write_umep}


def _write(
    path: Path,
    values: UInt8[np.ndarray, "band row column"] | Int16[np.ndarray, "band row column"],
    names: Sequence[str],
    crs: CRS,
    place: Affine,
    colors: dict[int, tuple[int, int, int, int]] | None = None,
) -> None:
    count, height, width = values.shape
    options: dict[str, Any] = {"driver": "GTiff", "compress": "deflate", "tiled": True, "nodata": 0}
    with rasterio.open(
        path, "w", width=width, height=height, count=count, dtype=values.dtype, crs=crs, transform=place, **options
    ) as file:
        file.descriptions = tuple(names)
        if colors:
            file.write_colormap(1, colors)
        file.write(values)


def _degree_grid(source: _Map) -> tuple[Affine, tuple[int, int]]:
    """Transform, and rows and columns, of the cells of the LCZ Generator that hold the whole map."""
    west, south, east, north = _outline(source).bounds
    left, top = int(np.floor(west / _STEP)), int(np.ceil(north / _STEP))
    shape = top - int(np.floor(south / _STEP)), int(np.ceil(east / _STEP)) - left
    return Affine(_STEP, 0, left * _STEP, 0, -_STEP, top * _STEP), shape


def _to_degrees(
    source: _Map, values: UInt8[np.ndarray, "row column"], out: Int16[np.ndarray, "_ _"], place: Affine
) -> None:
    """Fill an array with the zone or percentage of the nearest cell."""
    reproject(
        values.astype(np.int16),
        out,
        src_transform=source.transform,
        src_crs=source.crs,
        dst_transform=place,
        dst_crs=_DEGREES,
        src_nodata=0,
        dst_nodata=0,
        resampling=Resampling.nearest,
        tolerance=0,
    )


def _outline(source: _Map) -> Polygon:
    """Outline of the map in degrees, which go on beyond 180."""
    path = source.folder / LCZ
    with rasterio.open(path) as file:
        return outline(path, file, _DEGREES)


def _inner_degrees(source: _Map) -> tuple[float, float, float, float]:
    """West, south, east, north of a box that lies inside the map.

    w2w only checks the box around the map. That box is larger, since UTM grids are turned against degrees.
    """
    ring = np.array(_outline(source).exterior.coords)
    top, right, bottom, left = (
        ring[first : first + SIDE_POINTS + 1] for first in range(0, 4 * SIDE_POINTS, SIDE_POINTS)
    )
    return left[:, 0].max(), bottom[:, 1].max(), right[:, 0].min(), top[:, 1].min()
