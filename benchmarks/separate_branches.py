"""EB-CNN in its plain form, the other side in the benchmark: one module for each band group, channels first."""

import copy

import torch
from torch import Tensor, nn

from bp_lcz.bands import Channels
from bp_lcz.model.backbones import Backbone, Features
from bp_lcz.model.backbones.eb_cnn import Network
from bp_lcz.model.bp_lcz import BPLCZ


class SeparateBranches(Backbone):
    """The same network as ``fused``, with copies of its weights.

    Args:
        fused: EB-CNN of the package; it is not changed.
        channels: the channels for which it was made.
    """

    def __init__(self, fused: Network, channels: Channels) -> None:
        super().__init__()
        self.fused_width, self.group_width = fused.fused_width, fused.group_width
        self.positions = [list(positions) for positions in channels.groups.values()]
        self.branches = nn.ModuleList(
            _branch(fused.branches, group, len(self.positions), len(positions))
            for group, positions in enumerate(self.positions)
        )
        self.merge = copy.deepcopy(fused.merge)

    def forward(self, sen1: Tensor, sen2: Tensor) -> Features:
        """Features of standardised images; see ``Features`` for the shapes."""
        images = torch.cat([sen1, sen2], dim=1)
        maps = [branch(images[:, own]) for branch, own in zip(self.branches, self.positions, strict=True)]
        fused = self.merge(torch.cat(maps, dim=1)).mean(dim=(2, 3))
        return Features(fused, torch.stack([group.mean(dim=(2, 3)) for group in maps], dim=1))


def with_separate_branches(network: BPLCZ, channels: Channels) -> BPLCZ:
    """A copy of an EB-CNN network, any variant, with separate branches and channels first in memory."""
    assert isinstance(network.backbone, Network)
    other = copy.deepcopy(network)
    other.backbone = SeparateBranches(network.backbone, channels)
    return other.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _branch(fused: nn.Sequential, group: int, groups: int, channel_count: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for convolution, normalisation, _ in zip(*[iter(fused)] * 3, strict=True):
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(normalisation, nn.BatchNorm2d)
        width = convolution.out_channels // groups
        own = slice(group * width, (group + 1) * width)
        # The fused form fills short groups up with channels of zeros, whose weights do nothing.
        weight = convolution.weight.detach()[own, : channel_count if not layers else None].clone()
        one = nn.Conv2d(weight.shape[1], width, 3, convolution.stride[0], padding=1, bias=False)
        one.weight = nn.Parameter(weight)
        norm = nn.BatchNorm2d(width)
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(norm, name).data.copy_(getattr(normalisation, name).data[own])
        layers += [one, norm, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
