"""Products as people have them: a raster, a folder or zip of them, a .SAFE product, a STAC item."""

import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from bp_lcz.errors import UserError, one_line
from bp_lcz.sensors.names import band_name, level_of, moment, polarisation
from bp_lcz.sensors.raster import opened
from bp_lcz.sensors.sentinel2 import DN, FIRST_WITH_OFFSET
from bp_lcz.sensors.stac import read_item
from bp_lcz.sensors.stack import Stack, Stated, Stored

_RASTERS = {".jp2", ".tif", ".tiff", ".vrt", ".img"}
_MOST_MEMBERS = 20_000
_MOST_XML = 8 * 2**20
_AT_ONCE = 2**20
_XML = re.compile(r"MTD_MSI(L1C|L2A)?\.xml")
_RADAR = re.compile(r"S1[A-D]_\w\w_(SLC|GRD|RAW|OCN)\w?_", re.IGNORECASE)


@dataclass(frozen=True)
class _Folder:
    """A folder or zip, and the paths of the files in it."""

    path: Path
    members: tuple[str, ...]
    is_zip: bool

    @property
    def unpacked(self) -> str:
        """How advice to name a file inside begins: a zip must be unpacked first."""
        return "unpack it and " if self.is_zip else ""

    def target(self, member: str) -> str:
        """The path of a file as GDAL opens it."""
        return f"/vsizip/{{{self.path.absolute()}}}/{member}" if self.is_zip else str(self.path / member)

    def text(self, member: str) -> str:
        """The beginning of a text file."""
        if not self.is_zip:
            with (self.path / member).open("rb") as file:
                return file.read(_MOST_XML).decode("utf-8", errors="replace")
        with self._packed(member) as file:
            return file.read(_MOST_XML).decode("utf-8", errors="replace")

    def check(self, members: Iterable[str]) -> None:
        """Check files against the checksums of the zip. GDAL does not, and would read damage as no data.

        Raises:
            UserError: if a file is damaged.
        """
        for member in members if self.is_zip else ():
            with self._packed(member) as file:
                while file.read(_AT_ONCE):
                    pass

    @contextmanager
    def _packed(self, member: str) -> Iterator[IO[bytes]]:
        """An open file of the zip. Python checks it against its checksum as it is read."""
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(member) as file:
                yield file
        except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, RuntimeError, EOFError) as error:
            raise UserError(self.path, f"{member} cannot be read: {one_line(error)}; fetch the zip again") from None

    def size(self, members: Iterable[str]) -> int:
        """Bytes of the zip, or, in a folder, of the given files."""
        return self.path.stat().st_size if self.is_zip else sum((self.path / one).stat().st_size for one in members)


def open_optical(stack: ExitStack, path: Path) -> Stack:
    """Open a scene of Sentinel-2.

    Raises:
        UserError: if it is missing or unreadable, holds several products or several files of a band, or refers to
            files outside itself or on the network.
    """
    if _XML.fullmatch(path.name):
        path = path.parent
    if path.suffix.lower() == ".json":
        return read_item(stack, path, band_name)
    folder = _folder(path)
    if folder is None:
        return _raster(stack, path)
    found = [member for member in folder.members if _XML.fullmatch(PurePosixPath(member).name)]
    if len(found) > 1:
        named = f"name one ({', '.join(sorted(found)[:3])})"
        raise UserError(path, f"holds {len(found)} products; {folder.unpacked}{named}")
    if not found:
        return _bands(stack, folder, folder.members, band_name)
    root = PurePosixPath(found[0]).parent
    images = [
        member
        for member in folder.members
        if PurePosixPath(member).is_relative_to(root) and "IMG_DATA" in PurePosixPath(member).parts
    ]
    granules = {PurePosixPath(member).relative_to(root).parts[1] for member in images}
    if len(granules) > 1:
        raise UserError(path, f"holds {len(granules)} granules; {folder.unpacked}give one folder GRANULE/…/IMG_DATA")
    return _bands(stack, folder, images, band_name, _by_xml(path, PurePosixPath(found[0]).name, folder.text(found[0])))


def open_radar(stack: ExitStack, paths: tuple[Path, ...]) -> list[Stack]:
    """Open scenes of Sentinel-1. Two files of one polarisation each become one scene.

    Raises:
        UserError: as in `open_optical`; if a product is in radar geometry; if one of two polarisations is missing.
    """
    whole: list[Stack] = []
    single: Stack | None = None
    for path in paths:
        folder = _folder(path)
        if folder is not None:
            _refuse_radar_geometry(folder)
        if path.suffix.lower() == ".json":
            scene = read_item(stack, path, polarisation)
        else:
            scene = _raster(stack, path) if folder is None else _bands(stack, folder, folder.members, polarisation)
        if scene.count > 1:
            whole.append(scene)
        elif single is None:
            single = scene
        else:
            pair = [band for one in (single, scene) for band in one.bands]
            texts = [band.text if polarisation(band.text) else band.path.stem for band in pair]
            if (twice := polarisation(texts[0])) and twice == polarisation(texts[1]):
                raise UserError(path, f"is {twice} like {single.path.name}; give VV and VH")
            named = [Stored(b.path, b.dataset, b.number, text) for b, text in zip(pair, texts, strict=True)]
            whole.append(Stack(single.path, named, size=single.size + scene.size))
            single = None
    if single is not None:
        raise UserError(single.path, "has one band; give VV and VH, in one file or in two (--s1 VV.tif --s1 VH.tif)")
    return whole


