"""What the gate and the packing leave of a data set."""

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
    """What a data set is, by which results are headed; the words for it stand here alone."""

    SIMULATED = "simulated"
    WEAK_LABELS = "weak labels"
    UNSTATED = "unstated"
    SO2SAT = "So2Sat"
    """So2Sat LCZ42 itself, v2 or Culture-10, known by its labels: alone comparable with published results."""

    @property
    def heading(self) -> str:
        """In a few words."""
        return _KINDS[self][0]

    @property
    def sentence(self) -> str:
        """What a reader must know first."""
        return _KINDS[self][1]


_KINDS = {
    DataKind.SIMULATED: (
        "simulated data",
        "Made by code, not measured: such numbers show that the workflow runs and how its variants differ on a "
        "simulation. They say nothing about real images and are never comparable with the paper. "
        "Do not use a model of such data for a map.",
    ),
    DataKind.WEAK_LABELS: (
        "weak labels",
        "Not ground truth: such numbers measure agreement with whatever made the labels. They say nothing about "
        "accuracy on the ground and are never comparable with the paper.",
    ),
    DataKind.UNSTATED: (
        "provenance not stated",
        "Nothing in the files tells measured from simulated or weak labels. "
        "Compare such numbers with others only if you know where the data come from.",
    ),
    DataKind.SO2SAT: (
        "So2Sat LCZ42",
        "The labels are those of So2Sat LCZ42: these numbers may be set against published ones of the same testing "
        "split.",
    ),
}

LEAKY_SPLIT = "leaky split"
"""Patches of two splits show the same ground."""


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
        status: how that was seen.
        pairs: of patches that overlap; without geo files a lower bound.
        distance: smallest one between two splits in m; None where no two share a projection or nothing is known of it.
    """

    status: Overlap
    pairs: int
    distance: float | None

    @property
    def mark(self) -> str:
        """What heads every result, if splits overlap; else nothing."""
        return LEAKY_SPLIT if self.status != "none" else ""


class OfData(Record):
    """What results say of the data that they are about.

    Attributes:
        dataset: its name.
        source: where its files say that they come from.
        kind: what it is.
        leakage: between its splits.
    """

    dataset: str
    source: str | None
    kind: DataKind
    leakage: Leakage

    @property
    def is_comparable(self) -> bool:
        """Whether results may be set against published ones of the same testing split: only on the official So2Sat."""
        return self.kind is DataKind.SO2SAT and not self.leakage.mark

    @property
    def heading(self) -> str:
        """What to bear in mind of the data, in a few words."""
        return ", ".join(filter(None, [self.leakage.mark, self.kind.heading]))

    @property
    def caution(self) -> str:
        """The same, but empty for comparable data."""
        return "" if self.is_comparable else self.heading

    @property
    def sentence(self) -> str:
        """What a reader must know first, beside an overlap of splits."""
        return "" if self.leakage.mark and self.kind is DataKind.SO2SAT else self.kind.sentence


class SplitSummary(Part):
    """Of one split.

    Attributes:
        patches: how many.
        class_counts: patches of each class.
        cities: how many; None without a geo file.
    """

    patches: int
    class_counts: tuple[int, ...]
    cities: int | None


class BandSummary(Part):
    """Of the values of one channel in one split, in stored units."""

    mean: float
    std: float
    min: float
    max: float


class ExpectationSummary(Part):
    """What became of an expectation: how many rows violate it, and the names of the first of them."""

    expectation: str
    target: str
    success: bool
    status: Literal["passed", "warning", "failed", "not checked"]
    violations: int
    examples: tuple[str, ...]


class GateSummary(OfData):
    """``summary.json``: what the quality gate found.

    Attributes:
        release: of So2Sat, known by its labels; None where it is none.
        level: of Sentinel-2 in all splits, as they state it or as that release has it; None where it is not known.
        not_checked: expectations that nothing could be said of.
        too_few_patches: splits whose patches are too few for some expectations, with these.
        warnings: of expectations that do not stop.
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
    """What intervals resample, and how many of them each split has.

    Attributes:
        cities: of the testing split by name; none where they are not known.
        city: of each block of the testing split, its position among these.
    """

    unit: Unit
    description: str
    count: dict[Split, int]
    cities: tuple[str, ...] = ()
    city: tuple[int, ...] = ()


class Likeness(Part):
    """What tells whether a patch is unlike the training data; see `bp_lcz.patches.likeness`.

    Attributes:
        layers: of the network, whose inputs are averaged over a patch; none: its transformed channels are.
        centre: mean of these averages over the training data.
        scale: their standard deviation, or where it is not known that of single pixels, which is larger.
        mixing: makes uncorrelated numbers of the standardised averages; None where their covariance is not known.
        limit: largest distance of a patch that is like the training data.
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
    """Where training patches lie; see `bp_lcz.so2sat.places`.

    Attributes:
        side: of the squares, in hundredths of a degree.
        squares: that they touch, numbered row by row.
        are_all: False where some began with a network of which nobody knows where it was trained.
    """

    side: PositiveInt
    squares: tuple[int, ...]
    are_all: bool


class PackManifest(OfData):
    """``manifest.json`` of the packed arrays.

    Attributes:
        level: of Sentinel-2, from the gate's summary.
        mean: of each channel after the transformation, in the training split.
        std: likewise.
        likeness: what tells other patches from those of the training split.
        places: of the training split; None where nobody knows where it lies.
        class_counts: patches of each class.
        sha256: of each file.
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
        """One SHA-256 for all files whose names start so, from theirs."""
        chosen = {name: value for name, value in self.sha256.items() if name.startswith(start)}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()
