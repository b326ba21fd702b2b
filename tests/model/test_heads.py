"""Averaged heads, against the plain form."""

import torch

from bp_lcz.model.heads import AveragedHeads


def test_softmax_of_the_logits_is_the_mean_of_the_heads_probabilities() -> None:
    torch.manual_seed(0)
    classifier = AveragedHeads([3, 5], 17)
    feature = torch.randn(6, 8)
    plain = [
        torch.softmax(classifier.heads[0](feature[:, :3]), dim=1),
        torch.softmax(classifier.heads[1](feature[:, 3:]), dim=1),
    ]
    torch.testing.assert_close(classifier(feature).softmax(1), sum(plain) / 2)
    torch.testing.assert_close(classifier(feature).exp(), sum(plain) / 2)


def test_a_class_that_all_heads_rule_out_keeps_a_finite_logit_and_gradient() -> None:
    classifier = AveragedHeads([2, 2], 3)
    feature = torch.full((1, 4), 1e3, requires_grad=True)
    logits = classifier(feature)
    logits.sum().backward()
    assert torch.isfinite(logits).all()
    assert torch.isfinite(feature.grad).all()


def test_logits_are_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert AveragedHeads([2, 2], 3)(torch.randn(4, 4)).dtype == torch.float32
