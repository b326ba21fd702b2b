"""Results of the quality gate and of the packing of a data set."""

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from bp_lcz.bands import Channels, Level, resolve_bands
from bp_lcz.errors import UserError
from bp_lcz.params import Split
from bp_lcz.records.base import Part, Record

Overlap = Literal["none", "overlap", "near-duplicates"]
Unit = Literal["city", "spatial block", "patch"]


class DataKind(StrEnum):
    """Kind of a data set. Headings of results use these words, which are defined only here."""

    SIMULATED = "simulated"
    WEAK_LABELS = "weak labels"
    UNSTATED = "unstated"
    SO2SAT = "So2Sat"
    """So2Sat LCZ42 itself, v2 or Culture-10, recognised by its labels. Only it is comparable with published results."""

    @property
    def heading(self) -> str:
        """The kind in a few words."""
        return _KINDS[self][0]

    @property
    def sentence(self) -> str:
        """The caution that a reader must know first."""
        return _KINDS[self][1]


_KINDS = {
    DataKind.SIMULATED: (
        "simulated data",
        "Made by code, not measured: such numbers show that the workflow runs and how its variants differ on a "
        "simulation. They say nothing about real images and are never comparable with the paper. "
        "Do not map with a model that was trained on such data.",
    ),
    DataKind.WEAK_LABELS: (
        "weak labels",
        "Not ground truth: such numbers measure agreement with whatever made the labels. They say nothing about "
        "accuracy on the ground and are never comparable with the paper.",
    ),
    DataKind.UNSTATED: (
        "provenance not stated",
        "Nothing in the files tells whether labels were measured, simulated or weak. "
        "Compare such numbers with others only if you know where the data come from.",
    ),
    DataKind.SO2SAT: (
        "So2Sat LCZ42",
        "The labels are those of So2Sat LCZ42: these numbers may be compared with published ones of the same testing "
        "split.",
    ),
}

LEAKY_SPLIT = "leaky split"
"""Mark of data whose splits have patches of the same ground."""


def _known(channels: Channels) -> Channels:
    for key, bands in (("sen1", channels.sen1), ("sen2", channels.sen2)):
        try:
            resolve_bands(key, len(bands), bands, key)
        except UserError as error:
            raise ValueError(error.what) from None
    return channels


KnownChannels = Annotated[Channels, AfterValidator(_known)]


class Leakage(Part):
    """Whether patches of two splits show the same ground.

    Attributes:
        status: kind of the overlap that was found.
        pairs: number of pairs of patches that overlap; a lower bound without geo files.
        distance: smallest distance of patches of two splits in m; None if unknown, or if no two share a projection.
    """

    status: Overlap
    pairs: int
    distance: float | None

    @property
    def mark(self) -> str:
        """The heading of every result if splits overlap; otherwise empty."""
        return LEAKY_SPLIT if self.status != "none" else ""


class OfData(Record):
    """Results with a description of their data.

    Attributes:
        dataset: name of the data set.
        source: origin of the data according to the files.
        kind: kind of the data set.
        leakage: overlap between its splits.
    """

    dataset: str
    source: str | None
    kind: DataKind
    leakage: Leakage

    @property
    def is_comparable(self) -> bool:
        """Whether results may be compared with published ones of the same testing split: only on official So2Sat."""
        return self.kind is DataKind.SO2SAT and not self.leakage.mark

    @property
    def heading(self) -> str:
        """Kind and leakage of the data in a few words."""
        return ", ".join(filter(None, [self.leakage.mark, self.kind.heading]))

    @property
    def caution(self) -> str:
        """The heading; empty for comparable data."""
        return "" if self.is_comparable else self.heading

    @property
    def sentence(self) -> str:
        """The caution that a reader must know first, without an overlap of splits."""
        return "" if self.leakage.mark and self.kind is DataKind.SO2SAT else self.kind.sentence


class SplitSummary(Part):
    """Contents of one split.

    Attributes:
        patches: number of patches.
        class_counts: number of patches of each class.
        cities: number of cities; None without a geo file.
    """

    patches: int
    class_counts: tuple[int, ...]
    cities: int | None


