"""Size of the alignment loss's gradient by batch size: `python -m benchmarks.batch_gradient`; see docs/ablation.md."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.dense_msm import dense_loss, pair_logits
from bp_lcz.bands import GROUPS
from bp_lcz.model.msm import msm_loss, positive_weight, prior_logit
from bp_lcz.params import Loss, Target
from bp_lcz.scheme import CLASS_COUNT

ALPHA, DIMENSION = 0.1, 64
SAMPLES = 128
"""Smallest number of samples for each number."""

CASES: tuple[tuple[Target, Loss], ...] = (
    ("graded", "sigmoid"),
    ("class_group", "sigmoid"),
    ("identity", "sigmoid"),
    ("graded", "softmax"),
    ("identity", "softmax"),
)


def measure(batch: int, target: Target, loss: Loss, *, know: float, summed: bool) -> tuple[float, float]:
    """Loss of a batch, and the gradient that a sample's image groups receive.

    Args:
        batch: samples.
        target: as in ``msm_loss``.
        loss: likewise.
        know: share of an image group that is its own prompt, the rest is noise; 0 at the start of a training.
        summed: every pair of the batch counts once, as in SigLIP and CLIP, with their starting bias.

    Returns:
        Means over batches, the loss in nats, and B times the norm of its gradient by the unit vectors of a sample.
    """
    generator = torch.Generator().manual_seed(1)

    def unit(*shape: int) -> Tensor:
        return normalize(torch.randn(*shape, len(GROUPS), DIMENSION, generator=generator), dim=-1)

    found = []
    for _ in range(max(1, SAMPLES // batch)):
        text, label = unit(CLASS_COUNT), torch.randint(CLASS_COUNT, (batch,), generator=generator)
        image = normalize(know * text[label] + (1 - know) * unit(batch), dim=-1).requires_grad_()
        logits = (10 if loss == "sigmoid" else 1 / 0.07) * torch.einsum("bgd,chd->bgch", image, text)
        if loss == "sigmoid":
            logits = logits + (-10 if summed else prior_logit(target, ALPHA, CLASS_COUNT, len(GROUPS)))
        value = msm_loss(logits, label, target=target, loss=loss, alpha=ALPHA)
        if summed:  # a batch of B stands for B samples
            value = dense_loss(pair_logits(logits, label), label, target, loss, ALPHA, batch)
            if loss == "sigmoid":
                value = value * positive_weight(target, ALPHA, batch, len(GROUPS))
        gradient = batch * torch.autograd.grad(value, image)[0].flatten(1).norm(dim=1).mean()
        found.append((value.item(), gradient.item()))
    value, gradient = torch.tensor(found).mean(0).tolist()
    return value, gradient


def table(batches: tuple[int, ...], know: float) -> list[str]:
    """Rows of Markdown, a line for each case, loss / gradient for each batch."""
    lines = [
        "| target, form | counted | " + " | ".join(f"B = {batch}" for batch in batches) + " |",
        "| --- | --- |" + " ---: |" * len(batches),
    ]
    for target, loss in CASES:
        for summed in (True, False):
            cells = ["{:.3g} / {:.3g}".format(*measure(b, target, loss, know=know, summed=summed)) for b in batches]
            counted = "every pair" if summed else "as K samples"
            lines.append(f"| {target}, {loss} | {counted} | " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    for know, state in ((0.0, "features that know nothing"), (0.5, "half of a feature is its own prompt")):
        print(f"\n{state}: loss in nats / gradient of a sample\n")
        print("\n".join(table((16, 64, 256, 1024), know)))
