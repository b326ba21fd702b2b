"""Reads polygons of local climate zones that people drew, finds their zones, and tidies them.

Zones come from a field, from the folders of WUDAPT's template, or from the polygons' names; see `read_zones`.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import shapely
from jaxtyping import Float, Int
from rasterio.crs import CRS
from shapely.geometry.base import BaseGeometry

from bp_lcz.errors import UserError
from bp_lcz.scenes.areas import OUTSIDE, Box, Drawn, drawn_polygons, meets, moved
from bp_lcz.scenes.labels import read_label_map
from bp_lcz.scheme import CODES, NAMES
from bp_lcz.words import counted

Overlaps = Literal["refuse", "leave-out"]

_FORMATS = (".geojson", ".json", ".gpkg", ".shp", ".kml", ".kmz", ".fgb", ".gml", ".parquet")

_FIELDS = ("lcz", "lczclass", "lczcode", "lcztype", "lczprimary", "class", "classname", "zone", "label", "gridcode")
"""Usual names of the field of zones, in lower case and without signs. The first one that a file has is used."""
_NAME = "name"
"""Field that is used last, since people also number polygons in it."""
_CHECKS = ("qcstep1", "qcstep2", "qcstep3")
"""Fields with checks of the LCZ Generator. A polygon that failed one is left out."""
_FAILED = ("false", "f", "0", "no", "n")
_ORIGINS = {"licences": ("license", "licence"), "authors": ("author", "authors", "attribution"), "sources": ("source",)}
_DEGREES = CRS.from_epsg(4326)
_DEGREE_M = 111_195.0
"""Length of a degree of latitude in m."""
_LEAST_M2 = 100.0
"""Area that two polygons may share by inexact drawing, in m2: one pixel."""
_SHOWN = 5

_BY_CODE = {code.casefold(): number for number, code in enumerate(CODES, start=1)}
_BY_CODE |= {str(number): number for number in range(11, 18)} | {str(90 + number): number for number in range(11, 18)}
_BY_NAME = {"".join(re.findall(r"\w+", name.casefold())): number for number, name in enumerate(NAMES, start=1)}


@dataclass(frozen=True)
class Zones:
    """Polygons that have a zone.

    Attributes:
        shapes: valid polygons of one part or several, without heights, in EPSG:4326 (longitude, latitude); longitudes
            go on beyond 180 where a polygon of a projection crosses that meridian.
        classes: zone of each polygon, 1..17.
        ids: unique name of each polygon in the file: ``#3``, the third of its layer, or ``LCZ A #3`` where there are
            several layers.
        source: where polygons and zones come from and under which licences, as results quote it.
        lines: what was found and left out, as messages.
    """

    shapes: tuple[BaseGeometry, ...]
    classes: Int[np.ndarray, " polygon"]
    ids: tuple[str, ...]
    source: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Named:
    drawn: Drawn
    id: str
    zone: int
    shape: BaseGeometry


def read_zones(
    path: Path,
    field: str | None = None,
    label_map: Path | None = None,
    overlaps: Overlaps = "refuse",
    within: Box | None = None,
) -> Zones:
    """Polygons of local climate zones of a file.

    Zones are ``1`` to ``17``, ``1`` to ``10`` and ``A`` to ``G``, or ``101`` to ``107``, each with or without ``LCZ``
    before it, or the English names. A polygon is left out and counted if it lies elsewhere, has no zone or one that the
    map drops, failed a check of the LCZ Generator, or was drawn before.

    Args:
        path: in any format of GDAL and any coordinates.
        field: field that holds the zones. None takes the first of the usual fields, else the names of the layers (in
            KML, folders) if there are several, else the names of the polygons.
        label_map: JSON from other values or names to codes, or to null, which drops them.
        overlaps: for polygons of different zones: ``refuse`` them, or ``leave-out`` the ground on which they differ.
        within: box outside which polygons are left out.

    Raises:
        UserError: for the reasons of `drawn_polygons`, if no zones are found, if a text is not a zone, if polygons
            contradict each other, or if none remains.
    """
    drawn, left_out = drawn_polygons(path, within=within)
    _check(path, drawn, left_out)
    known = {} if label_map is None else read_label_map(label_map)
    origin, texts = _texts(path, drawn, field, known)
    origin += f" and {label_map.name}" if label_map else ""
    kept = list(_tidied(path, drawn, texts, known, within, left_out))
    _check(path, kept, left_out)
    kept, dropped = _without_contradictions(path, kept, overlaps, left_out)
    _check(path, kept, left_out)
    lines = [f"{path.name}: {counted(len(kept), 'polygon')} of {_per_zone(kept)}; zones from {origin}"]
    lines += [f"{path.name}: left out {_told(left_out)}"] * bool(left_out)
    lines += [f"{path.name}: {text}" for text in dropped]
    origins = _origins([one.drawn for one in kept])
    return Zones(
        shapes=tuple(one.shape for one in kept),
        classes=np.array([one.zone for one in kept]),
        ids=tuple(one.id for one in kept),
        source="; ".join([f"polygons of {path.name}, zones from {origin}", *origins]),
        lines=(*lines, *(f"{path.name}: {text}" for text in origins)),
    )


def are_polygons(path: Path) -> bool:
    """Whether a file holds polygons rather than a raster, by its suffix."""
    return path.suffix.lower() in _FORMATS


def zone_named(text: str) -> int | None:
    """Zone 1..17 of a code or an English name; None if the text is neither.

    >>> [zone_named(text) for text in ("LCZ 1", "lcz_B", "104", "D", "Compact highrise", "2 - Compact mid-rise")]
    [1, 12, 14, 14, 1, 2]
    >>> [zone_named(text) for text in ("0", "18", "H", "Dichte Bäume", "a park", "2 Compact high-rise")]
    [None, None, None, None, None, None]
    """
    words = re.findall(r"[^\W_]+", re.sub(r"\.0+$", "", text.strip()).casefold())
    words = " ".join(re.sub(r"^lcz(?=\d+$|[a-g]$)", "lcz ", word) for word in words).split()
    is_said = "lcz" in words
    words = [word.lstrip("0") for word in words if word != "lcz"]
    if not words:
        return None
    for code, rest in ((words[0], words[1:]), (words[-1], words[:-1])):
        zone, named = _BY_CODE.get(code), _BY_NAME.get("".join(rest))
        if zone is not None and (not rest or named == zone or (is_said and named is None)):
            return zone
    return _BY_NAME.get("".join(words))


def _texts(
    path: Path, drawn: list[Drawn], field: str | None, known: dict[str, int | None]
) -> tuple[str, list[str | None]]:
    """Where the zones stand (a field or names), and the text that stands there for each polygon."""
    fields = list(dict.fromkeys(name for one in drawn for name in one.fields))
    found = {_plain(name): name for name in reversed(fields)}
    if field is not None and field not in fields:
        raise UserError(path, f"has no field {field}; it has {', '.join(fields) or 'none'}")
    chosen = field or next((found[name] for name in _FIELDS if name in found and _said(drawn, found[name])), None)
    if chosen is not None:
        texts = [_text(one.fields.get(chosen)) for one in drawn]
        strange = _strange(texts, known)
        if strange:
            raise UserError(
                path, f"field {chosen} holds {_listed(strange)}, which are not local climate zones; {_REMEDY}"
            )
        return f"field {chosen}", texts
    layers = [re.sub(r" \(#\d+\)$", "", one.layer) for one in drawn]
    names = [_text(one.fields.get(found.get(_NAME, ""))) for one in drawn]
    ways: dict[str, list[str | None]] = {}
    if len(set(layers)) > 1:
        ways["names of layers"] = list(layers)
    if any(names):
        ways["names of polygons"] = names
    for way, texts in ways.items():
        if not _strange(texts, known):
            return way, texts
    seen = "; ".join(f"{way}: {_listed(_strange(texts, known))}" for way, texts in ways.items())
    raise UserError(path, f"nothing tells local climate zones{f' ({seen})' if seen else ''}; {_REMEDY}")


_REMEDY = (
    "name them LCZ 1 to LCZ 10 and LCZ A to LCZ G, in folders or a field LCZ, name another field with --field, or "
    'say what they mean with --label-map, {"Dichte Bäume": "A", "Park": null}'
)


def _said(drawn: list[Drawn], field: str) -> bool:
    return any(_text(one.fields.get(field)) is not None for one in drawn)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _text(value: Any) -> str | None:
    """Text of a field's value; None if it is empty."""
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return None
    return str(value).strip() or None


