"""The channels of all band groups side by side, each group filled up to the same number of channels."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

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

    select: Tensor

    def __init__(self, channels: Channels, names: Iterable[str] | None = None) -> None:
        super().__init__()
        groups = channels.groups if names is None else {name: channels.groups[name] for name in names}
        self.count = len(groups)
        self.width = max(len(positions) for positions in groups.values())
        # Multiplying by zeros and a one is exact, and twice as fast on a CPU as taking channels by index.
        select = torch.zeros(len(channels.names), self.count, self.width)
        for group, positions in enumerate(groups.values()):
            select[list(positions), group, range(len(positions))] = 1
        self.register_buffer("select", select.flatten(1), persistent=False)

    def forward(
        self,
        sen1: Float[Tensor, "batch channel1 row column"],
        sen2: Float[Tensor, "batch channel2 row column"],
    ) -> Float[Tensor, "batch group_channel row column"]:
        """The first ``width`` channels are those of the first group, and so on; channels_last in memory."""
        images = torch.cat([sen1, sen2], dim=1) if sen1.shape[1] else sen2  # which cat would copy
        return (images.permute(0, 2, 3, 1) @ self.select).permute(0, 3, 1, 2)

    if TYPE_CHECKING:  # torch declares the result of calling a module as Any

        def __call__(self, sen1: Tensor, sen2: Tensor) -> Tensor: ...
