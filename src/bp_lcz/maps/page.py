"""Writes a map as one page that opens from a disk, also on a phone, and needs no server.

The page contains Leaflet, and the packed zones and probabilities of each cell, which it draws itself.
"""

import base64
import gzip
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from jaxtyping import Float64, UInt8
from PIL import Image
from rasterio.warp import transform

from bp_lcz.maps.accuracy import FEW_UNITS, METRICS, doubts_of, measured, shown
from bp_lcz.maps.cells import Reason
from bp_lcz.maps.change import largest, verdict
from bp_lcz.maps.outputs import LCZ, PROBABILITY, QUALITY
from bp_lcz.records import Accuracy, Change
from bp_lcz.scheme import ZONES
from bp_lcz.templates import template_environment
from bp_lcz.words import counted

PAGE = "map.html"
MOST_CELLS = 1_500_000
"""Most cells of a page; a full tile of Sentinel-2 has 1.2 million. Larger maps show every second, third, ... cell."""
SHOWN = 4
"""Number of zones whose probabilities are shown for a cell."""
REASONS = {
    Reason.OUTSIDE_AREA: "outside the area",
    Reason.RIM: "rim: their patch of 320 m reaches beyond the scene",
    Reason.SENTINEL2_MISSING: "Sentinel-2 has gaps in their patch",
    Reason.SENTINEL1_MISSING: "Sentinel-1 has gaps in their patch",
    Reason.MASKED: "masked, such as clouds",
    Reason.UNLIKE: "unlike the training data",
}
"""Texts for the reasons of ``quality.tif``. A cell with the last one still has a zone."""
_NODE_M, _MOST_NODES = 3_500, 41
"""Distance in m and largest number of points with exact longitude and latitude. The page interpolates between them,
with an error of up to a metre in maps of 140 km."""
_QUALITY = 80
"""WebP quality of the picture, 0 to 100."""


@dataclass(frozen=True)
class Story:
    """The texts and numbers of a page, besides its pictures.

    Attributes:
        title: name of the map.
        days: days of its scenes; empty if unknown.
        model: lines about the model.
        notices: warnings that come first.
        agreement: lines about agreement with another map.
        findings: lines about the inputs, and by what evidence.
        files: name and content of each file beside the page.
        accuracy: accuracy by a reference.
        change: change from a map of another date.
    """

    title: str
    days: str = ""
    model: Sequence[str] = ()
    notices: Sequence[str] = ()
    agreement: Sequence[str] = ()
    findings: Sequence[str] = ()
    files: Sequence[tuple[str, str]] = ()
    accuracy: Accuracy | None = None
    change: Change | None = None


@dataclass(frozen=True)
class _Cells:
    """What a page shows for each cell, or for every n-th cell of a large map.

    Attributes:
        step: n.
        lcz: zones 1..17, 0 for none.
        reason: reasons as in ``quality.tif``.
        ranked: the most probable zones, each followed by its probability in percent.
    """

    step: int
    lcz: UInt8[np.ndarray, "row column"]
    reason: UInt8[np.ndarray, "row column"]
    ranked: UInt8[np.ndarray, "plane row column"]


def days_of(taken: Sequence[tuple[str, str] | None]) -> str:
    """The first and the last day of scenes, as text.

    Args:
        taken: first and last time of each scene, in the form of RFC 3339; None if unknown.

    Returns:
        The days; an empty text if one of them is unknown.

    Example:
        >>> days_of([("2020-03-02T10:10:29Z", "2020-03-02T10:10:29Z")])
        '2 March 2020'
        >>> days_of([("2020-03-02T10:10:29Z", "2020-05-06T10:10:29Z")])
        '2 March 2020 to 6 May 2020'
        >>> days_of([("2020-03-02T10:10:29Z", "2020-03-02T10:10:29Z"), None])
        ''
    """
    moments = [datetime.fromisoformat(moment) for times in taken if times for moment in times]
    if None in taken or not moments:
        return ""
    return " to ".join(dict.fromkeys(f"{day.day} {day:%B %Y}" for day in (min(moments), max(moments))))


def write_page(folder: Path, true_colour: UInt8[np.ndarray, "line sample 3"], story: Story) -> Path:
    """Write ``map.html`` into the folder of a map.

    Args:
        folder: folder with ``lcz.tif``, ``probability.tif`` and ``quality.tif``.
        true_colour: picture of the same ground, of any resolution; black where it is unknown.
        story: texts and numbers.

    Returns:
        Path of the page. Equal inputs give equal bytes.
    """
    with rasterio.open(folder / LCZ) as file:
        lcz, crs, place = file.read(1), file.crs, file.transform
    with rasterio.open(folder / QUALITY) as file:
        reason = file.read(file.descriptions.index("reason") + 1)
    cells = _cells(folder, lcz, reason)
    within = int((reason != Reason.OUTSIDE_AREA).sum())
    scripts = [_text("leaflet-1.9.4/leaflet.js"), _text("map.js")]
    page = (
        template_environment("bp_lcz.maps")
        .get_template(f"{PAGE}.j2")
        .render(
            story=story,
            step=cells.step,
            zones=_zones(lcz, place),
            absent=[zone for number, zone in enumerate(ZONES, start=1) if not (lcz == number).any()],
            reasons=_reasons(reason, within),
            unlike=Reason.UNLIKE,
            mapped=_share(int((lcz > 0).sum()), within),
            km2=(lcz > 0).sum() * abs(place.determinant) / 1e6,
            cell=place.a,
            crs=crs.to_string(),
            scripts=scripts,
            hashes=" ".join(map(_hash, scripts)),
            styles=[_text("leaflet-1.9.4/leaflet.css"), _text("map.css")],
            licence=_text("leaflet-1.9.4/LICENSE"),
            metrics=METRICS,
            few_units=FEW_UNITS,
            counted=counted,
            doubts=doubts_of(story.accuracy) if story.accuracy else [],
            measured=measured,
            shown=shown,
            colours={zone.code: zone.color for zone in ZONES},
            verdict=verdict,
            largest=largest,
            facts=_facts(lcz, cells, place, crs),
            cells=_packed(cells),
            true_colour=_image(true_colour),
        )
    )
    target = folder / PAGE
    target.write_text(page, encoding="utf-8")
    return target


