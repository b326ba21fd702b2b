"""The exact form of the alignment loss against the B*G x B*G form that it replaces."""

import itertools
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.dense_msm import dense_loss, pair_logits, supervision
from bp_lcz.model.msm import alignment_loss, alignment_target, msm_loss
from bp_lcz.params import Loss, Target, Variant, load_params

TARGETS: tuple[Target, ...] = get_args(Target)
LOSSES: tuple[Loss, ...] = get_args(Loss)


def definition(logits: Tensor, label: Tensor, target: Target, loss: Loss, alpha: float) -> Tensor:
    return dense_loss(pair_logits(logits, label), label, target, loss, alpha)


def batch_of(batch: int, groups: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(batch, groups, classes, groups, generator=generator)
    label = torch.randint(classes, (batch,), generator=generator)
    return logits, label


@pytest.mark.parametrize("target", TARGETS)
def test_supervision_matrix_is_the_one_defined_entry_by_entry(target: Target) -> None:
    label, groups, alpha = torch.tensor([2, 0, 2, 1]), 3, 0.25
    matrix = supervision(label, groups, target, alpha)
    for (row, (i, g)), (column, (j, h)) in itertools.product(
        enumerate(itertools.product(range(4), range(groups))), repeat=2
    ):
        if target == "identity":
            expected = float((i, g) == (j, h))
        elif label[i] != label[j]:
            expected = 0.0
        else:
            expected = 1.0 if g == h else (alpha if target == "graded" else 0.0)
        assert matrix[row, column] == expected


def test_pair_logits_are_those_of_the_class_of_the_text_entry() -> None:
    logits, label = batch_of(4, 3, 5, seed=11)
    matrix = pair_logits(logits, label)
    for i, g, j, h in itertools.product(range(4), range(3), range(4), range(3)):
        assert matrix[i * 3 + g, j * 3 + h] == logits[i, g, label[j], h]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("loss", LOSSES)
@settings(max_examples=15, deadline=None)
@given(
    batch=st.integers(1, 7),
    groups=st.integers(1, 4),
    classes=st.integers(1, 6),
    alpha=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_exact_form_equals_dense_form_in_value_and_gradient(
    target: Target, loss: Loss, batch: int, groups: int, classes: int, alpha: float, seed: int
) -> None:
    logits, label = batch_of(batch, groups, classes, seed)
    exact_in, dense_in = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    exact = msm_loss(exact_in, label, target=target, loss=loss, alpha=alpha)
    dense = definition(dense_in, label, target, loss, alpha)
    torch.testing.assert_close(exact, dense, rtol=1e-5, atol=1e-5)
    exact.backward()
    dense.backward()
    torch.testing.assert_close(exact_in.grad, dense_in.grad, rtol=1e-4, atol=1e-6)


def test_identity_and_class_group_are_the_same_loss_under_softmax() -> None:
    logits, label = batch_of(12, 7, 4, seed=3)
    gradients = []
    for target in ("identity", "class_group"):
        inputs = logits.clone().requires_grad_()
        loss = definition(inputs, label, target, "softmax", 0.0)
        torch.testing.assert_close(loss, msm_loss(inputs, label, target=target, loss="softmax"))
        gradients.append(torch.autograd.grad(loss, inputs)[0])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-7)


def test_identity_and_class_group_differ_under_sigmoid_when_a_class_repeats() -> None:
    logits, _ = batch_of(4, 3, 2, seed=5)
    repeated, distinct = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1])
    losses = [msm_loss(logits, repeated, target=t, loss="sigmoid") for t in ("identity", "class_group")]
    assert abs(losses[0] - losses[1]) > 1e-2
    losses = [msm_loss(logits[:2], distinct, target=t, loss="sigmoid") for t in ("identity", "class_group")]
    torch.testing.assert_close(losses[0], losses[1])


def test_graded_with_alpha_zero_is_class_group() -> None:
    logits, label = batch_of(9, 5, 4, seed=7)
    for loss in LOSSES:
        graded = msm_loss(logits, label, target="graded", loss=loss, alpha=0.0)
        torch.testing.assert_close(graded, msm_loss(logits, label, target="class_group", loss=loss))


def test_order_of_the_batch_does_not_matter() -> None:
    logits, label = batch_of(20, 3, 6, seed=1)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    for target, loss in itertools.product(TARGETS, LOSSES):
        straight = msm_loss(logits, label, target=target, loss=loss, alpha=0.1)
        shuffled = msm_loss(logits[order], label[order], target=target, loss=loss, alpha=0.1)
        torch.testing.assert_close(straight, shuffled)


def test_absent_classes_have_no_gradient() -> None:
    logits, _ = batch_of(6, 2, 5, seed=2)
    label = torch.tensor([0, 0, 3, 3, 3, 0])
    for target, loss in itertools.product(TARGETS, LOSSES):
        inputs = logits.clone().requires_grad_()
        msm_loss(inputs, label, target=target, loss=loss, alpha=0.1).backward()
        assert torch.isfinite(inputs.grad).all()
        assert inputs.grad[:, :, [1, 2, 4]].abs().max() == 0


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_alpha_outside_the_unit_interval_is_refused(alpha: float) -> None:
    logits, label = batch_of(2, 2, 2, seed=0)
    with pytest.raises(ValueError, match="alpha"):
        msm_loss(logits, label, target="graded", loss="softmax", alpha=alpha)


@pytest.mark.parametrize(
    ("variant", "target", "loss"),
    [
        ("bp-lcz", "class_group", "sigmoid"),
        ("bgp", "identity", "softmax"),
        ("msm", "class_group", "sigmoid"),
    ],
)
def test_only_the_whole_method_takes_matrix_and_form_from_the_parameters(
    variant: Variant, target: Target, loss: Loss
) -> None:
    model = load_params().model.model_copy(update={"target": "class_group", "loss": "sigmoid"})
    other = model.model_copy(update={"target": "graded", "loss": "softmax"})
    assert (alignment_target(variant, model), alignment_loss(variant, model)) == (target, loss)
    whole = (alignment_target(variant, other), alignment_loss(variant, other))
    assert whole == (("graded", "softmax") if variant == "bp-lcz" else (target, loss))
