"""The exact form of the alignment loss against the B*G x B*G form that it replaces."""

import itertools
import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize

from benchmarks.dense_msm import dense_loss, pair_logits, supervision
from bp_lcz.model.msm import alignment_loss, alignment_target, msm_loss, positive_weight, prior_logit
from bp_lcz.params import Loss, Target, Variant, load_params

TARGETS: tuple[Target, ...] = get_args(Target)
LOSSES: tuple[Loss, ...] = get_args(Loss)


def definition(logits: Tensor, label: Tensor, target: Target, loss: Loss, alpha: float) -> Tensor:
    return dense_loss(pair_logits(logits, label), label, target, loss, alpha, logits.shape[2])


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

    def pairs(label: list[int], target: Target) -> Tensor:
        value = msm_loss(logits[: len(label)], torch.tensor(label), target=target, loss="sigmoid")
        return value * positive_weight(target, 0.0, 2, 3)

    assert abs(pairs([0, 0, 1, 1], "identity") - pairs([0, 0, 1, 1], "class_group")) > 1e-2
    torch.testing.assert_close(pairs([0, 1], "identity"), pairs([0, 1], "class_group"))


def mean_gradient(batch: int, target: Target, loss: Loss, draws: int) -> tuple[Tensor, Tensor]:
    """Gradient that one sample receives with others of unequal classes beside it: mean over draws, standard error."""
    classes, groups, width = 5, 2, 16
    generator = torch.Generator().manual_seed(4)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, groups, width, generator=generator)

    text, sample, gradients = normalize(noise(classes), dim=-1), noise(), []
    for _ in range(draws):
        label = torch.multinomial(torch.arange(1.0, classes + 1), batch, replacement=True, generator=generator)
        label[0] = 2
        around = torch.cat([sample[None], noise(batch - 1)])
        image = normalize(text[label] + around / 4, dim=-1).requires_grad_()
        logits = 10 * torch.einsum("bgd,chd->bgch", image, text) + prior_logit(target, 0.1, classes, groups)
        value = msm_loss(logits, label, target=target, loss=loss, alpha=0.1)
        gradients.append(batch * torch.autograd.grad(value, image)[0][0].flatten())
    found = torch.stack(gradients)
    return found.mean(0), found.std(0) / draws**0.5


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_sample_receives_the_same_mean_gradient_from_a_batch_eight_times_as_large(target: Target, loss: Loss) -> None:
    (small, small_error), (large, large_error) = (mean_gradient(b, target, loss, d) for b, d in ((64, 80), (512, 20)))
    noise = (small_error**2 + large_error**2).sum().sqrt()
    assert noise < 0.07 * large.norm()
    # Under softmax the logarithm of a sum over few texts is, on average, below that of the sum's mean.
    bias = 0.05 * large.norm() if loss == "softmax" else 0.0
    assert (small - large).norm() < 2 * noise + bias


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("target", TARGETS)
def test_a_batch_of_one_sample_of_each_class_counts_every_pair_once(target: Target, loss: Loss) -> None:
    logits, _ = batch_of(5, 3, 5, seed=8)
    label = torch.tensor([3, 0, 1, 4, 2])
    matrix = pair_logits(logits, label)
    wanted = supervision(label, 3, target, 0.2)
    if loss == "sigmoid":
        plain = binary_cross_entropy_with_logits(matrix, wanted, reduction="sum") / 15
        plain = plain / positive_weight(target, 0.2, 5, 3)
    else:
        plain = (cross_entropy(matrix, wanted / wanted.sum(1)) + cross_entropy(matrix.T, wanted / wanted.sum(1))) / 2
    torch.testing.assert_close(msm_loss(logits, label, target=target, loss=loss, alpha=0.2), plain)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("classes", "groups"), [(17, 7), (17, 1), (5, 3)])
def test_at_the_start_each_image_group_is_pulled_with_a_weight_of_one_and_pushed_as_much(
    target: Target, classes: int, groups: int
) -> None:
    label = torch.arange(classes).repeat(50)
    prior = prior_logit(target, 0.1, classes, groups)
    logits = torch.full((len(label), groups, classes, groups), prior, requires_grad=True)
    (gradient,) = torch.autograd.grad(msm_loss(logits, label, target=target, loss="sigmoid", alpha=0.1), logits)
    assert abs(gradient.sum()) < 0.01
    assert 0.7 < -gradient.clamp(max=0).sum() < 1


@pytest.mark.parametrize("batch", [4, 30, 200])
def test_softmax_of_features_that_know_nothing_is_the_logarithm_of_the_distinct_prompts(batch: int) -> None:
    label = torch.arange(batch) % 5
    value = msm_loss(torch.zeros(batch, 3, 5, 3), label, target="identity", loss="softmax")
    assert float(value) == pytest.approx(math.log(15), abs=1e-5)


def test_the_starting_bias_of_one_prompt_in_119_is_its_prior() -> None:
    assert prior_logit("identity", 0.1, 17, 7) == pytest.approx(-4.77, abs=0.01)


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
