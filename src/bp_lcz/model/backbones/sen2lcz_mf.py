"""Sen2LCZ-MF: four blocks of convolutions, and a classifier at each resolution whose probabilities are averaged.

Source: Qiu et al., IEEE JSTARS 2020, and its published code and weights (MIT licence). The published network sees
Sentinel-2 reflectance alone; ``bp-lcz pretrained`` brings its weights.
"""

from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d

from bp_lcz.bands import Channels
from bp_lcz.model.backbones import Backbone, Features, spatial_mean
from bp_lcz.model.heads import AveragedHeads

BLOCKS = 4
"""Each but the last halves the image: 32, 16, 8 and 4 pixels a side."""

KERAS_EPSILON = 1e-3
"""Batch normalisation of the published weights; torch's own default is 1e-5. The momentum of Keras
is not taken over: it does not touch trained weights, and needs thousands of steps to settle."""


class Options(BaseModel):
    """Knobs of Sen2LCZ-MF; the defaults are those of the published network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sensors: Literal["sen2", "both"] = "sen2"
    """``both`` adds the Sentinel-1 channels to the input, which the published network does not know."""
    width: PositiveInt = 16
    """Feature maps of the first block; each further block has twice as many."""
    convolutions: PositiveInt = 4
    """Convolutions of a block."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the values dropped before the third and before the fourth block."""


class Network(Backbone):
    """See the module."""

    group_width = None

    def __init__(self, channels: Channels, options: Options) -> None:
        super().__init__()
        self.both = options.sensors == "both"
        if not self.both:
            self.sensors = ("sen2",)
        self.require_sensors(channels, f"sensors: {options.sensors}")
        widths = [options.width * 2**block for block in range(BLOCKS)]
        width = len(channels.names) if self.both else len(channels.sen2)
        self.blocks = nn.ModuleList()
        for next_width in widths:
            layers: list[nn.Module] = []
            for _ in range(options.convolutions):
                convolution = nn.Conv2d(width, next_width, kernel_size=3, padding=1)
                if not convolution.weight.is_meta:  # nothing to fill, and torch would import its compiler for it
                    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
                layers += [convolution, nn.BatchNorm2d(next_width, eps=KERAS_EPSILON), nn.ReLU(inplace=True)]
                width = next_width
            self.blocks.append(nn.Sequential(*layers))
            width = 2 * next_width  # maximum and average side by side
        self.dropout = nn.Dropout(options.dropout)
        self.widths = [2 * width for width in widths[:-1]] + widths[-1:]
        self.fused_width = sum(self.widths)

    def forward(
        self,
        sen1: Float[Tensor, "batch channel1 row column"],
        sen2: Float[Tensor, "batch channel2 row column"],
    ) -> Features:
        """Mean maps of all four resolutions, finest first; no group features."""
        maps = torch.cat([sen1, sen2], dim=1) if self.both else sen2
        means = []
        for number, block in enumerate(self.blocks, start=1):
            maps = block(maps)
            if number < BLOCKS:
                maps = torch.cat([max_pool2d(maps, 2), avg_pool2d(maps, 2)], dim=1)
                if number > 1:
                    maps = self.dropout(maps)
            means.append(spatial_mean(maps))
        return Features(torch.cat(means, dim=1), None)

    def classifier(self, class_count: int) -> nn.Module:
        """A head for each resolution."""
        return AveragedHeads(self.widths, class_count)
