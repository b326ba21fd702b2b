"""What a map says of itself."""

from typing import ClassVar, Literal

from bp_lcz.records.base import Part, Record
from bp_lcz.records.data import DataKind
from bp_lcz.records.scene import SceneFindings


class MappedBy(Part):
    """The model of a map.

    Attributes:
        name: by which it was called.
        trial: in which it was trained.
        weights_sha256: of its weights.
        dataset: it was trained on.
        kind: what that is.
        level: of Sentinel-2 that it takes; None where that is unknown.
    """

    name: str
    trial: str
    weights_sha256: str
    dataset: str | None
    kind: DataKind | None
    level: str | None


class InputFile(Part):
    """A file that was read."""

    name: str
    bytes: int
    sha256: str


class MapReport(Record):
    """``report.json`` of a map; equal inputs, model and options give equal bytes.

    Attributes:
        notices: what a reader must know first, in sentences.
        model: of the map.
        scene: what was found in the files, and by what evidence.
        inputs: files that were read.
        crs: of the cells.
        west: of the map's corner in m.
        north: likewise.
        rows: of cells.
        columns: likewise.
        reasons: cells by why they have a zone or none, by the words of `Reason`.
        zones: cells of each zone that is there, by its code.
        filter: that went over the zones.
        versions: of what computed the map.
    """

    remedy: ClassVar[str] = "make the map again"
    format: Literal[1] = 1
    notices: tuple[str, ...]
    model: MappedBy
    scene: SceneFindings
    inputs: tuple[InputFile, ...]
    crs: str
    west: float
    north: float
    rows: int
    columns: int
    reasons: dict[str, int]
    zones: dict[str, int]
    filter: str
    versions: dict[str, str]
