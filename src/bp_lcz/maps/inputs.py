"""The files that a map is made of: which they are, and their hashes."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from bp_lcz.files import file_sha256
from bp_lcz.records import InputFile
from bp_lcz.scenes.raster import opened
from bp_lcz.scenes.scene import SceneOptions


def input_files(options: SceneOptions) -> list[Path]:
    """The files of a scene, those in folders and those that a virtual raster names too."""
    more = [path for path in (options.mask, Path(options.area or "")) if path is not None and path.is_file()]
    return list(dict.fromkeys(file for path in (*options.s1, *options.s2, *more) for file in _files(path)))


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())
        return
    yield path
    if path.suffix.lower() == ".vrt":
        with opened(path) as dataset:
            yield from (file for file in map(Path, dataset.files) if file.is_file())


def states(files: list[Path]) -> list[tuple[str, int, int]]:
    """Path, size and time of change of each, by which a run knows that they are those of the one before."""
    return [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def hashed(files: list[Path]) -> tuple[InputFile, ...]:
    """Name, size and hash of each."""
    return tuple(InputFile(name=file.name, bytes=file.stat().st_size, sha256=file_sha256(file)) for file in files)


def last_change(files: list[Path]) -> str:
    """Of all, in the form of RFC 3339: no scene in them was taken later."""
    newest = max(file.stat().st_mtime for file in files)
    return datetime.fromtimestamp(int(newest), UTC).isoformat().replace("+00:00", "Z")