def _strange(texts: list[str | None], known: dict[str, int | None]) -> list[str]:
    """Texts that are not zones, each once."""
    return [text for text in dict.fromkeys(texts) if text is not None and text not in known and not zone_named(text)]


def _listed(texts: list[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def _tidied(
    path: Path,
    drawn: list[Drawn],
    texts: list[str | None],
    known: dict[str, int | None],
    within: Box | None,
    left_out: Counter[str],
) -> Iterator[_Named]:
    """The polygons that have a zone, each once; the others are counted in `left_out`."""
    has_layers = len({one.layer for one in drawn}) > 1
    seen: set[tuple[int, bytes]] = set()
    for one, text in zip(drawn, texts, strict=True):
        zone = None
        if text is not None:
            place = known.get(text)
            zone = zone_named(text) if text not in known else None if place is None else place + 1
        failed = [name for name, value in one.fields.items() if _plain(name) in _CHECKS and _is_false(value)]
        shape = _unbroken(moved(path, one.shape, one.crs, _DEGREES), one.crs)
        form = (zone or 0, np.round(shapely.get_coordinates(shape.normalize()), 6).tobytes())
        reasons = (
            (OUTSIDE, within is not None and not meets(shape, within)),
            ("without a zone", text is None),
            ("that --label-map drops", text is not None and zone is None),
            (f"failed by {', '.join(failed)}", bool(failed)),
            ("drawn a second time", form in seen),
        )
        reason = next((reason for reason, applies in reasons if applies), None)
        if reason is not None or zone is None:
            left_out[str(reason)] += 1
            continue
        seen.add(form)
        name = f"{one.layer} #{one.number}" if has_layers else f"#{one.number}"
        yield _Named(one, name, zone, shape)


def _is_false(value: Any) -> bool:
    return str(value).strip().casefold() in _FAILED


def _unbroken(shape: BaseGeometry, own: CRS) -> BaseGeometry:
    """A shape whose longitudes go on beyond 180, where moving it from a projection made them jump to -180."""
    west, _, east, _ = shape.bounds
    if own.is_geographic or east - west < 180:
        return shape

    def turned(corners: Float[np.ndarray, "corner 2"]) -> Float[np.ndarray, "corner 2"]:
        return np.column_stack([corners[:, 0] + 360 * (corners[:, 0] < 0), corners[:, 1]])

    return shapely.transform(shape, turned)


def _without_contradictions(
    path: Path, kept: list[_Named], overlaps: Overlaps, left_out: Counter[str]
) -> tuple[list[_Named], list[str]]:
    """The polygons without the ground that polygons of other zones share, and a note about that ground."""
    shapes = np.array([one.shape for one in kept])
    zones = np.array([one.zone for one in kept])
    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    apart = (zones[first] != zones[second]) & (first < second)
    first, second = first[apart], second[apart]
    ground = np.array([_area_m2(shape) for shape in shapely.intersection(shapes[first], shapes[second])])
    first, second, ground = (values[ground > _LEAST_M2] for values in (first, second, ground))
    if not len(first):
        return kept, []
    pairs = f"{counted(len(first), 'pair')} of polygons of different zones share {ground.sum() / 1e6:,.2f} km2"
    if overlaps == "refuse":
        example = " and ".join(f"{kept[i].id} ({_code(kept[i].zone)})" for i in (first[0], second[0]))
        raise UserError(path, f"{pairs}, such as {example}; mend them, or drop that ground with --overlaps leave-out")
    result = []
    for number, one in enumerate(kept):
        rivals = shapes[np.concatenate([second[first == number], first[second == number]])]
        rest = shapely.difference(one.shape, shapely.union_all(rivals)) if len(rivals) else one.shape
        parts = [part for part in shapely.get_parts(rest) if part.geom_type == "Polygon" and _area_m2(part) > _LEAST_M2]
        if parts:
            result.append(replace(one, shape=parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)))
    if len(result) < len(kept):
        left_out["wholly taken for another zone, too"] += len(kept) - len(result)
    return result, [f"{pairs}, which is left out"]


def _area_m2(shape: BaseGeometry) -> float:
    """Area of a small shape in degrees, in m2, exact to a percent."""
    _, south, _, north = shape.bounds if not shape.is_empty else (0, 0, 0, 0)
    return float(shape.area * _DEGREE_M**2 * np.cos(np.radians((south + north) / 2)))


def _check(path: Path, kept: list[Any], left_out: Counter[str]) -> None:
    if not kept:
        raise UserError(path, f"no polygon remains; left out {_told(left_out)}")


def _told(left_out: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())


def _per_zone(kept: list[_Named]) -> str:
    counts = sorted(Counter(one.zone for one in kept).items())
    return ", ".join(f"{_code(zone)} ({NAMES[zone - 1]}) {count:,}" for zone, count in counts)


def _code(zone: int) -> str:
    return f"LCZ {CODES[zone - 1]}"


def _origins(drawn: list[Drawn]) -> list[str]:
    """Licences, authors and sources of polygons, if the file states them."""
    result = []
    for kind, names in _ORIGINS.items():
        counts = Counter(
            text
            for one in drawn
            for name, value in one.fields.items()
            if _plain(name) in names and (text := _text(value)) is not None
        )
        if counts:
            result.append(f"{kind} {_listed([f'{text} ({count:,})' for text, count in counts.most_common()])}")
    return result