class BandSummary(Part):
    """Statistics of the values of one channel in one split, in stored units."""

    mean: float
    std: float
    min: float
    max: float


class ExpectationSummary(Part):
    """Result of an expectation: the number of rows that violate it, and names of the first ones."""

    expectation: str
    target: str
    success: bool
    status: Literal["passed", "warning", "failed", "not checked"]
    violations: int
    examples: tuple[str, ...]


class GateSummary(OfData):
    """``summary.json``: what the quality gate found.

    Attributes:
        release: release of So2Sat, recognised by its labels; None for other data.
        level: processing level of Sentinel-2 in all splits, stated by the files or known from the release; or None.
        not_checked: expectations that could not be checked.
        too_few_patches: splits with too few patches for some expectations, and these expectations.
        warnings: messages of violated expectations that do not stop the run.
    """

    format: Literal[3] = 3
    release: str | None
    channels: KnownChannels
    level: Level | None = None
    splits: dict[Split, SplitSummary] = Field(min_length=3)
    bands: dict[Split, dict[str, BandSummary]]
    expectations: tuple[ExpectationSummary, ...]
    not_checked: tuple[str, ...]
    too_few_patches: dict[Split, tuple[str, ...]]
    warnings: tuple[str, ...]


class Blocks(Part):
    """The units that intervals resample (blocks), and their number in each split.

    Attributes:
        cities: names of the cities of the testing split; empty if they are not known.
        city: for each block of the testing split, the position of its city in ``cities``.
    """

    unit: Unit
    description: str
    count: dict[Split, int]
    cities: tuple[str, ...] = ()
    city: tuple[int, ...] = ()


class Likeness(Part):
    """Numbers that decide whether a patch is unlike the training data; see `bp_lcz.patches.likeness`.

    Attributes:
        layers: network layers whose inputs are averaged over a patch; if empty, its transformed channels are averaged.
        centre: mean of these averages over the training data.
        scale: their standard deviation, or that of single pixels (which is larger) if it is not known.
        mixing: matrix that decorrelates the standardised averages; None if their covariance is not known.
        limit: largest distance at which a patch counts as like the training data.
    """

    layers: tuple[str, ...] = ()
    centre: tuple[float, ...]
    scale: tuple[PositiveFloat, ...]
    mixing: tuple[tuple[float, ...], ...] | None
    limit: NonNegativeFloat

    @model_validator(mode="after")
    def _have_one_length(self) -> "Likeness":
        lengths = {len(self.centre), len(self.scale), *map(len, self.mixing or ()), len(self.mixing or self.centre)}
        if len(lengths) != 1:
            raise ValueError("centre, scale and mixing are not of one length")
        return self


class Places(Part):
    """Positions of training patches as squares of a grid; see `bp_lcz.so2sat.places`.

    Attributes:
        side: side of a square in hundredths of a degree.
        squares: squares that the patches touch, numbered row by row.
        are_all: False if the training began with a network whose training places are not known.
    """

    side: PositiveInt
    squares: tuple[int, ...]
    are_all: bool


class PackManifest(OfData):
    """``manifest.json`` of the packed arrays.

    Attributes:
        level: processing level of Sentinel-2, from the gate's summary.
        mean: mean of each channel after the transformation, in the training split.
        std: standard deviation of each channel after the transformation, in the training split.
        likeness: numbers that recognise patches unlike those of the training split.
        places: positions of the training split; None if they are not known.
        class_counts: number of patches of each class.
        sha256: digest of each file.
    """

    format: Literal[6] = 6
    channels: KnownChannels
    level: Level | None = None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    likeness: Likeness | None = None
    places: Places | None = None
    class_counts: dict[Split, tuple[int, ...]] = Field(min_length=3)
    blocks: Blocks
    sha256: dict[str, str]

    def digest(self, start: str = "") -> str:
        """One SHA-256 over the digests of all files whose names begin with ``start``."""
        chosen = {name: value for name, value in self.sha256.items() if name.startswith(start)}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()
