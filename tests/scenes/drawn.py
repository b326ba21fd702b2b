"""Small files of polygons whose content is known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from rasterio.warp import transform
from shapely.geometry.base import BaseGeometry

from tests.scenes.rasters import NORTH, UTM, WEST


def square(east: float, south: float, side: float = 300) -> shapely.Polygon:
    """Metres east and south of the corner of a scene of `rasters`."""
    return shapely.box(WEST + east, NORTH - south - side, WEST + east + side, NORTH - south)


def degrees(shape: BaseGeometry, crs: Any = UTM) -> BaseGeometry:
    return shapely.transform(shape, lambda xy: np.column_stack(transform(crs, "EPSG:4326", *xy.T)))


def geojson(path: Path, shapes: list[BaseGeometry], crs: Any = UTM, **fields: list[Any]) -> Path:
    """Shapes of a projection as GeoJSON, which is in degrees; a field of each name has one value a shape."""
    features = [
        {
            "type": "Feature",
            "properties": {name: values[number] for name, values in fields.items()},
            "geometry": json.loads(shapely.to_geojson(degrees(shape, crs))),
        }
        for number, shape in enumerate(shapes)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def written(path: Path, driver: str, shapes: list[BaseGeometry], zones: list[Any], crs: str | None = UTM) -> Path:
    """The same in any format of GDAL, with a field LCZ."""
    wkb = np.array([shapely.to_wkb(shape) for shape in shapes], dtype=object)
    options = {"fields": ["LCZ"], "geometry_type": "Unknown", "crs": crs, "driver": driver}
    pyogrio.raw.write(path, wkb, [np.array(zones)], **options)
    return path


def kml(
    path: Path, folders: dict[str, list[BaseGeometry]], height: float = 0, crs: Any = UTM, source: str | None = None
) -> Path:
    """A folder for each zone, as in WUDAPT's template; polygons are numbered in it, and may tell their source."""
    body = ""
    said = f'<ExtendedData><Data name="source"><value>{source}</value></Data></ExtendedData>' if source else ""
    for folder, shapes in folders.items():
        marks = ""
        for number, shape in enumerate(shapes, start=1):
            corners = " ".join(f"{x:.9f},{y:.9f},{height}" for x, y in degrees(shape, crs).exterior.coords)
            ring = f"<LinearRing><coordinates>{corners}</coordinates></LinearRing>"
            polygon = f"<Polygon><outerBoundaryIs>{ring}</outerBoundaryIs></Polygon>"
            marks += f"<Placemark><name>polygon {number}</name>{said}{polygon}</Placemark>"
        body += f"<Folder><name>{folder}</name>{marks}</Folder>"
    head = '<?xml version="1.0" encoding="UTF-8"?><kml xmlns="http://www.opengis.net/kml/2.2">'
    path.write_text(f"{head}<Document>{body}</Document></kml>", encoding="utf-8")
    return path
