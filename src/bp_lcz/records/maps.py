"""What a map says of itself."""

from typing import ClassVar, Literal

from bp_lcz.records.base import Part, Record
from bp_lcz.records.data import DataKind
from bp_lcz.records.scene import SceneFindings
from bp_lcz.records.scores import Scores


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


class Comparison(Part):
    """A map against another, on the cells of the first.

    Attributes:
        other: name of its file or folder.
        is_own: whether the other is a folder of a map of ours, which nobody takes for the truth.
        band: of the other, by its name, or else its number from 1 on.
        cells: with a zone in both.
        here_alone: cells with a zone in this map only.
        there_alone: cells with a zone in the other only.
        scores: of the zones of this map, taken for predictions of those of the other.
    """

    other: str
    is_own: bool
    band: str
    cells: int
    here_alone: int
    there_alone: int
    scores: Scores


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
        against: another map that this one was compared with.
        compare: another map of ours, likewise.
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
    against: Comparison | None
    compare: Comparison | None
    versions: dict[str, str]
