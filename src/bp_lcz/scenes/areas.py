"""The area to which a scene is cut: polygons of a file, or a box in degrees."""

import os
import warnings
from pathlib import Path

import numpy as np
import shapely
from jaxtyping import Float
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform
from shapely.geometry.base import BaseGeometry

from bp_lcz.errors import UserError, one_line

_POLYGONS = ("Polygon", "MultiPolygon")
_SIDE_PARTS = 64
"""Pieces of the longest side of an area, so that straight sides stay where they are in other coordinates."""


def read_area(area: str, crs: CRS) -> BaseGeometry:
    """Polygons in the coordinates of a grid.

    Args:
        area: file of polygons in any format of GDAL and any coordinates, or ``W,S,E,N`` in degrees.
        crs: of the grid.

    Raises:
        UserError: if the file is unreadable, has no coordinates or no polygons, one crosses itself, or they do not
            lie within the grid's coordinates.
    """
    numbers = area.split(",")
    if len(numbers) == 4 and not os.path.exists(area):  # noqa: PTH110 - Path's own fails where a name is too long
        return _moved(area, _box(area, numbers), CRS.from_epsg(4326), crs)
    path = Path(area)
    if not os.path.exists(path):  # noqa: PTH110
        raise UserError(path, "not found; --area takes a file of polygons or W,S,E,N in degrees")
    import pyogrio  # brings pandas, which nothing else here needs

    parts = []
    try:
        for layer, kind in pyogrio.list_layers(path):
            if kind is None:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of single shapes, which are looked at below
                meta, _, shapes, _ = pyogrio.raw.read(path, layer=layer, columns=[], force_2d=True)
            parts += [(shape, meta["crs"]) for shape in shapely.from_wkb(shapes) if shape is not None]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError, shapely.GEOSException) as error:
        raise UserError(path, f"no readable polygons: {one_line(error)}") from None
    polygons = [(shape, own) for shape, own in parts if shape.geom_type in _POLYGONS and not shape.is_empty]
    if not polygons:
        kinds = ", ".join(sorted({shape.geom_type for shape, _ in parts})) or "nothing"
        raise UserError(path, f"holds no polygons ({kinds})")
    for shape, own in polygons:
        if not shape.is_valid:
            raise UserError(path, f"a polygon is not valid: {shapely.is_valid_reason(shape)}; mend it, or draw it anew")
        if own is None:
            raise UserError(path, "has no coordinate reference system")
    try:
        return shapely.union_all([_moved(path, shape, CRS.from_user_input(own), crs) for shape, own in polygons])
    except CRSError:
        raise UserError(path, "its coordinate reference system is not understood") from None


def _box(area: str, numbers: list[str]) -> BaseGeometry:
    try:
        west, south, east, north = map(float, numbers)
    except ValueError:
        raise UserError(f"--area {area}", "expected a file, or W,S,E,N in degrees") from None
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90 and west != east):
        raise UserError(f"--area {area}", "expected west, south, east, north in degrees")
    return shapely.box(west, south, east + 360 * (east < west), north)


def _moved(where: object, shape: BaseGeometry, own: CRS, crs: CRS) -> BaseGeometry:
    """In other coordinates, with points on its sides so that these keep their course."""
    if own == crs:
        return shape
    west, south, east, north = shape.bounds

    def move(corners: Float[np.ndarray, "corner 2"]) -> Float[np.ndarray, "corner 2"]:
        return np.column_stack(transform(own, crs, corners[:, 0], corners[:, 1]))

    if own.is_geographic and not -90 <= south <= north <= 90:  # a GeoJSON in metres that does not say so
        raise UserError(where, f"{west:.0f}, {south:.0f} are no degrees; state its coordinate reference system")
    try:
        moved = shapely.transform(shapely.segmentize(shape, max(east - west, north - south) / _SIDE_PARTS), move)
    except (RasterioError, CPLE_BaseError):  # of PROJ, beyond what a projection knows
        moved = shapely.Point(np.inf, np.inf)
    if not np.isfinite(shapely.get_coordinates(moved)).all():
        raise UserError(where, f"does not lie within {crs.to_string()}")
    return shapely.make_valid(moved)
