"""A STAC item whose assets are local files."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from bp_lcz.errors import UserError
from bp_lcz.sensors.names import level_of, moment
from bp_lcz.sensors.raster import opened
from bp_lcz.sensors.sentinel2 import DN, OFFSET_DN
from bp_lcz.sensors.stack import Stack, Stated, Stored

_MOST_BYTES = 8 * 2**20


def read_item(stack: ExitStack, path: Path, name_of: Callable[[str], str]) -> Stack:
    """Open the bands of an item.

    Args:
        stack: closes the files.
        path: of the item.
        name_of: gives the band that a text names, or an empty text.

    Raises:
        UserError: if it is no STAC item, if a band that is needed is missing or on the network, or if the item states
            different scales or offsets for its bands.
    """
    item = _item(path)
    found: dict[str, tuple[Stored, dict[str, Any]]] = {}
    remote: dict[str, str] = {}
    for key, asset in item["assets"].items():
        for number, name, raster in _bands(key, asset, name_of):
            href = str(asset.get("href", ""))
            file = _local(path, href)
            if file is None:
                remote.setdefault(name, href)
                continue
            dataset = stack.enter_context(opened(file))
            if number > dataset.count:
                raise UserError(path, f"asset {key} names {number} bands, but {file.name} has {dataset.count}")
            is_finer = name not in found or abs(dataset.transform.a) < abs(found[name][0].dataset.transform.a)
            if is_finer:
                found[name] = Stored(file, dataset, number, name), raster
    lacking = {name: href for name, href in remote.items() if name not in found}
    if lacking:
        name, href = next(iter(lacking.items()))
        raise UserError(
            path, f"its band {name} is not a local file ({href[:120]}); download it, and name it in the item"
        )
    if not found:
        raise UserError(path, "has no assets with bands that are understood (bands, eo:bands, or names such as blue)")
    bands = [band for band, _ in found.values()]
    size = sum({band.path: band.path.stat().st_size for band in bands}.values())
    return Stack(path, bands, _stated(path, item, [raster for _, raster in found.values()]), size)


def _item(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            item = json.loads(file.read(_MOST_BYTES))
        if not isinstance(item["assets"], dict) or not all(isinstance(one, dict) for one in item["assets"].values()):
            raise TypeError
    except FileNotFoundError:
        raise UserError(path, "not found") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(path, "is no STAC item: expected JSON with assets") from None
    return dict(item)


def _bands(key: str, asset: dict[str, Any], name_of: Callable[[str], str]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Number, name, and stated scale and offset of each band of an asset."""
    listed = asset.get("bands") or asset.get("eo:bands") or [{}]
    rasters = asset.get("raster:bands") or []
    if not isinstance(listed, list) or not isinstance(rasters, list):
        return
    for number, band in enumerate(listed, start=1):
        if not isinstance(band, dict):
            continue
        texts = [band.get("name"), band.get("eo:common_name"), band.get("common_name")]
        texts += [key] if len(listed) == 1 else []
        name = next((name for name in (name_of(str(text)) for text in texts if text) if name), "")
        raster = rasters[number - 1] if number <= len(rasters) and isinstance(rasters[number - 1], dict) else {}
        said = {
            one: band.get(f"raster:{one}", raster.get(one, asset.get(f"raster:{one}"))) for one in ("scale", "offset")
        }
        if name and not _is_picture(asset):
            yield number, name, said


def _is_picture(asset: dict[str, Any]) -> bool:
    """Thumbnails and true colour pictures are no measurements."""
    roles = asset.get("roles")
    return isinstance(roles, list) and bool({"thumbnail", "overview", "visual", "metadata"} & set(map(str, roles)))


def _local(path: Path, href: str) -> Path | None:
    """The file that a link means; None if it is on a network."""
    parts = urlsplit(href)
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost") or href.startswith("/vsi"):
        return None
    return path.parent / unquote(parts.path)


def _stated(path: Path, item: dict[str, Any], rasters: list[dict[str, Any]]) -> Stated:
    properties = item.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    told = " ".join(str(properties.get(key, "")) for key in ("processing:level", "s2:product_type"))
    scale = _scale(path, {str(raster["scale"]) for raster in rasters if raster["scale"] is not None})
    stated = {str(raster["offset"]) for raster in rasters if raster["offset"] is not None}
    offset, by = None, ""
    if properties.get("earthsearch:boa_offset_applied") is True:
        offset, by = 0.0, f"earthsearch:boa_offset_applied of {path.name}"
    elif stated:
        if len(stated) > 1:
            raise UserError(path, "states different offsets of its bands")
        shift = stated.pop()
        try:
            offset = -float(shift) * DN + 0.0
        except ValueError:
            raise UserError(path, f"states an offset of {shift[:40]}; expected a number") from None
        by = f"raster:bands of {path.name}, scale {scale or 1:g} and offset {shift}"
        if offset not in (0.0, OFFSET_DN):
            raise UserError(path, f"states an offset of {shift}; expected -0.1 or 0")
    at = properties.get("datetime")
    first, last = (moment(at or properties.get(f"{end}_datetime")) for end in ("start", "end"))
    return Stated(path.name, level_of(told), offset, by, (first, last) if first and last else None, scale)


def _scale(path: Path, stated: set[str]) -> float | None:
    """The scale that the item states; None if it states none or 1."""
    try:
        scales = {float(text) for text in stated}
    except ValueError:
        scales = {0.0}
    if len(scales) > 1:
        raise UserError(path, "states different scales of its bands")
    if any(not 0 < scale < np.inf for scale in scales):
        raise UserError(path, f"states a scale of {min(stated)[:40]}; expected a number above 0")
    return None if scales <= {1.0} else scales.pop()