def _refuse_radar_geometry(folder: _Folder) -> None:
    """Refuse ESA's own products, by their files. The name is not enough, since a corrected product may keep it."""
    is_product = any("measurement/" in member or member.endswith("manifest.safe") for member in folder.members)
    kind = next((found for found in map(_RADAR.search, (folder.path.name, *folder.members[:100])) if found), None)
    if is_product:
        raise UserError(
            folder.path,
            f"is a Sentinel-1 {kind[1].upper() if kind else 'product'}, in radar geometry and uncalibrated; give "
            "terrain-corrected, calibrated backscatter such as RTC",
        )


def _folder(path: Path) -> _Folder | None:
    """The folder or zip of this path; None if the path is neither."""
    if os.path.isdir(path):  # noqa: PTH112 - Path's own fails where a name is too long
        members = sorted(one.relative_to(path).as_posix() for one in path.rglob("*") if one.is_file())
        if len(members) > _MOST_MEMBERS:
            raise UserError(path, f"holds {len(members):,} files; name the folder of one scene")
        return _Folder(path, tuple(members), is_zip=False)
    if path.suffix.lower() != ".zip" or not os.path.isfile(path):  # noqa: PTH113
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted(one for one in archive.namelist() if not one.endswith("/"))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(path, f"is not a readable zip (truncated?): {one_line(error)}") from None
    for member in members:
        if member.startswith(("/", "\\")) or ":" in member or ".." in re.split(r"[/\\]", member):
            raise UserError(path, f"holds a path outside itself ({member}); unpack nothing of it")
    return _Folder(path, tuple(members), is_zip=True)


def _raster(stack: ExitStack, path: Path) -> Stack:
    dataset = stack.enter_context(opened(path))
    texts = [text or "" for text in dataset.descriptions]
    bands = [Stored(path, dataset, number, text) for number, text in enumerate(texts, start=1)]
    return Stack(path, bands, size=path.stat().st_size)


def _bands(
    stack: ExitStack,
    folder: _Folder,
    members: Iterable[str],
    name_of: Callable[[str], str],
    stated: Stated | None = None,
) -> Stack:
    """A scene from files of one band each. If a band has several files, the one of finest resolution is taken."""
    images = [member for member in members if _is_image(PurePosixPath(member))]
    named = {member: name for member in images if (name := name_of(PurePosixPath(member).stem))}
    itself = f"has all bands, {folder.unpacked}name that file itself"
    if not named:
        largest = max(images, key=lambda member: folder.size([member]), default=None)
        advice = f"; if {largest} {itself}" if largest else ""
        understood = "such as B02.jp2, …_B02_10m.tif or blue.tif"
        raise UserError(folder.path, f"holds no bands that are understood, {understood}{advice}")
    found: dict[str, list[Stored]] = {}
    for member, name in named.items():
        path = folder.path / member
        dataset = stack.enter_context(opened(path, folder.target(member)))
        if dataset.count != 1:
            raise UserError(path, f"has {dataset.count} bands; expected one band a file; if it {itself}")
        found.setdefault(name, []).append(Stored(path, dataset, 1, name))
    chosen = []
    for files in found.values():
        files.sort(key=lambda band: abs(band.dataset.transform.a))
        if len(files) > 1 and abs(files[0].dataset.transform.a) == abs(files[1].dataset.transform.a):
            raise UserError(folder.path, f"holds a band twice: {files[0].path.name} and {files[1].path.name}")
        chosen.append(files[0])
    folder.check(band.path.relative_to(folder.path).as_posix() for band in chosen)
    return Stack(folder.path, chosen, stated, folder.size(named))


def _is_image(member: PurePosixPath) -> bool:
    is_raster = member.suffix.lower() in _RASTERS and not member.name.startswith(("MSK_", "."))
    return is_raster and "QI_DATA" not in member.parts


def _by_xml(path: Path, name: str, text: str) -> Stated:
    """Level, offset and time that a product's XML states. Its values are plain numbers, so no parser is needed."""

    def values(tag: str) -> set[str]:
        return {found.strip() for found in re.findall(rf"<(?:\w+:)?{tag}(?:\s[^>]*)?>([^<]*)<", text)}

    level = level_of(" ".join(values("PROCESSING_LEVEL")) or name)
    wrong = {one for tag in ("QUANTIFICATION_VALUE", "BOA_QUANTIFICATION_VALUE") for one in values(tag)}
    if any(_number(one) != DN for one in wrong):
        raise UserError(path, f"{name} states a QUANTIFICATION_VALUE of {', '.join(sorted(wrong))}; expected 10000")
    key = "BOA_ADD_OFFSET" if level == "L2A" else "RADIO_ADD_OFFSET"
    offsets = values(key)
    if len(offsets) > 1 or any(_number(one) not in (0, -1000) for one in offsets):
        raise UserError(path, f"{name} states {', '.join(sorted(offsets))} as {key}; expected -1000 or 0 for all bands")
    baseline = next(iter(values("PROCESSING_BASELINE")), "")
    said = f"{name}, {key} {next(iter(offsets), 'absent')}" + (f", baseline {baseline}" if baseline else "")
    if offsets:
        offset: float | None = -_number(offsets.pop()) or 0.0
    else:
        is_older = bool(baseline) and _number(baseline) < FIRST_WITH_OFFSET
        offset = 0.0 if is_older else None
    seen = moment(min(values("DATATAKE_SENSING_START") or values("PRODUCT_START_TIME"), default=""))
    return Stated(name, level, offset, said, (seen, seen) if seen else None)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
