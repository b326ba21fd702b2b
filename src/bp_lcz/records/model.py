"""Descriptions that training writes beside the weights."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from bp_lcz.bands import Level
from bp_lcz.params import Model, NetworkParams, PromptVectors, Train, Wording
from bp_lcz.records.base import Part, Record
from bp_lcz.records.data import DataKind, KnownChannels, Leakage, Likeness, Places


class PromptOrigin(Record):
    """Metadata in the file of the prompt table, beside the embeddings.

    Attributes:
        texts: the text of each embedding, ``texts[wording][class][group]``.
        template: the template that the texts were made from.
        class_template: the template of texts of a class without a group.
        encoder: name of the text encoder.
        revision: its commit on the model hub, if it came from there.
        sha256: digest of its weights.
    """

    remedy: ClassVar[str] = "run `bp-lcz prompts`"
    format: Literal[3] = 3
    texts: dict[Wording, tuple[tuple[str, ...], ...]]
    template: str
    class_template: str
    encoder: str
    revision: str | None
    sha256: str


class TextOrigin(Part):
    """The text encoder and template that made the prompts of a network."""

    encoder: str
    revision: str | None
    sha256: str
    template: str


class Validation(Part):
    """Scores on the validation split after the epoch whose weights were kept; kappa may be undefined."""

    oa: float
    kappa: float | None
    loss: float


class Calibration(Part):
    """Calibration of probabilities, fitted on the validation split; see `bp_lcz.model.calibration`.

    Attributes:
        temperature: divisor of the logits.
        patches: number of patches of the validation split.
        thresholds: smallest probability of a class in a set, for coverages of 50, 51, ... 99 percent.
    """

    temperature: PositiveFloat
    patches: PositiveInt
    thresholds: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=50, max_length=50)]


class Checkpoint(NetworkParams, Record):
    """``model.json`` of any network. Fields that are not known are None if it was trained elsewhere.

    Attributes:
        trial: name of the trial.
        channels: channels that the network takes.
        level: processing level of Sentinel-2 in its training, and so of its inputs; None if not known.
        likeness: numbers that recognise patches unlike its training data; None if not known.
        places: positions of its training patches, and of those of its start; None if not known.
        calibration: calibration of its probabilities; None if it was trained elsewhere.
        parameters: number of parameters.
        from_start: number of parameters that began with those of ``train.start``.
        operations: multiply-adds of inference on one patch.
        best_epoch: epoch whose weights were kept, counted from 1.
        prompts: texts, or a control in their place; None if it was trained elsewhere.
        text: encoder and template of its prompts, if it has any.
        device: ``cpu`` or the name of the GPU that trained it.
        weights_sha256: digest of the file of weights beside it; `write_checkpoint` fills it in.
    """

    remedy: ClassVar[str] = "make it again: `bp-lcz pretrained`, or `dvc repro` where it was trained"
    format: Literal[12] = 12
    trial: str
    channels: KnownChannels
    level: Level | None = None
    likeness: Likeness | None = None
    places: Places | None = None
    calibration: Calibration | None = None
    parameters: int
    from_start: int = 0
    operations: int | None = None
    source: str | None
    versions: dict[str, str]
    prompts: PromptVectors | None = None
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
    """``model.json`` of a trained trial, for which all fields are known."""

    model: Model
    prompts: PromptVectors
    calibration: Calibration
    operations: int
    seed: int
    train: Train
    best_epoch: int
    validation: Validation
    dataset: str
    kind: DataKind
    leakage: Leakage
    device: str


class Timings(Record):
    """``timings.json``: time and memory of a training, which differ from run to run."""

    format: Literal[2] = 2
    seconds: float
    epochs: int
    patches_per_second: float
    peak_memory_mib: float
    threads: int
    machine: str
