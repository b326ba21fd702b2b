"""The alignment loss under the multivariate supervised matrix (MSM), in its exact form on distinct prompts.

A batch of B samples with G band groups has B*G image entries (i, g) and B*G text entries (j, h), the prompt of
class y_j and group h. The supervision matrix over them is B*G x B*G, but there are only K*G distinct prompts, so
every sum over text entries is a sum over distinct prompts weighted by n_c, the samples of class c in the batch.
Value and gradient equal the dense form to rounding; benchmarks/dense_msm.py is that form.

Under softmax, ``identity`` and ``class_group`` are provably the same loss, since prompts of one class are identical
columns; docs/adr/0003-msm.md tells what follows from that.
"""

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
            decision for every pair, summed and divided by B*G (SigLIP).
        alpha: weight of prompts of the right class but another group, 0 <= alpha <= 1; only for ``graded``.

    Returns:
        The loss in nats. With several processes the batch is the local one.

    Raises:
        ValueError: if alpha is outside [0, 1].

    Source: docs/adr/0003-msm.md; equal to benchmarks/dense_msm.py.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; expected 0 <= alpha <= 1")
    logits = logits.float()
    group_count = logits.shape[1]
    own_group = torch.eye(group_count, dtype=logits.dtype, device=logits.device)
    weight = own_group if target != "graded" else alpha + (1 - alpha) * own_group
    if loss == "softmax":
        return _softmax_loss(logits, label, weight / weight.sum(1, keepdim=True))
    return _sigmoid_loss(logits, label, weight, counts_as_one=target == "identity")


def _own_class(
    logits: Float[Tensor, "batch group klass group_text"], label: Int[Tensor, "batch"]
) -> Float[Tensor, "batch group group_text"]:
    return logits[torch.arange(len(label), device=label.device), :, label]


def _softmax_loss(
    logits: Float[Tensor, "batch group klass group_text"],
    label: Int[Tensor, "batch"],
    weight: Float[Tensor, "group group_text"],
) -> Float[Tensor, ""]:
    batch, group_count, class_count, _ = logits.shape
    samples = one_hot(label, class_count).sum(0)
    # Each distinct prompt stands n_c times in a row's softmax; classes absent from the batch drop out by log 0.
    log_samples = samples.to(logits.dtype).log()
    row_normaliser = (logits + log_samples[:, None]).flatten(2).logsumexp(2)
    column_normaliser = logits.flatten(0, 1).logsumexp(0)
    # Rows and columns put the same total weight on the same own-class entries: a column's target is spread over
    # the n_c samples of its class, and the column stands n_c times.
    supervised = torch.einsum("bgh,gh->", _own_class(logits, label), weight)
    rows = row_normaliser.sum() - supervised
    columns = torch.einsum("ch,c->", column_normaliser, samples.to(logits.dtype)) - supervised
    return (rows + columns) / (2 * batch * group_count)


def _sigmoid_loss(
    logits: Float[Tensor, "batch group klass group_text"],
    label: Int[Tensor, "batch"],
    weight: Float[Tensor, "group group_text"],
    *,
    counts_as_one: bool,
) -> Float[Tensor, ""]:
    batch, group_count, class_count, _ = logits.shape
    samples = one_hot(label, class_count).sum(0).to(logits.dtype)
    # Binary cross-entropy with target t is softplus(z) - t z, so only the second term knows the target.
    every_pair = torch.einsum("ch,c->", softplus(logits).sum((0, 1)), samples)
    # Under the identity target the own prompt is one positive and n_c - 1 negatives.
    positives = torch.ones_like(label, dtype=logits.dtype) if counts_as_one else samples[label]
    supervised = torch.einsum("bgh,gh,b->", _own_class(logits, label), weight, positives)
    return (every_pair - supervised) / (batch * group_count)
