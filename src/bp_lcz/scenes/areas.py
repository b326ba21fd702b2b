"""Reads polygons from files, and the area to which a scene is cut: polygons, or a box in degrees."""

import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from affine import Affine
from jaxtyping import Float
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.transform import array_bounds
from rasterio.warp import transform, transform_bounds
from shapely.geometry.base import BaseGeometry

from bp_lcz.errors import UserError, one_line

Box = tuple[float, float, float, float]
"""West, south, east, north in degrees. East is beyond 180 if the box crosses that meridian."""
OUTSIDE = "outside the scene"
"""Reason given for polygons that are left out since they lie elsewhere."""

_POLYGONS = ("Polygon", "MultiPolygon")
_SHAPEFILE = (".shp", ".dbf", ".shx", ".prj", ".cpg")
_SIDE_PARTS = 64
"""Longest sides are divided into so many pieces, so that they keep their course in other coordinates."""

_GIRTH_M = 40_075_017.0
"""Length of the equator in m."""


@dataclass(frozen=True)
class Drawn:
    """A polygon as it stands in a file.

    Attributes:
        layer: name of its layer, or of its folder in KML.
        number: its number in that layer, from 1 on.
        shape: valid, of one part or several, without heights.
        crs: coordinate system of the shape.
        fields: values of its fields by name.
    """

    layer: str
    number: int
    shape: BaseGeometry
    crs: CRS
    fields: dict[str, Any]


def read_area(area: str, crs: CRS) -> BaseGeometry:
    """The union of an area's polygons in the coordinates of a grid.

    Args:
        area: file of polygons in any format of GDAL and any coordinates, or ``W,S,E,N`` in degrees.
        crs: coordinates of the grid.

    Raises:
        UserError: for the reasons of `drawn_polygons`, or if they do not lie within the grid's coordinates.
    """
    numbers = area.split(",")
    if len(numbers) == 4 and not os.path.exists(area):  # noqa: PTH110 - Path's own fails where a name is too long
        return moved(area, _box(area, numbers), CRS.from_epsg(4326), crs)
    path = Path(area)
    if not os.path.exists(path):  # noqa: PTH110
        raise UserError(path, "not found; --area takes a file of polygons or W,S,E,N in degrees")
    polygons, _ = drawn_polygons(path, has_fields=False)
    return shapely.union_all([moved(path, one.shape, one.crs, crs) for one in polygons])


def drawn_polygons(path: Path, has_fields: bool = True, within: Box | None = None) -> tuple[list[Drawn], Counter[str]]:
    """Polygons of all layers of a file, and how many of its other shapes were left out, by kind.

    Args:
        path: in any format of GDAL and any coordinates.
        has_fields: whether fields are read, too.
        within: box outside which polygons in degrees are left out. Polygons of a projection are all kept.

    Raises:
        UserError: if the file is missing or unreadable, has no coordinates or no polygons, or one is not valid.
    """
    if not os.path.exists(path):  # noqa: PTH110
        raise UserError(path, "not found")
    polygons: list[Drawn] = []
    others: Counter[str] = Counter()
    for layer, own, stored, fields in _layers(path, has_fields):
        if not len(stored):
            continue
        crs = _crs(path, own)
        shapes = shapely.force_2d(shapely.from_wkb(stored, on_invalid="ignore"))
        for place, shape in ((place, part) for place, whole in enumerate(shapes) for part in _parts(whole)):
            if shape is None or shape.is_empty or shape.geom_type not in _POLYGONS:
                others["without a shape" if shape is None or shape.is_empty else shape.geom_type] += 1
                continue
            if within is not None and _is_elsewhere(shape, crs, within):
                others[OUTSIDE] += 1
                continue
            values = {name: column[place] for name, column in fields.items()}
            polygons.append(Drawn(layer, place + 1, shape, crs, values))
    if not polygons and not others[OUTSIDE]:
        raise UserError(path, f"holds no polygons ({', '.join(sorted(others)) or 'it is empty'})")
    for one in polygons:
        if not one.shape.is_valid:
            reason = shapely.is_valid_reason(one.shape)
            raise UserError(
                path, f"polygon {one.number} of {one.layer} is not valid: {reason}; mend it, or draw it anew"
            )
    return polygons, others


def degrees_around(crs: CRS, place: Affine, shape: tuple[int, int]) -> Box:
    """The box in degrees around a grid.

    Args:
        crs: coordinates of the grid.
        place: transform from its pixels to these coordinates.
        shape: rows and columns of pixels.
    """
    west, south, east, north = transform_bounds(crs, "EPSG:4326", *array_bounds(*shape, place))
    return west, south, east + 360 * (east < west), north


def meets(shape: BaseGeometry, box: Box) -> bool:
    """Whether the bounds of a shape in degrees overlap a box. Longitudes may differ by 360."""
    west, south, east, north = shape.bounds
    is_beside = all(east + turn <= box[0] or west + turn >= box[2] for turn in (-360, 0, 360))
    return not is_beside and south < box[3] and north > box[1]


