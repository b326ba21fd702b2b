"""Group features for backbones without a branch for each band group, so that prompting has something to align.

One light convolutional encoder is shared by all groups. Only its entry is a group's own: a 1x1 convolution from
the group's channels into a common space. A shared entry with a learnt group embedding would be smaller by a
few hundred values, but would read red, the real part of VH and the first red edge with one and the same filter,
merely because each stands first in its group. The bias of the entry does what a group embedding would.
"""

from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor, nn

from bp_lcz.bands import Channels
from bp_lcz.model.group_stack import GroupStack

ENTRY_WIDTH = 8
"""Feature maps of a group after its own 1x1 convolution."""

WIDTHS = (32, 64)
"""Feature maps after each shared convolution; each halves the image."""


class GroupEncoder(nn.Module):
    """See the module.

    Attributes:
        group_width: length of a group's feature.
    """

    group_width = WIDTHS[-1]

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.stack = GroupStack(channels)
        count = self.stack.count
        self.entry = nn.Conv2d(self.stack.width * count, ENTRY_WIDTH * count, kernel_size=1, groups=count)
        layers: list[nn.Module] = []
        width = ENTRY_WIDTH
        for next_width in WIDTHS:
            layers += [
                nn.Conv2d(width, next_width, kernel_size=3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(next_width),
                nn.ReLU(inplace=True),
            ]
            width = next_width
        self.shared = nn.Sequential(*layers)

    def forward(
        self,
        sen1: Float[Tensor, "batch channel1 row column"],
        sen2: Float[Tensor, "batch channel2 row column"],
    ) -> Float[Tensor, "batch group group_width"]:
        """Features of standardised images, in the order of ``channels.groups``."""
        entered = self.entry(self.stack(sen1, sen2))
        maps = entered.unflatten(1, (self.stack.count, ENTRY_WIDTH)).flatten(0, 1)
        return self.shared(maps).mean(dim=(2, 3)).unflatten(0, (-1, self.stack.count))

    if TYPE_CHECKING:  # torch declares the result of calling a module as Any

        def __call__(self, sen1: Tensor, sen2: Tensor) -> Tensor: ...