def _cells(folder: Path, lcz: UInt8[np.ndarray, "row column"], reason: UInt8[np.ndarray, "row column"]) -> _Cells:
    step = int(np.ceil(np.sqrt(lcz.size / MOST_CELLS)))
    every = (slice(step // 2, None, step),) * 2
    shape = lcz[every].shape
    with rasterio.open(folder / PROBABILITY) as file:
        percent = np.zeros((file.count, *shape), np.uint8)
        for band, values in zip(file.indexes, percent, strict=True):
            values[:] = file.read(band)[every]
    percent[:, lcz[every] == 0] = 0
    own = lcz[every] == np.arange(1, len(percent) + 1)[:, None, None]  # comes first among equal percents
    best = np.argsort(-2 * percent.astype(np.int16) - own, axis=0, kind="stable")[:SHOWN]
    ranked = np.stack([best + 1, np.take_along_axis(percent, best, axis=0)], axis=1).astype(np.uint8)
    ranked[:, 0][ranked[:, 1] == 0] = 0
    return _Cells(step, lcz[every], reason[every], ranked.reshape(-1, *shape))


def _packed(cells: _Cells) -> str:
    planes = np.concatenate([cells.lcz[None], cells.reason[None], cells.ranked])
    return base64.b64encode(gzip.compress(planes.tobytes(), 6, mtime=0)).decode("ascii")


def _degrees(shape: tuple[int, int], place: Affine, crs: Any) -> Float64[np.ndarray, "coordinate node node"]:
    """Longitude and latitude of points that divide the map's sides evenly, from its north-west corner on."""
    nodes = min(2 + int(max(shape) * place.a / _NODE_M), _MOST_NODES)
    across, down = np.meshgrid(np.linspace(0, shape[1], nodes), np.linspace(0, shape[0], nodes))
    east, north = place.c + place.a * across, place.f + place.e * down
    return np.array(transform(crs, "EPSG:4326", east.ravel(), north.ravel())[:2]).reshape(2, nodes, nodes)


def _facts(lcz: UInt8[np.ndarray, "row column"], cells: _Cells, place: Affine, crs: Any) -> str:
    """What the page's own code needs to know, as JSON that may stand in HTML."""
    (height, width), (rows, columns) = lcz.shape, cells.lcz.shape
    degrees = _degrees(lcz.shape, place, crs).round(6).tolist()
    facts = {
        "crs": crs.to_string(),
        "west": place.c,
        "north": place.f,
        "width": width * place.a,
        "height": height * -place.e,
        "cell": place.a * cells.step,
        "rows": rows,
        "columns": columns,
        "degrees": dict(zip(("east", "north"), degrees, strict=True)),
        "zones": [[zone.code, zone.name, zone.color] for zone in ZONES],
        "reasons": REASONS,
        "unlike": Reason.UNLIKE,
        "shown": SHOWN,
    }
    return json.dumps(facts).replace("<", "\\u003c")


def _zones(lcz: UInt8[np.ndarray, "row column"], place: Affine) -> list[dict[str, Any]]:
    """Each zone of the map with its area and its share of the cells that have one."""
    counts = np.bincount(lcz.ravel(), minlength=len(ZONES) + 1)[1:].tolist()
    most = max(*counts, 1)
    return [
        {
            "number": number,
            "zone": zone,
            "km2": count * abs(place.determinant) / 1e6,
            "share": _share(count, sum(counts)),
            "bar": round(100 * count / most, 1),
        }
        for number, (zone, count) in enumerate(zip(ZONES, counts, strict=True), start=1)
        if count
    ]


def _reasons(reason: UInt8[np.ndarray, "row column"], within: int) -> list[dict[str, Any]]:
    counts = np.bincount(reason.ravel(), minlength=Reason.UNLIKE + 1).tolist()
    return [
        {"number": number, "text": text, "cells": counts[number], "share": _share(counts[number], within)}
        for number, text in REASONS.items()
        if counts[number] and number != Reason.OUTSIDE_AREA
    ]


def _share(part: int, whole: int) -> str:
    """Percent with one decimal. A part that is not empty is never shown as 0.0."""
    percent = 100 * part / max(whole, 1)
    return "< 0.1 %" if 0 < percent < 0.05 else f"{percent:.1f} %"


def _image(picture: UInt8[np.ndarray, "line sample 3"]) -> str:
    known = np.where(picture.any(axis=2, keepdims=True), 255, 0).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(np.concatenate([picture, known], axis=2)).save(content, "WEBP", quality=_QUALITY)
    return base64.b64encode(content.getvalue()).decode("ascii")


def _hash(script: str) -> str:
    """Hash of a script. The page's security policy allows only scripts with listed hashes."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'"


def _text(name: str) -> str:
    return files("bp_lcz.maps").joinpath("templates", name).read_text(encoding="utf-8")
