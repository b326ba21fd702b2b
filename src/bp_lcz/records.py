"""Every JSON file that one room leaves for another: frozen models with one reader and one writer.

``format`` rises with each change of what a file holds. `dvc.yaml` names it among the parameters of the stage that
writes the file, so that DVC runs the stage again.
"""

import hashlib
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from bp_lcz.bands import Channels, resolve_bands
from bp_lcz.errors import UserError, first_mistake, one_line
from bp_lcz.files import staged_file
from bp_lcz.params import Model, NetworkParams, Split, Train, Variant

MOST_BYTES = 2**20
REMEDY = "run `dvc repro`"

Metric = Literal["oa", "aa", "kappa", "macro_f1"]
Interval = tuple[float, float] | None
Overlap = Literal["none", "overlap", "near-duplicates"]
Unit = Literal["city", "spatial block", "patch"]


class DataKind(StrEnum):
    """What a data set is, by which results are headed; the words for it stand here alone."""

    SIMULATED = "simulated"
    WEAK_LABELS = "weak labels"
    UNSTATED = "unstated"
    SO2SAT = "So2Sat"
    """So2Sat LCZ42 v2 itself, known by its labels: alone comparable with the paper."""

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
        "So2Sat LCZ42 v2",
        "The labels are those of So2Sat LCZ42 v2: these numbers may be set against published ones of the same testing "
        "split.",
    ),
}

LEAKY_SPLIT = "leaky split"
"""Patches of two splits show the same ground."""


class Part(BaseModel):
    """Something inside a record."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


RecordT = TypeVar("RecordT", bound="Record")


class Record(Part):
    """A JSON file; equal records give equal bytes."""

    format: int

    @classmethod
    def read(cls: type[RecordT], path: Path) -> RecordT:
        """Read a file.

        Raises:
            UserError: if it is missing, cannot be read, or for the reasons of `parse`.
        """
        try:
            with path.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
        except FileNotFoundError:
            raise UserError(path, f"not found; {REMEDY}") from None
        except OSError as error:
            raise UserError(path, f"unreadable: {one_line(error)}") from None
        return cls.parse(content, path)

    @classmethod
    def parse(cls: type[RecordT], content: bytes, where: object) -> RecordT:
        """Check the content of a file.

        Args:
            content: its bytes.
            where: its name for messages.

        Raises:
            UserError: if it is damaged, of another format, or has an unknown key or a value of another type.
        """
        try:
            if len(content) > MOST_BYTES:
                raise ValueError(f"larger than {MOST_BYTES:,} bytes")
            found = json.loads(content)
            if not isinstance(found, dict):
                raise ValueError("no JSON object")
            number, expected = found.get("format"), cls.model_fields["format"].default
            if number != expected:
                number = number if isinstance(number, int) else "unknown"
                raise UserError(
                    where,
                    f"written by another version of BP-LCZ (format {number}, this one reads {expected}); {REMEDY}",
                )
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise UserError(where, f"damaged: {first_mistake(error)}; {REMEDY}") from None
        except (ValueError, RecursionError) as error:
            raise UserError(where, f"damaged: {one_line(error)}; {REMEDY}") from None

    def write(self, path: Path) -> None:
        """Write the file in one step."""
        text = json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False)
        with staged_file(path) as file:
            file.write_text(text + "\n", encoding="utf-8")


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


class _OfData(Record):
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
        """Whether results may be set against the paper's: only on the official So2Sat v2."""
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


class GateSummary(_OfData):
    """``summary.json``: what the quality gate found.

    Attributes:
        release: of So2Sat, known by its labels; None where it is none.
        not_checked: expectations that nothing could be said of.
        too_few_patches: splits whose patches are too few for some expectations, with these.
        warnings: of expectations that do not stop.
    """

    format: Literal[2] = 2
    release: str | None
    channels: KnownChannels
    splits: dict[Split, SplitSummary] = Field(min_length=3)
    bands: dict[Split, dict[str, BandSummary]]
    expectations: tuple[ExpectationSummary, ...]
    not_checked: tuple[str, ...]
    too_few_patches: dict[Split, tuple[str, ...]]
    warnings: tuple[str, ...]


class Blocks(Part):
    """What intervals resample, and how many of them each split has."""

    unit: Unit
    description: str
    count: dict[Split, int]


