"""Findings in the files of a scene."""

from typing import Literal

from bp_lcz.records.base import Part


class FileFindings(Part):
    """Findings in one file of a scene.

    Attributes:
        name: name of the file.
        size: size in bytes; for a folder, of those files in it that are read.
        quantity: physical quantity of its values.
        bands: place of each channel, as ``number`` or ``file, number``.
        units: units of the stored values.
        scale: factor of a stored value, applied before decibels become power and amplitudes are squared.
        shift: offset that is added after ``scale``.
        level: ``L1C`` or ``L2A`` of Sentinel-2, if known.
        taken: first and last time at which Sentinel-2 saw the ground, if known.
        resampled: whether its finest pixels do not lie on the grid, so that all pixels were resampled.
        evidence: lines that say how all this was found.
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
    """Findings in all files of a scene.

    Attributes:
        crs: coordinate reference system of its grid.
        level: ``L1C`` or ``L2A``, if known.
        files: its files in the order in which they were given, Sentinel-1 first.
    """

    crs: str
    level: str | None
    files: tuple[FileFindings, ...]
