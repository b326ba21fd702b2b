"""Training that begins with the weights of another network: which layers are old then, and which are new."""

from pathlib import Path

import torch
from torch import nn

from bp_lcz.bands import Channels
from bp_lcz.errors import UserError
from bp_lcz.model.backbones import complete_options
from bp_lcz.model.bp_lcz import BPLCZ
from bp_lcz.model.checkpoint import Classifier, empty_network, load_classifier
from bp_lcz.params import Params, Start, TrialParams
from bp_lcz.paths import start_folder
from bp_lcz.so2sat.layout import open_split

PARTS = ("backbone", "group_encoder", "prompting", "classifier")
"""Parts of a network. Each part is old or new as a whole."""


def load_start(starts: Path, start: Start) -> Classifier:
    """The network that a training begins with.

    Raises:
        UserError: if it is not there, damaged, or another than the parameters name.
    """
    try:
        found = load_classifier(start_folder(starts, start.sha256))
    except UserError as error:
        again = "`bp-lcz workspace NAME --start MODEL` brings it again"
        raise UserError(f"start {start.name}", f"{Path(error.where).name}: {error.what}; {again}") from None
    if found.description.weights_sha256 != start.sha256:
        raise UserError(f"start {start.name}", "its weights are not those that params.yaml names (another sha256)")
    return found


def check_start(start: Classifier, params: Params) -> list[str]:
    """Check before any long work whether trials can begin with a network on the data of their parameters.

    Returns:
        Warnings, as lines. Data that do not exist yet are not checked.

    Raises:
        UserError: for the reasons of `take_over`, or if the training split cannot be read.
    """
    root = Path(params.dataset.root)
    if not (root / "training.h5").is_file():
        return []
    with open_split(root, "training") as reader:
        channels, level = reader.channels, reader.level
    for trial in map(params.trial, params.trials):
        if trial.train.start is not None:
            options = complete_options(trial.backbone, trial.backbone_options)
            trial = trial.model_copy(update={"backbone_options": options})
            with torch.device("meta"):
                network = empty_network(trial, channels, 1)
            _require_same_backbone(network, trial, channels, start)
    begun = start.description.level
    if level is None or begun is None or level == begun:
        return []
    return [f"sen2 of the data is {level}, that of the start {begun}: what it has learnt fits less"]


def take_over(network: BPLCZ, trial: TrialParams, channels: Channels, start: Classifier) -> dict[str, int]:
    """Give a network the weights of another one, and the normalisation of the channels that they were trained with.

    Args:
        network: freshly made.
        trial: that it is made for.
        channels: of its data set.
        start: whose weights it takes.

    Returns:
        Parameters of each part that was taken over. A part that the start does not have in this form stays new, and so
        does prompting with other vectors.

    Raises:
        UserError: if the start has another backbone, another form of it, or other channels of a sensor it sees.
    """
    _require_same_backbone(network, trial, channels, start)
    taken = {}
    for part in PARTS:
        new, old = getattr(network, part), getattr(start.network, part)
        if new is not None and old is not None and _is_alike(new, old):
            new.load_state_dict(old.state_dict())
            taken[part] = sum(parameter.numel() for parameter in new.parameters())
    for sensor in network.backbone.sensors:
        first, theirs = (0, 0) if sensor == "sen1" else (network.sen1_count, start.network.sen1_count)
        count = len(getattr(channels, sensor))
        for name in ("mean", "std"):
            getattr(network, name)[first : first + count] = getattr(start.network, name)[theirs : theirs + count]
    return taken


def freeze_statistics(network: BPLCZ, parts: dict[str, int]) -> None:
    """Keep the statistics of batch normalisation in these parts as they are."""
    for part in parts:
        for layer in getattr(network, part).modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()


def start_line(network: BPLCZ, start: Start, taken: dict[str, int], *, frozen: bool) -> str:
    """How many parameters of how many come from where, in one line."""
    parts = []
    for part in PARTS:
        if (module := getattr(network, part)) is not None:
            count = sum(parameter.numel() for parameter in module.parameters())
            parts.append(f"{part} {taken.get(part, 0):,} of {count:,}")
    total = sum(parameter.numel() for parameter in network.parameters())
    statistics = "; statistics of batch normalisation stay" * frozen
    return (
        f"{sum(taken.values()):,} of {total:,} parameters from {start.name} (sha256 {start.sha256[:16]}): "
        f"{', '.join(parts)}; the others are new{statistics}"
    )


def _require_same_backbone(network: BPLCZ, trial: TrialParams, channels: Channels, start: Classifier) -> None:
    where, form = f"trial {trial.name}", start.description
    if form.backbone != trial.backbone:
        raise UserError(where, f"backbone {trial.backbone} cannot start from a {form.backbone}, {form.trial}")
    for sensor in network.backbone.sensors:
        own, theirs = getattr(channels, sensor), getattr(start.channels, sensor)
        if own != theirs:
            raise UserError(
                where,
                f"{sensor} of the data has {', '.join(own) or 'no channels'}, "
                f"that of its start {form.trial} {', '.join(theirs) or 'none'}; they must be the same",
            )
    if not _is_alike(network.backbone, start.network.backbone):
        own_options, others = trial.backbone_options, form.backbone_options
        differing = [
            f"{key} {own_options[key]} ({others.get(key)})"
            for key in own_options
            if own_options[key] != others.get(key)
        ]
        raise UserError(
            where, f"backbones.{trial.backbone} has another form than its start {form.trial}: {', '.join(differing)}"
        )


def _is_alike(new: nn.Module, old: nn.Module) -> bool:
    """Whether all tensors have the same names and shapes, and what is compared with image groups is the same."""
    mine, theirs = new.state_dict(), old.state_dict()
    return (
        mine.keys() == theirs.keys()
        and all(mine[name].shape == theirs[name].shape for name in mine)
        and ("prompts" not in mine or torch.equal(mine["prompts"], theirs["prompts"]))
    )