def _is_elsewhere(shape: BaseGeometry, crs: CRS, box: Box) -> bool:
    """Whether a shape in degrees lies outside the box; False for other shapes, which are checked once moved."""
    _, south, _, north = shape.bounds
    return crs.is_geographic and -90 <= south <= north <= 90 and not meets(shape, box)


def _parts(shape: BaseGeometry | None) -> Iterator[BaseGeometry | None]:
    """The parts of a collection, or the shape itself."""
    if shape is None or shape.is_empty or shape.geom_type != "GeometryCollection":
        yield shape
        return
    for part in shapely.get_parts(shape):
        yield from _parts(part)


def _layers(path: Path, has_fields: bool) -> Iterator[tuple[str, str | None, Any, dict[str, Any]]]:
    """Name, coordinates, shapes as WKB and fields of each layer."""
    if path.suffix.lower() == ".parquet":
        yield _geoparquet(path, has_fields)
        return
    import pyogrio  # brings pandas, which nothing else here needs

    try:
        for layer, kind in pyogrio.list_layers(path):
            if kind is None:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about single shapes, which are checked below
                meta, _, stored, fields = pyogrio.raw.read(path, layer=layer, columns=None if has_fields else [])
            yield layer, meta["crs"], stored, dict(zip(meta["fields"], fields, strict=True))
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError) as error:
        raise UserError(path, f"no readable polygons: {one_line(error).split(';')[0]}") from None


def _geoparquet(path: Path, has_fields: bool) -> tuple[str, str | None, Any, dict[str, Any]]:
    """The layer of a GeoParquet file. The wheel of pyogrio cannot read this format."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        geo = json.loads(pq.read_schema(path).metadata[b"geo"])
        name = geo["primary_column"]
        column = geo["columns"][name]
        table = pq.read_table(path, columns=None if has_fields else [name])
        stored = np.array(table[name].to_pylist(), dtype=object)
        fields = {other: table[other].to_pylist() for other in table.column_names if other != name}
        crs = column.get("crs", "OGC:CRS84")
    except (pa.ArrowException, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(path, f"no readable GeoParquet: {one_line(error)}") from None
    return path.stem, json.dumps(crs) if isinstance(crs, dict) else crs, stored, fields


def _crs(path: Path, text: str | None) -> CRS:
    if text is None:
        beside = f"; a Shapefile has it in {path.stem}.prj beside it" if path.suffix.lower() == ".shp" else ""
        raise UserError(path, f"has no coordinate reference system that is understood{beside}")
    try:
        return CRS.from_user_input(text)
    except CRSError:
        raise UserError(path, "its coordinate reference system is not understood") from None


def area_files(area: str | None) -> list[Path]:
    """The file or folder of an area, with all files that belong to a Shapefile; empty for a box."""
    if not area or not os.path.exists(area):  # noqa: PTH110
        return []
    path = Path(area)
    if path.suffix.lower() != _SHAPEFILE[0]:
        return [path]
    beside = (file for file in path.parent.iterdir() if file.stem == path.stem)
    return sorted(file for file in beside if file.suffix.lower() in _SHAPEFILE)


def _box(area: str, numbers: list[str]) -> BaseGeometry:
    try:
        west, south, east, north = map(float, numbers)
    except ValueError:
        raise UserError(f"--area {area}", "expected a file, or W,S,E,N in degrees") from None
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90 and west != east):
        raise UserError(f"--area {area}", "expected west, south, east, north in degrees")
    if east < west and east + 360 - west > 180:  # no box across the date line is so wide
        raise UserError(f"--area {area}", "has west and east swapped; expected west, south, east, north in degrees")
    return shapely.box(west, south, east + 360 * (east < west), north)


def moved(where: object, shape: BaseGeometry, own: CRS, crs: CRS) -> BaseGeometry:
    """A shape in other coordinates. Its sides get more points, so that they keep their course."""
    west, south, east, north = shape.bounds
    if own.is_geographic and not -90 <= south <= north <= 90:  # a GeoJSON in metres that does not say so
        raise UserError(where, f"{west:.0f}, {south:.0f} are not degrees; state its coordinate reference system")
    girth = 360.0 if own.is_geographic else _GIRTH_M / own.linear_units_factor[1] if own.is_projected else np.inf
    if max(east - west, north - south) > 2 * girth:  # PROJ would wind it around the Earth for minutes
        raise UserError(where, f"{west:.9g}, {south:.9g} to {east:.9g}, {north:.9g} is more than the Earth")
    if own == crs:
        return shape

    def move(corners: Float[np.ndarray, "corner 2"]) -> Float[np.ndarray, "corner 2"]:
        return np.column_stack(transform(own, crs, corners[:, 0], corners[:, 1]))

    try:
        moved = shapely.transform(shapely.segmentize(shape, max(east - west, north - south) / _SIDE_PARTS), move)
    except (RasterioError, CPLE_BaseError, shapely.GEOSException):  # PROJ cannot project this place
        moved = shapely.Point(np.inf, np.inf)
    if not np.isfinite(shapely.get_coordinates(moved)).all():
        raise UserError(where, f"does not lie within {crs.to_string()}")
    return shapely.make_valid(moved)
