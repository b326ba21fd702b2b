"""What training leaves beside the weights."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from bp_lcz.bands import Level
from bp_lcz.params import Model, NetworkParams, PromptVectors, Train, Wording
from bp_lcz.records.base import Part, Record
from bp_lcz.records.data import DataKind, KnownChannels, Leakage, Likeness, Places


class PromptOrigin(Record):
    """What is told in the file of the prompt table beside the embeddings.

    Attributes:
        texts: the text of each embedding, ``texts[wording][class][group]``.
        template: the template that the texts were made from.
        class_template: the template of the classes without a group.
        encoder: name of the text encoder.
        revision: its commit on the model hub, if it came from there.
        sha256: of its weights.
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


class Calibration(Part):
    """What makes probabilities honest, fitted on the validation split; see `bp_lcz.model.calibration`.

    Attributes:
        temperature: by which logits are divided.
        patches: of the validation split.
        thresholds: smallest probability of a class in a set, for a coverage of 50, 51, ... 99 percent.
    """

    temperature: PositiveFloat
    patches: PositiveInt
    thresholds: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=50, max_length=50)]


class Checkpoint(NetworkParams, Record):
    """``model.json`` of any network; of one that was trained elsewhere only what is known.

    Attributes:
        trial: name of the trial.
        channels: that the network takes.
        level: of the Sentinel-2 that it was trained on, as much a part of what it takes; None where it is not known.
        likeness: what tells other patches from its training data; None where nothing is known of them.
        places: where its training patches lie, and those of its start; None where nothing is known of them.
        calibration: what its probabilities are made honest by; None where it was trained elsewhere.
        parameters: how many it has.
        from_start: how many of them began with those of ``train.start``.
        operations: multiply-adds that a patch costs in inference.
        best_epoch: whose weights were kept, counted from 1.
        prompts: texts or a control in their place; None where it was trained elsewhere.
        text: what made its prompts, if it has any.
        device: ``cpu`` or the name of the GPU that trained it.
        weights_sha256: of the file beside it; `write_checkpoint` fills it in.
    """

    remedy: ClassVar[str] = "make it anew: `bp-lcz pretrained`, or `dvc repro` where it was trained"
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
    """``model.json`` of a trained trial, of which all is known."""

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
    """``timings.json``: what training took, which differs from run to run."""

    format: Literal[2] = 2
    seconds: float
    epochs: int
    patches_per_second: float
    peak_memory_mib: float
    threads: int
    machine: str
