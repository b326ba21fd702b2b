"""The other side of the benchmark is the same network: it gives the same values and the same gradients."""

import pytest
import torch

from benchmarks.networks import batch_of, network_of, training_step, trial_of
from benchmarks.rows.step import alignment, dense_alignment, encoder_calls, exact_alignment, with_explicit_attention
from benchmarks.separate_branches import SeparateBranches, with_separate_branches
from bp_lcz.bands import ALL_CHANNELS, Channels
from bp_lcz.model.backbones.eb_cnn import Network
from bp_lcz.model.bp_lcz import BPLCZ
from tests.model.networks import INTENSITIES_ONLY


def loss_of(network: BPLCZ, channels: Channels) -> torch.Tensor:
    sen1, sen2, label = batch_of(6, channels)
    output = network(sen1, sen2)
    loss = torch.nn.functional.cross_entropy(output.logits, label)
    return loss if output.alignment is None else loss + (output.alignment**2).mean()


@pytest.mark.parametrize("channels", [ALL_CHANNELS, INTENSITIES_ONLY])
def test_separate_branches_give_the_same_values_and_gradients(channels: Channels) -> None:
    trial = trial_of("bp-lcz", widths=[4, 8, 8], fused_width=16)
    fused = network_of(trial, channels)
    separate = with_separate_branches(fused, channels)
    losses = [loss_of(network, channels) for network in (fused, separate)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    assert isinstance(fused.backbone, Network)
    assert isinstance(separate.backbone, SeparateBranches)
    for layer in (0, 3, 6):  # the convolutions
        groups = len(channels.groups)
        whole = fused.backbone.branches[layer].weight.grad.unflatten(0, (groups, -1))
        for group, branch in enumerate(separate.backbone.branches):
            own = branch[layer].weight.grad
            torch.testing.assert_close(whole[group][:, : own.shape[1]], own, rtol=1e-4, atol=1e-6)
            assert (whole[group][:, own.shape[1] :] == 0).all()
    for ours, theirs in zip(fused.prompting.parameters(), separate.prompting.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_separate_branches_stay_channels_first() -> None:
    separate = with_separate_branches(network_of(trial_of("bp-lcz")), ALL_CHANNELS)
    sen1, sen2, _ = batch_of(2, memory_format=torch.contiguous_format)
    seen = []
    for branch in separate.backbone.branches:
        branch.register_forward_hook(lambda _, inputs, output: seen.extend([inputs[0], output]))
    separate(sen1, sen2)
    assert len(seen) == 14
    assert all(maps.is_contiguous() for maps in seen)


def test_both_forms_of_the_alignment_give_the_same_loss_and_gradients() -> None:
    inputs = alignment(6, groups=3, classes=5)
    for ours, theirs in zip(exact_alignment(*inputs), dense_alignment(*inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_explicit_attention_gives_the_same_values() -> None:
    network = network_of(trial_of("plain", "exvit", token_size=8)).eval()
    sen1, sen2, _ = batch_of(2)
    with torch.no_grad():
        torch.testing.assert_close(network(sen1, sen2).logits, with_explicit_attention(network)(sen1, sen2).logits)


def test_calls_of_an_encoder_are_counted() -> None:
    from transformers import BertConfig, BertModel

    tiny = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8))
    assert encoder_calls(lambda: [tiny(torch.tensor([[1, 2]])) for _ in range(3)]) == 3


def test_a_training_step_calls_no_encoder() -> None:
    trial = trial_of("bp-lcz", widths=[4, 8], fused_width=16)
    assert encoder_calls(lambda: training_step(network_of(trial), trial, batch_of(4))(0)) == 0
