"""What general-purpose image networks share as backbones: how they fuse the two sensors.

``fusion`` chooses among the classical ways, with one and the same network:

- ``early``: one network on the channels of both sensors.
- ``feature``: one network for each sensor; their features are concatenated.
- ``decision``: one network and one classifier for each sensor; their probabilities are averaged.
- ``sen1``, ``sen2``: one network on that sensor alone, whatever else the data set holds.

The networks come from transformers, freshly initialised from a configuration; nothing is downloaded. Their weights
are drawn from torch's global generator.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from bp_lcz.bands import Channels
from bp_lcz.model.backbones import Backbone, Features
from bp_lcz.model.heads import AveragedHeads

Fusion = Literal["early", "feature", "decision", "sen1", "sen2"]


class StreamOptions(BaseModel):
    """Knobs that all of these backbones have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fusion: Fusion = "early"
    """How the two sensors meet; see the module."""


class StreamBackbone(Backbone):
    """One network for each stream of channels that the fusion asks for.

    Args:
        channels: the channels of the data set.
        fusion: see the module.
        make: from a number of channels to a transformers model that pools its maps.
        width: length of the pooled feature.

    Raises:
        UserError: if the data set has no channels of a sensor that the fusion needs.
    """

    group_width = None

    def __init__(self, channels: Channels, fusion: Fusion, make: Callable[[int], nn.Module], width: int) -> None:
        super().__init__()
        self.fusion = fusion
        if fusion in self.sensors:
            self.sensors = (fusion,)
        self.require_sensors(channels, f"fusion: {fusion}")
        streams = {sensor: len(getattr(channels, sensor)) for sensor in self.sensors}
        if fusion == "early":
            streams = {fusion: sum(streams.values())}
        self.streams = nn.ModuleDict({key: make(count) for key, count in streams.items()})
        self.widths = [width] * len(streams)
        self.fused_width = sum(self.widths)

    def forward(
        self,
        sen1: Float[Tensor, "batch channel1 row column"],
        sen2: Float[Tensor, "batch channel2 row column"],
    ) -> Features:
        """The feature of standardised images; no group features."""
        images = {"sen1": sen1, "sen2": sen2}
        if self.fusion == "early":
            images["early"] = torch.cat([sen1, sen2], dim=1)
        pooled = [network(images[key]).pooler_output.flatten(1) for key, network in self.streams.items()]
        return Features(torch.cat(pooled, dim=1), None)

    def classifier(self, class_count: int) -> nn.Module:
        """For ``decision`` a head for each sensor, else one for the whole feature."""
        if self.fusion == "decision":
            return AveragedHeads(self.widths, class_count)
        return super().classifier(class_count)
