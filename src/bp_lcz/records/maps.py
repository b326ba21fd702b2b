"""What a map says of itself."""

from typing import ClassVar, Literal

from bp_lcz.records.base import Part, Record
from bp_lcz.records.data import DataKind
from bp_lcz.records.scene import SceneFindings
from bp_lcz.records.scores import Interval, Scores


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


MapMetric = Literal["oa", "oa_u", "oa_bu", "oa_w", "kappa"]


class Estimate(Part):
    """A value with its 95 % interval; None where undefined."""

    value: float | None
    interval: Interval


class ZoneAccuracy(Part):
    """Of one zone.

    Attributes:
        code: of the zone.
        name: likewise.
        cells: of the reference that are of this zone.
        mapped_cells: of the reference that the map takes for it.
        producers: share of the former that are mapped so.
        users: share of the latter that are so.
        f1: harmonic mean of both.
        km2: of this zone on the whole map.
        adjusted_km2: the same after the errors that the reference tells of.
    """

    code: str
    name: str
    cells: int
    mapped_cells: int
    producers: Estimate
    users: Estimate
    f1: Estimate
    km2: float
    adjusted_km2: Estimate


class Accuracy(Record):
    """``accuracy.json``: a map against a reference.

    Attributes:
        reference: name of its file.
        sha256: of that file.
        kind: of what it consists.
        band: of a raster, by its name, or else its number from 1 on.
        found: in the file, and what was left out, in sentences.
        cells: of the reference with a zone on the map too.
        unmapped: of the reference without.
        unit: that intervals resample.
        units: how many there are; intervals of fewer than 20 are too narrow.
        metrics: of the map.
        zones: in So2Sat's order.
        macro_f1: mean F1 of the zones of the reference.
        confusion: 17 x 17 cells, rows are zones of the reference.
        splits: metrics on 30 % of the polygons, 25 times: mean and range of the middle 90 %; of polygons alone.
        unadjusted_km2: of the map in zones that too few units of the reference check.
        seen: cells whose patch of 320 m shares ground with a patch that the model was trained on; None if unknown.
        seen_by: how that is known, whether it is a bound, or why it is not known.
        ceiling: by which any accuracy is to be read.
    """

    remedy: ClassVar[str] = "make the map again"
    format: Literal[3] = 3
    reference: str
    sha256: str
    kind: Literal["polygons", "raster"]
    band: str | None
    found: tuple[str, ...]
    cells: int
    unmapped: int
    unit: Literal["polygon", "block of 1 km"]
    units: int
    metrics: dict[MapMetric, Estimate]
    zones: tuple[ZoneAccuracy, ...]
    macro_f1: float
    confusion: tuple[tuple[int, ...], ...]
    splits: dict[MapMetric, Estimate] | None
    unadjusted_km2: float
    seen: int | None
    seen_by: str
    ceiling: str


class MappedPair(Part):
    """Another map and this one, on the cells that are certain in both.

    Attributes:
        other: name of its folder.
        cells: with a zone in both maps and like the training data.
        certain: of them, those of which both maps are certain.
        changed: of those, the ones with another zone.
        share: of the latter in the former, with an interval by blocks of 1 km.
        transitions: 17 x 17 certain cells, rows are zones of the other map.
    """

    other: str
    cells: int
    certain: int
    changed: int
    share: Estimate
    transitions: tuple[tuple[int, ...], ...]


class Change(Part):
    """From a map of another date to this one.

    Attributes:
        most_error: sum of what both probabilities lack to 1, up to which a cell is certain.
        pair: both maps.
        noise: this map and one of the same year, between which nothing has changed.
        beyond: share of changed cells beyond that of the noise.
        blocks: of 1 km that intervals resample; those of fewer than 20 are too narrow.
    """

    most_error: float
    pair: MappedPair
    noise: MappedPair | None
    beyond: Estimate | None
    blocks: int


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
        temperature: that calibrated the probabilities; None where the model has none.
        set_coverage: that the sets of classes were asked for; None where there are none.
        against: another map that this one was compared with.
        accuracy: against a reference.
        change: from a map of another date.
        versions: of what computed the map.
    """

    remedy: ClassVar[str] = "make the map again"
    format: Literal[6] = 6
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
    temperature: float | None
    set_coverage: float | None
    against: Comparison | None
    accuracy: Accuracy | None
    change: Change | None
    versions: dict[str, str]
