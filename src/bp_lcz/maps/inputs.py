"""The files that a map is made from, and their hashes."""

from pathlib import Path

from bp_lcz.errors import UserError
from bp_lcz.files import file_sha256
from bp_lcz.records import InputFile
from bp_lcz.scenes.areas import area_files
from bp_lcz.scenes.scene import Scene, SceneOptions
from bp_lcz.sensors.raster import opened


def input_files(options: SceneOptions, scene: Scene) -> list[Path]:
    """The files of a scene: those that the user named, all of a folder, and files that rasters and items refer to."""
    named = [*options.s1, *options.s2, *area_files(options.area)]
    if options.mask is not None:
        named += _of_raster(options.mask)
    found: dict[Path, None] = {}
    for path in (*named, *scene.files):
        _add(path, found)
    return list(found)


def _add(path: Path, found: dict[Path, None]) -> None:
    """Add a file and the files that it refers to, or all files of a folder, each once."""
    if path.is_dir():
        found |= dict.fromkeys(sorted(file for file in path.rglob("*") if file.is_file()))
    elif path not in found and path.is_file():
        found[path] = None
        for file in _of_raster(path) if path.suffix.lower() == ".vrt" else ():
            _add(file, found)


def _of_raster(path: Path) -> list[Path]:
    with opened(path) as dataset:
        return [Path(file) for file in dataset.files]


State = tuple[str, int, int]


def states(files: list[Path], before: list[State] | None = None) -> list[State]:
    """Path, size and time of change of each file. They show whether a file has changed since `before`.

    Raises:
        UserError: if a file changed or disappeared.
    """
    found = []
    for number, file in enumerate(files):
        try:
            found.append((str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns))
        except OSError:
            raise UserError(file, "disappeared while it was read; run again") from None
        if before is not None and found[-1] != before[number]:
            raise UserError(file, "changed while it was read; run again")
    return found


def hashed(files: list[Path]) -> tuple[InputFile, ...]:
    """Name, size and hash of each file."""
    return tuple(InputFile(name=file.name, bytes=file.stat().st_size, sha256=file_sha256(file)) for file in files)
