"""Writes a map as an item of a spatio-temporal catalogue (STAC), which catalogues and QGIS can read."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from rasterio.crs import CRS
from shapely import MultiPolygon, Polygon
from shapely.affinity import translate
from shapely.geometry import mapping
from shapely.geometry.polygon import orient

from bp_lcz.maps.outputs import AREAS, LCZ, PROBABILITY, QUALITY
from bp_lcz.maps.symbology import VALUES
from bp_lcz.scheme import ZONES
from bp_lcz.sensors.raster import outline

ITEM = "item.json"
_EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
)
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_ANY_TIME = ("2015-06-27T00:00:00Z", "2100-01-01T00:00:00Z")
"""Times of an item whose scenes have none: from the first image of Sentinel-2 to an end that no scene will exceed."""
_EDGE_POINTS, _DECIMALS = 8, 6


def write_item(folder: Path, name: str, taken: Sequence[tuple[str, str] | None], notices: Sequence[str]) -> None:
    """Write ``item.json``. Equal maps give equal bytes.

    Args:
        folder: folder with ``lcz.tif``.
        name: name of the map.
        taken: first and last time of each scene, in the form of RFC 3339; None if unknown.
        notices: what a reader must know first.
    """
    path = folder / LCZ
    with rasterio.open(path) as file:
        crs, place, shape = file.crs, file.transform, file.shape
        ring = outline(path, file, CRS.from_epsg(4326), _EDGE_POINTS)
    west, south, east, north = np.round(ring.bounds, _DECIMALS).tolist()
    known = [times for times in taken if times is not None]
    if len(known) < len(taken):
        known, notices = [_ANY_TIME], ["Nothing tells when its scenes were taken.", *notices]
    start, end = min(first for first, _ in known), max(last for _, last in known)
    times = {"datetime": start} if start == end else {"datetime": None, "start_datetime": start, "end_datetime": end}
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": _EXTENSIONS,
        "id": name,
        "geometry": mapping(_cut(ring)),
        "bbox": [_turned(west), south, _turned(east), north],
        "properties": {
            "title": f"Local climate zones of {name}",
            "description": " ".join(["Local climate zones (Stewart and Oke 2012) of cells of 100 m.", *notices]),
            **times,
            "gsd": place.a,
            "proj:code": crs.to_string(),
            "proj:shape": list(shape),
            "proj:transform": list(place)[:6],
        },
        "links": [],
        "assets": {
            "lcz": _asset(LCZ, "Local climate zones", _COG, "data", **{"classification:classes": _classes()}),
            "probability": _asset(PROBABILITY, "Probability of each zone in percent", _COG, "data"),
            "quality": _asset(QUALITY, "How sure each cell is, and why it has a zone or none", _COG, "metadata"),
            "areas": _asset(AREAS, "Area of each zone", "text/csv", "metadata"),
        },
    }
    (folder / ITEM).write_text(json.dumps(item, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _turned(longitude: float) -> float:
    return round(longitude - 360 * (longitude > 180) + 360 * (longitude < -180), _DECIMALS)


def _cut(ring: Polygon) -> Polygon | MultiPolygon:
    """An outline as GeoJSON wants it: counterclockwise, cut in two at 180 degrees, rounded to a tenth of a metre."""
    world = shapely.box(-180, -90, 180, 90)
    turned = [translate(ring, turn).intersection(world) for turn in (-360, 0, 360)]
    pieces = [orient(piece) for piece in turned if piece.area]
    whole = MultiPolygon(pieces) if len(pieces) > 1 else pieces[0]
    return shapely.transform(whole, lambda corners: corners.round(_DECIMALS))


def _asset(href: str, title: str, media: str, role: str, **more: Any) -> dict[str, Any]:
    return {"href": f"./{href}", "title": title, "type": media, "roles": [role], **more}


def _classes() -> list[dict[str, Any]]:
    none = {"value": 0, "name": "none", "description": "No zone", "nodata": True}
    return [
        none,
        *(
            {
                "value": value,
                "name": f"lcz-{zone.code}",
                "description": zone.name,
                "color_hint": zone.color.removeprefix("#").upper(),
            }
            for value, zone in zip(VALUES, ZONES, strict=True)
        ),
    ]
