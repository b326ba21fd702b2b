"""Backbones: images in, one fused feature out, and one feature for each band group where there are such branches.

A backbone is one module in this folder that defines ``Options`` (a frozen pydantic model of its own knobs) and
``Network(channels, options)``, a ``Backbone``. It is found by its module's name, so a new one is one new file, and its
section of ``params.yaml``. docs/backbone.md has an example.
"""

import importlib.util
import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from bp_lcz.bands import PATCH_SIDE, Channels
from bp_lcz.errors import UserError, first_mistake, one_line
from bp_lcz.params import backbone_names


class Features(NamedTuple):
    """What a backbone makes of a batch.

    Attributes:
        fused: one feature of the whole patch.
        groups: one feature for each band group, in the order of ``channels.groups``; None where the backbone has
            no branches for groups.
    """

    fused: Float[Tensor, "batch fused_width"]
    groups: Float[Tensor, "batch group group_width"] | None


class Backbone(nn.Module):
    """What the rest of the network needs to know of a backbone.

    Its ``forward`` takes standardised sen1 (B, C1, 32, 32) and sen2 (B, C2, 32, 32). For one without branches for
    groups the network adds a ``GroupEncoder``, in the variants with prompting only.

    Attributes:
        fused_width: length of the fused feature.
        group_width: length of a group's feature; None where the backbone has no branches for groups.
        sensors: what ``forward`` looks at. Prompting keeps to the groups of these, or a network of one sensor would
            see the other one after all.
    """

    fused_width: int
    group_width: int | None
    sensors: tuple[str, ...] = ("sen1", "sen2")

    def classifier(self, class_count: int) -> nn.Module:
        """From the (augmented) fused feature to logits (B, ``class_count``)."""
        return nn.Linear(self.fused_width, class_count)

    def require_sensors(self, channels: Channels, option: str = "") -> None:
        """Refuse a data set without any channel of a sensor that the backbone looks at.

        Args:
            channels: the channels of the data set.
            option: name and value of the option that chooses the sensors, if one does.

        Raises:
            UserError: for the first sensor that is missing.
        """
        for sensor in self.sensors:
            if not getattr(channels, sensor):
                name = type(self).__module__.rpartition(".")[2] + f".{option}" * bool(option)
                raise UserError(
                    "params.yaml", f"backbones.{name}: needs {sensor}, but the data set has no such channels"
                )

    if TYPE_CHECKING:  # torch declares the result of calling a module as Any

        def __call__(self, sen1: Tensor, sen2: Tensor) -> Features: ...


def spatial_mean(
    maps: Float[Tensor, "batch channel row column"],
) -> Float[Tensor, "batch channel"]:
    """Mean over rows and columns, with a gradient in the memory format channels_last.

    ``maps.mean(dim=(2, 3))`` gives the same values, but a gradient with channels first, and every elementwise kernel
    before it then walks through memory in two orders at once: 13 % of a training step of EB-CNN on a CPU.
    """
    return maps.permute(0, 2, 3, 1).mean(dim=(1, 2))


def build_backbone(name: str, channels: Channels, options: dict[str, Any]) -> Backbone:
    """Make the backbone that a trial names.

    Args:
        name: module in this folder.
        channels: the channels of the data set.
        options: the backbone's section of ``params.yaml``.

    Returns:
        The backbone, freshly initialised from torch's global generator.

    Raises:
        UserError: if there is no such backbone, its file lacks something, or an option is unknown or out of range.
    """
    module, checked = _parse(name, options)
    file = str(module.__file__)
    with _faults_of(file):
        backbone: Backbone = module.Network(channels, checked)
    for width in ("fused_width", "group_width"):
        if not hasattr(backbone, width):
            raise UserError(file, f"Network sets no {width}")
    if not torch.empty(0).is_meta:  # where a checkpoint's form alone is made
        _try(backbone, channels, file)
    return backbone


@torch.no_grad()
def _try(backbone: Backbone, channels: Channels, file: str) -> None:
    """Refuse a backbone whose features have another form than it says; a wrong one can train without a word."""
    images = (torch.zeros(2, len(bands), PATCH_SIDE, PATCH_SIDE) for bands in (channels.sen1, channels.sen2))
    with _faults_of(file), torch.random.fork_rng(devices=[]):
        found = backbone.eval()(*images)
    backbone.train()
    if not isinstance(found, Features):
        raise UserError(file, f"Network gives {type(found).__name__}; expected Features(fused, groups)")
    forms: dict[str, tuple[int, ...]] = {"fused": (2, backbone.fused_width)}
    if backbone.group_width is not None:
        forms["groups"] = (2, len(channels.groups), backbone.group_width)
    for part, form in forms.items():
        shape = getattr(getattr(found, part), "shape", None)
        if shape != form:
            told = "None" if shape is None else tuple(shape)
            raise UserError(file, f"of two patches Network gives {part} of shape {told}; expected {form}")


@contextmanager
def _faults_of(file: str) -> Iterator[None]:
    """Errors of a backbone's own code in one line, with the last of its lines that took part."""
    try:
        yield
    except (UserError, MemoryError, OSError):
        raise
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        place = f"line {lines[-1]}: " if lines else ""
        raise UserError(file, f"{place}{type(error).__name__}: {one_line(error)}") from error


def complete_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """All options of a backbone, with its defaults for those that are not given.

    A checkpoint tells all, so that it stays what it is when a default changes.

    Raises:
        UserError: as ``build_backbone``.
    """
    complete: dict[str, Any] = _parse(name, options)[1].model_dump(mode="json")
    return complete


def _parse(name: str, options: dict[str, Any]) -> tuple[ModuleType, BaseModel]:
    known = backbone_names()
    if name not in known:
        raise UserError("params.yaml", f"unknown backbone '{name}'; known: {', '.join(known)}")
    spec = importlib.util.find_spec(f"{__name__}.{name}")
    with _faults_of(str(spec and spec.origin)):
        module = importlib.import_module(f"{__name__}.{name}")
    for part, base in (("Options", BaseModel), ("Network", Backbone)):
        found = getattr(module, part, None)
        if not (isinstance(found, type) and issubclass(found, base)):
            raise UserError(module.__file__, f"must define the class {part}, a {base.__name__}")
    try:
        # As JSON, where a list may stand for a tuple but a text for no number, as in the other sections.
        return module, module.Options.model_validate_json(json.dumps(options), strict=True)
    except ValidationError as error:
        raise UserError("params.yaml", first_mistake(error, f"backbones.{name}", module.Options)) from None
