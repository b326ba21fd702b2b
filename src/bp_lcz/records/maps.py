"""Description of a map, its accuracy and its changes."""

from typing import ClassVar, Literal

from bp_lcz.records.base import Part, Record
from bp_lcz.records.data import DataKind
from bp_lcz.records.scene import SceneFindings
from bp_lcz.records.scores import Interval, Scores


class MappedBy(Part):
    """The model of a map.

    Attributes:
        name: name under which the user gave it.
        trial: trial in which it was trained.
        weights_sha256: digest of its weights.
        dataset: data set on which it was trained.
        kind: kind of that data set.
        level: processing level of Sentinel-2 that it takes; None if unknown.
    """

    name: str
    trial: str
    weights_sha256: str
    dataset: str | None
    kind: DataKind | None
    level: str | None


class InputFile(Part):
    """A file that was read, with its size in bytes and its digest."""

    name: str
    bytes: int
    sha256: str


class Comparison(Part):
    """Comparison of this map with another map, on the cells of this map.

    Attributes:
        other: file or folder name of the other map.
        is_own: whether BP-LCZ made the other map, which is then no reference.
        band: band of the other map: its name, or its number from 1.
        cells: cells with a zone in both maps.
        here_alone: cells with a zone only in this map.
        there_alone: cells with a zone only in the other map.
        scores: scores of this map's zones as predictions of the other map's zones.
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
    """A value with its 95 % interval; None if undefined."""

    value: float | None
    interval: Interval


class ZoneAccuracy(Part):
    """Accuracy and area of one zone.

    Attributes:
        code: code of the zone, ``1`` to ``10`` or ``A`` to ``G``.
        name: name of the zone.
        cells: cells of the reference with this zone.
        mapped_cells: cells of the reference that the map gives this zone.
        producers: producer's accuracy: share of ``cells`` that the map gives this zone.
        users: user's accuracy: share of ``mapped_cells`` that have this zone in the reference.
        f1: harmonic mean of both.
        km2: area of this zone on the whole map in km².
        adjusted_km2: this area adjusted for the errors that the reference shows, in km².
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
    """``accuracy.json``: accuracy of a map against a reference.

    Attributes:
        reference: file name of the reference.
        sha256: digest of that file.
        kind: whether the reference is polygons or a raster.
        band: band of a raster: its name, or its number from 1.
        found: sentences on what the file holds and what was left out.
        cells: cells of the reference that have a zone on the map, too.
        unmapped: cells of the reference without a zone on the map.
        unit: unit that intervals resample.
        units: number of units; with fewer than 20, intervals are too narrow.
        metrics: metrics of the map.
        zones: zones in So2Sat's order.
        macro_f1: mean F1 of the zones of the reference.
        confusion: 17 x 17 counts of cells; rows are zones of the reference.
        splits: mean of each metric over 25 draws of 30 % of the polygons, and middle 90 % of them; None of a raster.
        unadjusted_km2: area of the map in zones that too few units of the reference check, in km².
        seen: cells whose patch of 320 m shares ground with a training patch of the model; None if unknown.
        seen_by: how this is known, whether it is a bound, or why it is not known.
        ceiling: sentence on the highest accuracy to expect from such a reference.
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
    """Another map and this one, compared on the cells that are certain in both.

    Attributes:
        other: folder name of the other map.
        cells: cells with a zone in both maps that are like the training data.
        certain: number of these cells of which both maps are certain.
        changed: number of certain cells with different zones.
        share: ``changed`` as a share of ``certain``, with an interval by blocks of 1 km.
        transitions: 17 x 17 counts of certain cells; rows are zones of the other map.
    """

    other: str
    cells: int
    certain: int
    changed: int
    share: Estimate
    transitions: tuple[tuple[int, ...], ...]


class Change(Part):
    """Change from a map of another date to this map.

    Attributes:
        most_error: a cell is certain if (1 - probability) summed over both maps is at most this.
        pair: comparison of both maps.
        noise: comparison of this map with one of the same year, without real change.
        beyond: share of changed cells minus that of the noise.
        blocks: number of blocks of 1 km that intervals resample; with fewer than 20, intervals are too narrow.
    """

    most_error: float
    pair: MappedPair
    noise: MappedPair | None
    beyond: Estimate | None
    blocks: int


class MapReport(Record):
    """``report.json`` of a map; equal inputs, model and options give equal bytes.

    Attributes:
        notices: sentences that a reader must know first.
        model: model that made the map.
        scene: findings in the files of the scene, with their evidence.
        inputs: files that were read.
        crs: coordinate reference system of the cells.
        west: easting of the north-west corner in m.
        north: northing of the north-west corner in m.
        rows: number of rows of cells.
        columns: number of columns of cells.
        reasons: number of cells by the reason why they have a zone or none (words of `Reason`).
        zones: number of cells of each zone on the map, by its code.
        filter: filter of the zones.
        temperature: temperature that calibrated the probabilities; None if the model has none.
        set_coverage: coverage asked of the class sets; None if there are none.
        against: comparison with another map.
        accuracy: accuracy against a reference.
        change: change from a map of another date.
        versions: versions of the software.
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
