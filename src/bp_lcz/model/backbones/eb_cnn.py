"""EB-CNN, the "embranchment" network: one convolutional branch for each band group, then a merge.

Source: Feng et al., IGARSS 2019, gives the idea; its layer table is not accessible, so the layers are a
choice of this project. All branches have the same shape, so one grouped convolution runs them side by side.
Strides instead of pooling, because most of a small network's time on a CPU goes into its largest maps.
"""

from typing import Annotated

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn

from bp_lcz.bands import Channels
from bp_lcz.model.backbones import Backbone, Features, spatial_mean
from bp_lcz.model.group_stack import GroupStack


class Options(BaseModel):
    """Knobs of EB-CNN."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=5)] = (16, 32, 64)
    """Feature maps of a branch after each of its convolutions; each but the last halves the image."""
    fused_width: PositiveInt = 128
    """Length of the merged feature."""


class Network(Backbone):
    """See the module."""

    def __init__(self, channels: Channels, options: Options) -> None:
        super().__init__()
        self.stack = GroupStack(channels)
        self.group_width = options.widths[-1]
        self.fused_width = options.fused_width
        layers: list[nn.Module] = []
        width = self.stack.width
        for depth, next_width in enumerate(options.widths):
            layers += [
                nn.Conv2d(
                    width * self.stack.count,
                    next_width * self.stack.count,
                    kernel_size=3,
                    stride=1 if depth == len(options.widths) - 1 else 2,
                    padding=1,
                    groups=self.stack.count,
                    bias=False,
                ),
                nn.BatchNorm2d(next_width * self.stack.count),
                nn.ReLU(inplace=True),
            ]
            width = next_width
        self.branches = nn.Sequential(*layers)
        self.merge = nn.Sequential(
            nn.Conv2d(width * self.stack.count, self.fused_width, kernel_size=1, bias=False),
            nn.BatchNorm2d(self.fused_width),
            nn.ReLU(inplace=True),
        )

    def forward(
        self,
        sen1: Float[Tensor, "batch channel1 row column"],
        sen2: Float[Tensor, "batch channel2 row column"],
    ) -> Features:
        """Features of standardised images; see ``Features`` for the shapes."""
        maps = self.branches(self.stack(sen1, sen2))
        fused = spatial_mean(self.merge(maps))
        groups = spatial_mean(maps).unflatten(1, (self.stack.count, -1))
        return Features(fused, groups)
