"""``params.yaml`` as frozen models that reject unknown keys and values out of range.

This module documents every setting of the project. ``params.yaml`` holds the only defaults.
"""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from bp_lcz.errors import UserError
from bp_lcz.sections import Section, parse_section, read_sections

Split = Literal["training", "validation", "testing"]
SPLITS: tuple[Split, ...] = ("training", "validation", "testing")
Variant = Literal["plain", "encoder", "msm", "bgp", "bp-lcz"]
Target = Literal["identity", "class_group", "graded"]
Loss = Literal["softmax", "sigmoid"]
Wording = Literal["names", "described"]
WORDINGS: tuple[Wording, ...] = ("names", "described")
Tier = Literal["auto", "device", "pinned", "packed", "hdf5"]
Code = Literal["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "A", "B", "C", "D", "E", "F", "G"]
Share = Annotated[float, Field(ge=0, le=1)]


def _trial_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError(
            "expected a name of letters, digits, _ and - that begins with a letter or digit, such as eb_cnn-bp-lcz-s2"
        )
    return name


TrialKey = Annotated[str, AfterValidator(_trial_name)]
"""Name of a trial. It names a folder and a DVC stage, so characters with a meaning in a shell are not allowed."""

PARAMS_FILE = Path("params.yaml")


class Dataset(Section):
    """The data set of the pipeline."""

    root: str = Field(min_length=1)
    """Folder with training.h5, validation.h5 and testing.h5 in So2Sat's keys, and optional _geo.h5 files."""


class PerSplit(Section):
    """A count for each split."""

    training: PositiveInt
    validation: PositiveInt
    testing: PositiveInt


class Simulate(Section):
    """The simulated demo data."""

    seed: NonNegativeInt
    patches: PerSplit
    cities: PerSplit
    frequencies: Literal["uniform", "so2sat"]
    """Class frequencies: all equal, or those of So2Sat v2 training."""
    label_noise: Share
    """Share of labels drawn from a plausible neighbouring class."""
    sen1: Literal["all", "intensities"]
    """All eight Sentinel-1 channels, or the two filtered intensities of ground-range-detected products."""


class Validate(Section):
    """The quality gate."""

    reflectance_max: PositiveFloat
    """Largest plausible top-of-atmosphere reflectance; So2Sat's own maximum is 2.8005."""
    zeros_max: Share
    """Largest share of zeros in a patch's Sentinel-1 values, and in its Sentinel-2 values."""
    leakage: Literal["error", "mark"]
    """Patches of two splits that overlap: ``error`` stops; ``mark`` heads every result with "leaky split"."""


class Encoder(Section):
    """The frozen text encoder."""

    name: str = Field(min_length=1)
    """``packaged-minilm`` (all-MiniLM-L6-v2 from the installed package), a local folder in transformers'
    layout, or a model-hub name such as ``openai/clip-vit-base-patch32``."""
    revision: str | None
    """Commit of the model on the hub; required for hub names, null otherwise."""


class PromptVectors(Section):
    """The vectors with which image groups are compared, equal for all trials unless a trial overrides them."""

    wording: Wording
    """Words in the templates. ``names``: names of classes and groups. ``described``: names with heights, built, sealed
    and pervious shares of a class after Stewart and Oke (2012), and with what a group measures."""
    source: Literal["text", "random", "permuted"]
    """``text``: the embeddings of the texts. Controls without information on the classes: ``random``, unit vectors of
    the same width; ``permuted``, the embeddings of the texts, shuffled over classes and groups."""
    draw: NonNegativeInt | None
    """Seed of the random vectors and of the permutation. Null: the seed of the trial, so that each seed has its own
    draw."""
    centre: bool
    """Whether the mean of all vectors is subtracted and their length set to 1 again. Embeddings of texts point mostly
    in one common direction."""


class Prompts(PromptVectors):
    """The class x group texts."""

    template: str
    """Must contain ``{class}`` and ``{group}``."""
    class_template: str
    """Text of a class without a group, for the variant ``msm``; must contain ``{class}``."""
    encoder: Encoder

    @model_validator(mode="after")
    def _template_has_fields(self) -> "Prompts":
        for name, template, fields in (
            ("template", self.template, ("{class}", "{group}")),
            ("class_template", self.class_template, ("{class}",)),
        ):
            for field in fields:
                if field not in template:
                    raise ValueError(f"{name} lacks {field}")
                template = template.replace(field, "")
            if "{" in template or "}" in template:
                raise ValueError(f"{name} has fields other than {' and '.join(fields)}")
        return self


class Start(Section):
    """A checkpoint with which training begins. ``bp-lcz workspace NAME --start MODEL`` copies it and writes this."""

    name: str = Field(min_length=1)
    """``<model>/<version>`` of a registered model, or the name of a folder."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Digest of its weights. It fixes the version that an alias meant; trials with another start are trained again."""


class Train(Section):
    """Optimisation, equal for all trials unless a trial overrides it."""

    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    """Peak of the one-cycle schedule of AdamW."""
    weight_decay: Annotated[float, Field(ge=0)]
    patience: PositiveInt
    """Epochs without a better validation kappa before training stops."""
    per_class: PositiveInt | None
    """Largest number of training patches of a class, drawn by the trial's seed; null: all. Other splits stay whole."""
    leave_out: Annotated[list[Code], Field(max_length=15)]
    """Classes such as ``["2", "B"]`` whose patches are left out of training and validation. The testing split stays
    whole: the report shows how well the texts alone find these classes."""
    start: Start | None
    """Checkpoint whose weights training begins with; null: random weights. It must have the same backbone, and the same
    channels of the sensors in use. Layers that it lacks begin with random weights."""
    start_rate: Annotated[float, Field(gt=0, le=1)]
    """Factor of the learning rate for weights that come from the start."""
    frozen_norm_below: NonNegativeInt
    """Number of training patches below which batch normalisation keeps the statistics of the start, since few patches
    estimate them badly."""
    balance: Share
    """Exponent of the inverse class frequency that weights the cross-entropy: 0 none, 1 full."""
    flips: bool
    """Random dihedral transformations (flips and quarter turns) of training patches."""
    threads: PositiveInt
    """CPU threads of the trainer. It is part of the result, since another order of sums changes the last bits."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    device: Literal["auto", "cpu", "cuda"]
    """``auto``: a GPU if there is one, otherwise the CPU; the log says which."""
    devices: PositiveInt
    """Number of GPUs, or of processes on a CPU, that train one trial together on one machine. Each takes its share of
    every batch of ``batch_size``. It is part of the result: batch statistics and losses are of such a share."""
    nodes: PositiveInt
    """Number of machines that train one trial together, each with ``devices``; see `docs/operations.md`."""
    strategy: Literal["auto", "ddp"]
    """Lightning's strategy; ``auto`` means ``ddp`` if there is more than one process."""


class Model(Section):
    """Band group prompting, equal for all trials unless a trial overrides it."""

    dimension: PositiveInt
    """Width of the space in which image groups and prompts are compared."""
    alignment_weight: Annotated[float, Field(ge=0)]
    """Weight (lambda) of the alignment loss beside the cross-entropy; it means the same at every batch size."""
    target: Target
    """Supervision matrix of the variant ``bp-lcz``; ``bgp`` always uses ``identity``."""
    loss: Loss
    """Contrastive form of the variant ``bp-lcz``; ``bgp`` always uses ``softmax``."""
    alpha: Share
    """Target of a prompt of the right class and another group, used by ``graded``."""
    pairs: Literal["texts", "joint"]
    """What the variant ``bp-lcz`` compares image groups with: texts; with ``joint`` also image groups of the batch."""
    text_projection: Literal["learnt", "frozen"]
    """Projection of text vectors to ``dimension``: a learnt matrix, which can move them anywhere, or a fixed random
    matrix, which keeps their angles."""
    augment: Literal["none", "visual", "text", "both"]
    """What is added to the fused feature before the classifier."""

    @model_validator(mode="after")
    def _joint_has_partners(self) -> "Model":
        if self.pairs == "joint" and self.target == "identity":
            raise ValueError("pairs: joint needs a target that knows classes, not identity")
        return self


class Overrides(Section):
    """Values of a trial that differ from the common sections; in ``prompts``, only fields of `PromptVectors`."""

    train: dict[str, Any] = Field(default_factory=dict)
    model: dict[str, Any] = Field(default_factory=dict)
    prompts: dict[str, Any] = Field(default_factory=dict)
    backbone: dict[str, Any] = Field(default_factory=dict)


class Trial(Section):
    """One entry of the experiment matrix."""

    backbone: str
    """Name of a module in ``bp_lcz/model/backbones``."""
    variant: Variant
    seed: NonNegativeInt
    overrides: Overrides = Overrides()


class Evaluate(Section):
    """Intervals and their resampling."""

    bootstrap_samples: PositiveInt
    seed: NonNegativeInt
    set_coverage: Annotated[float, Field(ge=0.5, le=0.99)]
    """Share of patches whose class set should hold the true class, in steps of 0.01."""


class Promote(Section):
    """Condition for a model to become the champion."""

    kappa_floor: Annotated[float, Field(ge=-1, le=1)]
    """Kappa on the testing split that every champion must exceed, the first one too."""


class Params(Section):
    """All of ``params.yaml``."""

    profile: str | None
    """File of ``profiles/`` that was merged in; ``bp-lcz workspace`` writes it."""
    rule: str | None
    """Decision rule of a study: in a profile a committed file, in a workspace the SHA-256 of that file."""
    dataset: Dataset
    simulate: Simulate
    validation: Validate = Field(alias="validate")
    prompts: Prompts
    train: Train
    model: Model
    backbones: dict[str, dict[str, Any]]
    """Options of each backbone, checked by the backbone itself."""
    trials: Annotated[dict[TrialKey, Trial], Field(min_length=1)]
    evaluate: Evaluate
    registered: Literal["best", "bp-lcz"] = Field(alias="register")
    """Trial that becomes a version of the registered model: the one with the best validation kappa among all variants
    (``best``), or among trials of the method (``bp-lcz``)."""
    promote: Promote
    store: Tier
    """Place from which training reads patches. It is not part of a result, so a change trains nothing again.
    ``packed``: the packed files, mapped into memory. ``device``: the whole split in the memory of the GPU or of the
    machine. ``pinned``: batches in page-locked memory that a GPU copies by itself. ``hdf5``: the So2Sat files, mapped
    in place. ``auto``: on a GPU ``device`` if the split fits into half of its free memory, else ``pinned``; on a CPU
    ``packed``."""

    def trial(self, name: str) -> "TrialParams":
        """One trial with its overrides merged into the common sections.

        Raises:
            UserError: if there is no such trial or an override is unknown or out of range.
        """
        if name not in self.trials:
            raise UserError("params.yaml", f"no trial '{name}'; known: {', '.join(self.trials)}")
        trial = self.trials[name]
        where = f"trials.{name}.overrides"
        return TrialParams(
            name=name,
            backbone=trial.backbone,
            variant=trial.variant,
            seed=trial.seed,
            train=parse_section(Train, {**self.train.model_dump(), **trial.overrides.train}, f"{where}.train"),
            model=parse_section(Model, {**self.model.model_dump(), **trial.overrides.model}, f"{where}.model"),
            prompts=parse_section(
                PromptVectors, {**vectors_of(self.prompts), **trial.overrides.prompts}, f"{where}.prompts"
            ),
            backbone_options={**self.backbones.get(trial.backbone, {}), **trial.overrides.backbone},
        )

    def alike(self) -> list[list[str]]:
        """Groups of names of trials that differ only in the seed, in the order of their first trials."""
        found: dict[str, list[str]] = {}
        for name in self.trials:
            settings = self.trial(name).model_dump(mode="json", exclude={"name", "seed"})
            found.setdefault(json.dumps(settings, sort_keys=True), []).append(name)
        return list(found.values())


class NetworkParams(Section):
    """Everything besides the channels that determines the form of a network. Every checkpoint holds it."""

    backbone: str
    variant: Variant
    model: Model | None
    """None only for a plain network that was trained elsewhere, without this section."""
    backbone_options: dict[str, Any]

    @model_validator(mode="after")
    def _prompting_has_a_model(self) -> "NetworkParams":
        if self.model is None and self.variant != "plain":
            raise ValueError(f"variant {self.variant} needs the section model")
        return self


class TrialParams(NetworkParams):
    """Everything besides the data that determines the training of one trial."""

    name: str
    seed: NonNegativeInt
    train: Train
    model: Model
    prompts: PromptVectors


def vectors_of(prompts: Prompts) -> dict[str, Any]:
    """The part of the section that a trial may override."""
    return prompts.model_dump(include=set(PromptVectors.model_fields))


def check_seeds(seeds: Mapping[str, Collection[int]]) -> None:
    """Refuse groups of trials with different seeds, since their means cannot be compared.

    Args:
        seeds: seeds of each group of trials that differ only in the seed, by the name of the group.

    Raises:
        UserError: for the first group that lacks a seed.
    """
    every = sorted(set().union(*seeds.values()))
    for trials, own in seeds.items():
        if missing := [str(seed) for seed in every if seed not in own]:
            raise UserError(
                "params.yaml",
                f"trials: {trials} lacks seed {', '.join(missing)}, which other trials have; "
                "every row of a table is a mean over the same seeds",
            )


def backbone_names() -> list[str]:
    """The modules in ``bp_lcz/model/backbones``, found without loading torch."""
    return sorted(file.stem for file in (Path(__file__).parent / "model/backbones").glob("[a-z]*.py"))


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check ``params.yaml``.

    Raises:
        UserError: if the file is missing, is not a YAML mapping, or has an unknown key or a value out of range;
            the text names the file, the key and the cause.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(path, "not found; run inside a BP-LCZ checkout or workspace") from None
    params = parse_section(Params, read_sections(content, str(path)), "", str(path))
    for name, trial in params.trials.items():
        if trial.backbone not in backbone_names():
            known = ", ".join(backbone_names())
            raise UserError(path, f"trials.{name}.backbone: unknown backbone '{trial.backbone}'; known: {known}")
        if trial.backbone not in params.backbones:
            raise UserError(path, f"backbones.{trial.backbone}: missing; {{}} takes the defaults of its options")
        params.trial(name)
    return params
