"""The alignment loss by its definition, over all B*G x B*G pairs of a batch. ``bp_lcz.model.msm`` replaces it.

It is the reference in tests/model/test_msm.py and the other side in the benchmark. The package does not use it.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from bp_lcz.model.msm import positive_weight
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


def counted(samples: int, groups: int, classes: int) -> Tensor:
    """How often each pair counts, (B*G, B*G): once within a sample, else so that a batch stands for K samples."""
    own = torch.eye(samples)
    return torch.kron(own + (1 - own) * (classes - 1) / max(samples - 1, 1), torch.ones(groups, groups))


def dense_loss(matrix: Tensor, label: Tensor, target: Target, loss: Loss, alpha: float, classes: int) -> Tensor:
    """Alignment loss of a full matrix of logits (B*G, B*G); targets, losses and ``alpha`` as in ``msm_loss``.

    The target of ``softmax`` needs no counts: the columns of a class are equal, whatever the share of each.
    """
    groups = len(matrix) // len(label)
    wanted, count = supervision(label, groups, target, alpha), counted(len(label), groups, classes)
    if loss == "sigmoid":
        total = binary_cross_entropy_with_logits(matrix, wanted, weight=count, reduction="sum")
        return total / len(matrix) / positive_weight(target, alpha, classes, groups)
    directions = []
    for logits, goal, times in ((matrix, wanted, count), (matrix.T, wanted.T, count.T)):
        share = goal / goal.sum(1, keepdim=True)
        directions.append((logits + times.log()).logsumexp(1).mean() - (share * logits).sum() / len(matrix))
    return torch.stack(directions).mean()
