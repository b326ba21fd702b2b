"""A classifier made of several, whose probabilities are averaged."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class AveragedHeads(nn.Module):
    """One linear head for each part of the feature; the probabilities of all heads are averaged.

    Args:
        widths: of the parts, in the order in which the feature holds them.
        class_count: number of classes.
    """

    def __init__(self, widths: Sequence[int], class_count: int) -> None:
        super().__init__()
        self.widths = list(widths)
        self.heads = nn.ModuleList(nn.Linear(width, class_count) for width in widths)

    def forward(self, feature: Float[Tensor, "batch width"]) -> Float[Tensor, "batch klass"]:
        """Log of the averaged probabilities: logits whose softmax is the average itself."""
        parts = feature.split(self.widths, dim=1)
        # In float32 whatever the precision of training: the log of a small mean of bfloat16 is coarse.
        logs = [head(part).float().log_softmax(1) for head, part in zip(self.heads, parts, strict=True)]
        return torch.stack(logs).logsumexp(0) - math.log(len(logs))
