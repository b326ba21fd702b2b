"""Group features for backbones without a branch for each band group, so that prompting has something to align.

One light convolutional encoder is shared by all groups. Only its first layer is a group's own: filters from the
group's channels into a common space. A shared first layer with a learnt group embedding would be smaller by a few
thousand values, but would read red, the real part of VH and the first red edge with one and the same filter, merely
because each stands first in its group. The first layer halves the image, because it costs most of the time: at full
resolution the encoder would take longer than the whole of EB-CNN.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bp_lcz.bands import Channels
from bp_lcz.model.backbones import spatial_mean
from bp_lcz.model.group_stack import GroupStack

OWN_WIDTH = 16
"""Feature maps of a group after its own convolution."""

SHARED_WIDTHS = (32, 64)
"""Feature maps after each shared convolution."""


class GroupEncoder(nn.Module):
    """See the module.

    Args:
        channels: the channels of the data set.
        names: of the band groups to encode, all without.

    Attributes:
        group_width: length of a group's feature.
    """

    group_width = SHARED_WIDTHS[-1]

    def __init__(self, channels: Channels, names: Iterable[str] | None = None) -> None:
        super().__init__()
        self.stack = GroupStack(channels, names)
        count = self.stack.count
        self.own = nn.Sequential(*_halve(self.stack.width * count, OWN_WIDTH * count, groups=count))
        widths = (OWN_WIDTH, *SHARED_WIDTHS)
        self.shared = nn.Sequential(*[layer for pair in pairwise(widths) for layer in _halve(*pair)])

    def forward(
        self,
        sen1: Float[Tensor, "batch channel1 row column"],
        sen2: Float[Tensor, "batch channel2 row column"],
    ) -> Float[Tensor, "batch group group_width"]:
        """Features of standardised images, in the order of ``names``."""
        own = self.own(self.stack(sen1, sen2)).unflatten(1, (self.stack.count, OWN_WIDTH))
        maps = own.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return spatial_mean(self.shared(maps)).unflatten(0, (-1, self.stack.count))

    if TYPE_CHECKING:  # torch declares the result of calling a module as Any

        def __call__(self, sen1: Tensor, sen2: Tensor) -> Tensor: ...


def _halve(width: int, next_width: int, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(width, next_width, kernel_size=3, stride=2, padding=1, groups=groups, bias=False),
        nn.BatchNorm2d(next_width),
        nn.ReLU(inplace=True),
    ]
