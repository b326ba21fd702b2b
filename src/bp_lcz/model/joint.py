"""The joint reading of the supervision matrix: pairs of image groups beside pairs of an image group and a text.

All variables of the matrix are then compared, so radar and optical groups of one class are drawn together across
samples, and unlike classes apart. As in ``msm`` a batch stands for as many samples as there are classes, whatever its
size. Source: a reading of this project, docs/adr/0023-controls-and-joint-matrix.md.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import softplus

from bp_lcz.model.msm import group_weight, others_count, positive_weight
from bp_lcz.params import Loss, Target
from bp_lcz.scheme import CLASS_COUNT


def joint_loss(
    logits: Float[Tensor, "batch group batch group"],
    label: Int[Tensor, "batch"],
    *,
    target: Target,
    loss: Loss,
    alpha: float = 0.0,
) -> Float[Tensor, ""]:
    """Alignment loss between the band groups of the images of a batch.

    Args:
        logits: scaled (for ``sigmoid`` also biased) cosine similarity of image group g of one sample and h of another.
        label: class of each sample.
        target: ``class_group`` pairs an image group with the same group of every sample of the class; ``graded`` adds
            the other groups of the class, those of the sample itself too, with weight ``alpha``.
        loss: as in ``msm_loss``.
        alpha: likewise.

    Returns:
        The loss in nats, a mean over the image groups that have a partner; 0 where none has.

    Raises:
        ValueError: for ``identity``, which knows no pair of image groups.
    """
    if target == "identity":
        raise ValueError("identity knows no pairs of image groups")
    batch, groups = logits.shape[:2]
    own_group = torch.eye(groups, device=logits.device)
    weight = group_weight(target, alpha, own_group)
    same = torch.eye(batch, device=logits.device)
    counts = same + others_count(batch, CLASS_COUNT) * (1 - same)
    itself = same[:, None, :, None] * own_group[:, None]
    counts = counts[:, None, :, None] * (1 - itself)
    wanted = (label[:, None] == label).float()[:, None, :, None] * weight[:, None]
    logits, counts, wanted = (each.flatten(2).flatten(0, 1) for each in (logits.float(), counts, wanted))
    if loss == "softmax":
        positives = counts * wanted
        total = positives.sum(1)
        rows = total * (logits + counts.log()).logsumexp(1) - (positives * logits).sum(1)
        has_partner = total > 0
        return (rows / total.where(has_partner, 1.0)).sum() / has_partner.sum().clamp(min=1)
    # As of texts, but that an image group is no partner of itself.
    expected = positive_weight(target, alpha, CLASS_COUNT, groups) - 1
    return (counts * (softplus(logits) - wanted * logits)).sum() / (batch * groups * expected)
