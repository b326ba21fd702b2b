"""The channels of all band groups side by side, each group filled up to the same number of channels."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from bp_lcz.bands import Channels


class GroupStack(nn.Module):
    """Arranges images for a convolution with as many groups as there are band groups.

    Args:
        channels: the channels of the data set.
        names: of the band groups to take, all without.

    Attributes:
        count: number of band groups.
        width: channels of each group; short groups end with channels of zeros.
    """

    order: Tensor

    def __init__(self, channels: Channels, names: Iterable[str] | None = None) -> None:
        super().__init__()
        groups = channels.groups if names is None else {name: channels.groups[name] for name in names}
        self.count = len(groups)
        self.width = max(len(positions) for positions in groups.values())
        zeros = len(channels.names)
        order = [[*positions, *[zeros] * (self.width - len(positions))] for positions in groups.values()]
        self.register_buffer("order", torch.tensor(order).flatten(), persistent=False)

    def forward(
        self,
        sen1: Float[Tensor, "batch channel1 row column"],
        sen2: Float[Tensor, "batch channel2 row column"],
    ) -> Float[Tensor, "batch group_channel row column"]:
        """The first ``width`` channels are those of the first group, and so on."""
        # One channel of zeros behind the real ones, at the position to which short groups point.
        images = pad(torch.cat([sen1, sen2], dim=1), (0, 0, 0, 0, 0, 1))
        return images[:, self.order].contiguous(memory_format=torch.channels_last)

    if TYPE_CHECKING:  # torch declares the result of calling a module as Any

        def __call__(self, sen1: Tensor, sen2: Tensor) -> Tensor: ...
