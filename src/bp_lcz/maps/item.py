"""The map as an item of a spatio-temporal catalogue (STAC), for catalogues and QGIS to find and read."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform

from bp_lcz.maps.outputs import AREAS, LCZ, PROBABILITY, QUALITY
from bp_lcz.maps.symbology import VALUES
from bp_lcz.scheme import ZONES

ITEM = "item.json"
_EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
)
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_FIRST_IMAGE = "2015-06-27T00:00:00Z"
"""Sentinel-2 has images from then on."""
_EDGE_POINTS = 9


def write_item(
    path: Path, name: str, crs: CRS, place: Affine, shape: tuple[int, int], last: str, notices: Sequence[str]
) -> None:
    """Write the item.

    Args:
        path: file to make.
        name: of the map.
        crs: of the cells.
        place: of the cells.
        shape: rows and columns.
        last: time before which the scenes were taken, as RFC 3339 has it.
        notices: what a reader must know first.
    """
    ring = _outline(crs, place, shape)
    west, south = ring.min(axis=0).tolist()
    east, north = ring.max(axis=0).tolist()
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": _EXTENSIONS,
        "id": name,
        "geometry": {"type": "Polygon", "coordinates": [ring.tolist()]},
        "bbox": [west, south, east, north],
        "properties": {
            "title": f"Local climate zones of {name}",
            "description": " ".join(["Local climate zones (Stewart and Oke 2012) of cells of 100 m.", *notices]),
            "datetime": None,
            "start_datetime": _FIRST_IMAGE,
            "end_datetime": last,
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
    path.write_text(json.dumps(item, indent=1, allow_nan=False) + "\n", encoding="utf-8")


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


def _outline(crs: CRS, place: Affine, shape: tuple[int, int]) -> np.ndarray:
    """Longitude and latitude of points along the edge, counterclockwise and closed, to a tenth of a metre."""
    along = np.linspace(0, 1, _EDGE_POINTS)[:-1]
    zero = np.zeros_like(along)
    down = np.concatenate([along, zero + 1, 1 - along, zero]) * shape[0]
    right = np.concatenate([zero, along, zero + 1, 1 - along]) * shape[1]
    east, north = place.c + place.a * right, place.f + place.e * down
    degrees = np.array(transform(crs, "EPSG:4326", east.tolist(), north.tolist())).T.round(6)
    return np.concatenate([degrees, degrees[:1]])