class PackManifest(_OfData):
    """``manifest.json`` of the packed arrays.

    Attributes:
        mean: of each channel after the transformation, in the training split.
        std: likewise.
        class_counts: patches of each class.
        sha256: of each file.
    """

    format: Literal[2] = 2
    channels: KnownChannels
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_counts: dict[Split, tuple[int, ...]] = Field(min_length=3)
    blocks: Blocks
    sha256: dict[str, str]

    def digest(self, start: str = "") -> str:
        """One SHA-256 for all files whose names start so, from theirs."""
        chosen = {name: value for name, value in self.sha256.items() if name.startswith(start)}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


class TextOrigin(Part):
    """What made the prompts of a network."""

    encoder: str
    revision: str | None
    sha256: str
    template: str


class Validation(Part):
    """Numbers of the validation split after the epoch that was kept; kappa may be undefined."""

    oa: float
    kappa: float | None
    loss: float


class Checkpoint(NetworkParams, Record):
    """``model.json`` of any network; of one that was trained elsewhere only what is known.

    Attributes:
        trial: name of the trial.
        channels: that the network takes.
        parameters: how many it has.
        best_epoch: whose weights were kept, counted from 1.
        text: what made its prompts, if it has any.
        device: ``cpu`` or the name of the GPU that trained it.
        weights_sha256: of the file beside it; `write_checkpoint` fills it in.
    """

    format: Literal[2] = 2
    trial: str
    channels: KnownChannels
    parameters: int
    source: str | None
    versions: dict[str, str]
    text: TextOrigin | None = None
    weights_sha256: str = ""
    seed: int | None = None
    train: Train | None = None
    best_epoch: int | None = None
    validation: Validation | None = None
    dataset: str | None = None
    kind: DataKind | None = None
    leakage: Leakage | None = None
    device: str | None = None


class ModelDescription(Checkpoint):
    """``model.json`` of a trained trial, of which all is known."""

    model: Model
    seed: int
    train: Train
    best_epoch: int
    validation: Validation
    dataset: str
    kind: DataKind
    leakage: Leakage
    device: str


class Timings(Record):
    """``timings.json``: what training took, which differs from run to run."""

    format: Literal[2] = 2
    seconds: float
    epochs: int
    patches_per_second: float
    peak_memory_mib: float
    threads: int
    machine: str


class ClassScores(Part):
    """Of one class; None where undefined."""

    code: str
    name: str
    support: int
    precision: float | None
    recall: float | None
    f1: float | None


class Scores(Part):
    """All metrics of one classifier on one split; None where undefined.

    Attributes:
        oa: overall accuracy.
        aa: mean recall over the classes present.
        kappa: Cohen's.
        macro_f1: mean F1 over the classes present.
        oa_built: overall accuracy of the patches whose true class is 1..10.
        oa_natural: of those whose true class is A..G.
        ece: expected calibration error of the top label, 15 bins of equal width.
        per_class: in So2Sat's order.
        confusion: 17 x 17 counts, rows are true classes.
    """

    oa: float
    aa: float
    kappa: float | None
    macro_f1: float
    oa_built: float | None
    oa_natural: float | None
    ece: float | None
    per_class: tuple[ClassScores, ...]
    confusion: tuple[Annotated[tuple[int, ...], Field(min_length=17, max_length=17)], ...] = Field(
        min_length=17, max_length=17
    )


SCORES = tuple(name for name in Scores.model_fields if name not in ("per_class", "confusion"))
"""Of `Scores`, those that are one number."""


class Resampling(Part):
    """What intervals resample.

    Attributes:
        level: of the intervals.
        unit: that is drawn with replacement.
        blocks: number of units.
        samples: number of resamples.
        seed: of the drawing.
        lower_bound: whether the true intervals are wider.
    """

    level: float
    unit: Unit
    blocks: int
    samples: int
    seed: int
    lower_bound: bool


class Evaluation(Scores, _OfData):
    """``evaluation.json``: a trained trial on the testing split."""

    format: Literal[2] = 2
    trial: str
    backbone: str
    variant: Variant
    seed: int
    parameters: int
    best_epoch: int
    validation_kappa: float | None
    split: Literal["testing"] = "testing"
    patches: int
    intervals: dict[Metric, Interval] = Field(min_length=4)
    interval: Resampling
