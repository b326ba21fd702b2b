"""The alignment loss as it is defined, over all B*G x B*G pairs of a batch: what ``bp_lcz.model.msm`` replaces.

The reference of tests/model/test_msm.py and the other side of the benchmark. Nothing of the package uses it.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from bp_lcz.params import Loss, Target


def pair_logits(logits: Tensor, label: Tensor) -> Tensor:
    """Logits of every image entry against every text entry of the batch.

    Args:
        logits: (B, G, K, G) of image group g and the prompt of class c and group h, as ``msm_loss`` takes them.
        label: (B,) class of each sample.

    Returns:
        (B*G, B*G): entry (i, g) against entry (j, h), the prompt of class y_j and group h.
    """
    return logits[:, :, label].flatten(2).flatten(0, 1)


def supervision(label: Tensor, groups: int, target: Target, alpha: float) -> Tensor:
    """The multivariate supervised matrix itself, (B*G, B*G), before any normalisation."""
    own_group = torch.eye(groups)
    if target == "identity":
        return torch.kron(torch.eye(len(label)), own_group)
    same_class = (label[:, None] == label).float()
    return torch.kron(same_class, own_group if target == "class_group" else alpha + (1 - alpha) * own_group)


def dense_loss(matrix: Tensor, label: Tensor, target: Target, loss: Loss, alpha: float) -> Tensor:
    """Alignment loss of a full matrix of logits (B*G, B*G); targets, losses and ``alpha`` as in ``msm_loss``."""
    wanted = supervision(label, len(matrix) // len(label), target, alpha)
    if loss == "sigmoid":
        return binary_cross_entropy_with_logits(matrix, wanted, reduction="sum") / len(matrix)
    rows = cross_entropy(matrix, wanted / wanted.sum(1, keepdim=True))
    columns = cross_entropy(matrix.T, wanted.T / wanted.T.sum(1, keepdim=True))
    return (rows + columns) / 2
