"""Finds the tiles in a folder of scenes, by the names of its entries."""

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from bp_lcz.errors import UserError
from bp_lcz.sensors.names import band_name

_SUFFIXES = {".tif", ".tiff", ".vrt", ".img", ".jp2", ".zip", ".json", ".safe"}
_RADAR = re.compile(r"(?P<tile>.+)_s1|S1[A-D]_.+", re.IGNORECASE)


class Tile(BaseModel):
    """Scenes of one place, which become one map.

    Attributes:
        name: name of the tile and of the folder of its map.
        s2: scenes of Sentinel-2. Where they overlap, the first one counts.
        s1: scenes of Sentinel-1, if there are any.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    s2: tuple[Path, ...]
    s1: tuple[Path, ...] = ()


def find_tiles(folder: Path) -> tuple[list[Tile], list[str]]:
    """The tiles of a folder, by name, and the names of entries that are not scenes.

    Each entry is a tile. A GeoTIFF, VRT, JP2, STAC item, SAFE folder or zip ``X`` is its scene of Sentinel-2, and
    ``X_s1`` its Sentinel-1. Any other folder is a tile of all scenes in it, or of one scene with a file for each band.
    Scenes called ``…_s1`` or ``S1A_…`` are Sentinel-1. Names that begin with a dot are ignored.

    Raises:
        UserError: if the folder is missing or holds no scene, two tiles have the same name, or Sentinel-1 belongs to
            no tile.
    """
    if not folder.is_dir():
        raise UserError(folder, "no such folder; expected one with a scene or a folder of scenes for each tile")
    tiles, radar, others = dict[str, Tile](), dict[str, Path](), list[str]()
    for entry in _entries(folder):
        name = _name(entry)
        if not _is_scene(entry):
            others.append(entry.name)
        elif (match := _RADAR.fullmatch(name)) and match["tile"]:
            radar[match["tile"]] = entry
        elif name in tiles:
            raise UserError(entry, f"is a second tile {name}; rename one, or put both into a folder {name}")
        else:
            tiles[name] = _tile(name, entry)
    for name, entry in radar.items():
        if name not in tiles:
            raise UserError(
                entry, f"is Sentinel-1 of a tile {name} that has no Sentinel-2; expected {name}.tif or similar"
            )
        tiles[name] = tiles[name].model_copy(update={"s1": (*tiles[name].s1, entry)})
    if not tiles:
        raise UserError(folder, f"holds no scenes; expected {', '.join(sorted(_SUFFIXES))} or folders of them")
    return list(tiles.values()), others


def _tile(name: str, entry: Path) -> Tile:
    is_product = not entry.is_dir() or entry.suffix.lower() == ".safe"
    inside = [] if is_product else [one for one in _entries(entry) if _is_scene(one)]
    radar = tuple(one for one in inside if _RADAR.fullmatch(_name(one)))
    optical = tuple(one for one in inside if one not in radar)
    if not optical or any(band_name(_name(one)) or one.name == "GRANULE" for one in inside):
        optical = (entry,)
    return Tile(name=name, s2=optical, s1=radar)


def _entries(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _is_scene(entry: Path) -> bool:
    return entry.is_dir() or entry.suffix.lower() in _SUFFIXES


def _name(entry: Path) -> str:
    """Name without the suffixes of its format, such as ``.SAFE.zip``."""
    while entry.suffix.lower() in _SUFFIXES:
        entry = entry.with_suffix("")
    return entry.name
