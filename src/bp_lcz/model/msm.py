"""The alignment loss under the multivariate supervised matrix (MSM), in its exact form on distinct prompts.

A batch of B samples with G band groups has B*G image entries (i, g) and B*G text entries (j, h), the prompt of
class y_j and group h. The supervision matrix over them is B*G x B*G, but there are only K*G distinct prompts, so
every sum over text entries is a sum over distinct prompts weighted by how often they stand there.
Value and gradient equal the dense form to rounding; benchmarks/dense_msm.py is that form.

Whatever B, a batch stands for K samples: a sample's own texts count once and the texts of the B - 1 others
(K - 1) / (B - 1) times. docs/adr/0022-loss-of-any-batch.md says why.

Under softmax, ``identity`` and ``class_group`` are provably the same loss, since prompts of one class are identical
columns; docs/adr/0003-msm.md tells what follows from that.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot, softplus

from bp_lcz.params import Loss, Model, Target, Variant


def alignment_loss(variant: Variant, model: Model) -> Loss:
    """Contrastive form of a variant: band group prompting alone is CLIP's; MSM alone would be a no-op under softmax."""
    return {"bp-lcz": model.loss, "msm": "sigmoid"}.get(variant, "softmax")


def alignment_target(variant: Variant, model: Model) -> Target:
    """Matrix of a variant: without MSM an image knows only its own sample, and without groups nothing is graded."""
    return {"bp-lcz": model.target, "msm": "class_group"}.get(variant, "identity")


def positive_weight(target: Target, alpha: float, classes: int, groups: int) -> float:
    """Weight of the positives of an image group among its K*G prompts, where classes are equally frequent.

    Args:
        target: as in ``msm_loss``.
        alpha: likewise.
        classes: K.
        groups: G.
    """
    own = 1 + (groups - 1) * alpha if target == "graded" else 1.0
    # Of the K - 1 other samples, (K - 1) / K have the same class.
    return own if target == "identity" else own * (2 - 1 / classes)


def prior_logit(target: Target, alpha: float, classes: int, groups: int) -> float:
    """Log-odds that a pair is positive: the bias of ``sigmoid`` for features that know nothing yet."""
    positives = positive_weight(target, alpha, classes, groups)
    return math.log(positives / (classes * groups - positives))


def group_weight(
    target: Target, alpha: float, own_group: Float[Tensor, "group group_text"]
) -> Float[Tensor, "group group_text"]:
    """Weight of pairs of one class: 1 where the groups are the same, and between others alpha under ``graded``."""
    return alpha + (1 - alpha) * own_group if target == "graded" else own_group


def others_count(batch: int, classes: int) -> float:
    """How often each of the other samples of a batch counts, so that it stands for as many samples as classes."""
    return (classes - 1) / max(batch - 1, 1)


def msm_loss(
    logits: Float[Tensor, "batch group klass group_text"],
    label: Int[Tensor, "batch"],
    *,
    target: Target,
    loss: Loss,
    alpha: float = 0.0,
) -> Float[Tensor, ""]:
    """Alignment loss between the band groups of images and the class x group prompts.

    Args:
        logits: scaled (for ``sigmoid`` also biased) cosine similarity of image group g of a sample and the
            prompt of class c and group h.
        label: class of each sample.
        target: ``identity`` pairs an image group with its own sample's prompt of that group; ``class_group``
            with that prompt of every sample of the class; ``graded`` adds the class's prompts of other groups
            with weight ``alpha``.
        loss: ``softmax``, cross-entropy over rows and over columns, averaged (CLIP); or ``sigmoid``, a binary
            decision for every pair, summed over a row and divided by ``positive_weight`` (SigLIP).
        alpha: weight of prompts of the right class but another group, 0 <= alpha <= 1; only for ``graded``.

    Returns:
        The loss in nats, a mean over image groups. Its expectation under ``sigmoid`` is the same for every B > 1.
        With several processes the batch is the local one.

    Raises:
        ValueError: if alpha is outside [0, 1].

    Source: docs/adr/0003-msm.md; equal to benchmarks/dense_msm.py.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; expected 0 <= alpha <= 1")
    logits = logits.float()
    batch, group_count, class_count, _ = logits.shape
    own_group = torch.eye(group_count, dtype=logits.dtype, device=logits.device)
    weight = group_weight(target, alpha, own_group)
    other = others_count(batch, class_count)
    own_class = logits[torch.arange(batch, device=label.device), :, label]
    if loss == "softmax":
        supervised = (own_class * (weight / weight.sum(1, keepdim=True))).sum()
        rows, columns = _row_normaliser(logits, label, other), _column_normaliser(logits, own_class, label, other)
        return ((rows.sum() + columns.sum()) / 2 - supervised) / (batch * group_count)
    counts = _text_counts(label, class_count, other)
    # Binary cross-entropy with target t is softplus(z) - t z, so only the second term knows the target.
    every_pair = (softplus(logits).sum((1, 3)) * counts).sum()
    # Under the identity target the own prompt is positive once, and negative as a text of others of the class.
    positives = torch.ones_like(counts[:, :1]) if target == "identity" else counts.gather(1, label[:, None])
    supervised = ((own_class * weight).sum((1, 2)) * positives[:, 0]).sum()
    return (every_pair - supervised) / (batch * group_count * positive_weight(target, alpha, class_count, group_count))


def _text_counts(label: Int[Tensor, "batch"], class_count: int, other: float) -> Float[Tensor, "batch klass"]:
    """Weight of each class's prompts for a sample: 1 for its own text, plus ``other`` for each other sample's."""
    own = one_hot(label, class_count).float()
    return own + other * (own.sum(0) - own)


def _row_normaliser(
    logits: Float[Tensor, "batch group klass group_text"], label: Int[Tensor, "batch"], other: float
) -> Float[Tensor, "batch group"]:
    # Classes absent from the batch drop out by log 0.
    counts = _text_counts(label, logits.shape[2], other).log()
    return (logits + counts[:, None, :, None]).flatten(2).logsumexp(2)


def _column_normaliser(
    logits: Float[Tensor, "batch group klass group_text"],
    own_class: Float[Tensor, "batch group group_text"],
    label: Int[Tensor, "batch"],
    other: float,
) -> Float[Tensor, "batch group_text"]:
    """Of the text (j, h): the log of what its own image gives, plus ``other`` times what the other images give."""
    every = logits.flatten(0, 1).logsumexp(0)[label]
    own = own_class.logsumexp(1)
    return every + (other + (1 - other) * (own - every).exp()).log()
