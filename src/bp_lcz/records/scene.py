"""What was found in the files of a scene."""

from typing import Literal

from bp_lcz.records.base import Part


class FileFindings(Part):
    """What was found in one file of a scene.

    Attributes:
        name: of the file.
        size: in bytes; of a folder, of the files in it that are read.
        quantity: what its values are.
        bands: where each channel is stored, as ``number`` or ``file, number``.
        units: of the stored values.
        scale: quantity of a stored 1, before decibels become power and amplitudes squares.
        shift: likewise of a stored 0.
        level: ``L1C`` or ``L2A`` of Sentinel-2, where it is known.
        taken: first and last moment at which Sentinel-2 saw the ground, where that is known.
        resampled: whether its finest pixels are none of the grid, so that all were made anew.
        evidence: lines that say by what all this was found.
    """

    name: str
    size: int
    quantity: Literal["backscatter", "reflectance"]
    bands: dict[str, str]
    units: str
    scale: float
    shift: float
    level: str | None
    taken: tuple[str, str] | None
    resampled: bool
    evidence: tuple[str, ...]


class SceneFindings(Part):
    """What was found in the files of a scene.

    Attributes:
        crs: coordinates of its grid.
        level: ``L1C`` or ``L2A``, where it is known.
        files: in the order in which they were named, Sentinel-1 first.
    """

    crs: str
    level: str | None
    files: tuple[FileFindings, ...]
