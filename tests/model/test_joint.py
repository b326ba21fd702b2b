"""The loss between image groups against its definition, pair by pair."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from bp_lcz.model.joint import joint_loss
from bp_lcz.params import Loss, Target

CASES = list(itertools.product(("class_group", "graded"), ("softmax", "sigmoid")))


def definition(logits: Tensor, label: Tensor, target: Target, loss: Loss, alpha: float) -> Tensor:
    batch, groups = logits.shape[:2]
    graded = alpha if target == "graded" else 0.0
    entries = list(itertools.product(range(batch), range(groups)))
    rows = []
    for i, g in entries:
        pairs = []
        for j, h in entries:
            if (i, g) != (j, h):
                wanted = 0.0 if label[i] != label[j] else (1.0 if g == h else graded)
                pairs.append((logits[i, g, j, h], 1.0 if i == j else 16 / (batch - 1), wanted))
        if loss == "sigmoid":
            terms = [n * (math.log1p(math.exp(-abs(z))) + max(z, 0) - t * z) for z, n, t in pairs]
            own = (groups - 1) * graded
            rows.append(sum(terms) / (own + 16 / 17 * (1 + own)))
        elif total := sum(n * t for _, n, t in pairs):
            normaliser = math.log(sum(n * math.exp(z) for z, n, _ in pairs))
            rows.append(sum(n * t * (normaliser - z) for z, n, t in pairs) / total)
    return sum(rows) / max(len(rows), 1)


@pytest.mark.parametrize(("target", "loss"), CASES)
@pytest.mark.parametrize("label", [[0, 0, 3, 0], [1, 2, 3, 4]], ids=["repeated", "distinct"])
def test_the_loss_is_the_one_defined(label: list[int], target: Target, loss: Loss) -> None:
    logits = 3 * torch.randn(4, 3, 4, 3, generator=torch.Generator().manual_seed(0))
    found = joint_loss(logits, torch.tensor(label), target=target, loss=loss, alpha=0.2)
    assert float(found) == pytest.approx(float(definition(logits, torch.tensor(label), target, loss, 0.2)), rel=1e-5)


@pytest.mark.parametrize(("target", "loss"), CASES)
def test_every_batch_has_a_finite_gradient(target: Target, loss: Loss) -> None:
    for label in ([0], [0, 1, 2], [5, 5, 5]):
        logits = torch.randn(len(label), 2, len(label), 2).requires_grad_()
        joint_loss(logits, torch.tensor(label), target=target, loss=loss, alpha=0.1).backward()
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(("target", "loss"), CASES)
def test_the_loss_means_the_same_at_every_batch_size(target: Target, loss: Loss) -> None:
    generator = torch.Generator().manual_seed(0)
    classes = torch.randn(17, 3, 8, generator=generator)

    def mean(batch: int) -> float:
        losses = []
        for _ in range(1024 // batch):
            label = torch.randint(17, (batch,), generator=generator)
            image = torch.nn.functional.normalize(
                classes[label] + torch.randn(batch, 3, 8, generator=generator), dim=-1
            )
            logits = 4 * torch.einsum("bgd,chd->bgch", image, image) - 2
            losses.append(joint_loss(logits, label, target=target, loss=loss, alpha=0.1))
        return float(torch.stack(losses).mean())

    assert mean(32) == pytest.approx(mean(256), rel=0.1)


def test_identity_has_no_pairs_of_image_groups() -> None:
    with pytest.raises(ValueError, match="identity"):
        joint_loss(torch.zeros(2, 2, 2, 2), torch.tensor([0, 1]), target="identity", loss="sigmoid")
