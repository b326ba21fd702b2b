"""ExViT: the published size, and the parts on which its meaning hangs."""

import pytest
import torch

from bp_lcz.bands import ALL_CHANNELS
from bp_lcz.model.backbones.exvit import HEADS, WIDTH, Attention, Network, Options
from tests.model.networks import images_of, network_of


def test_the_plain_network_has_the_published_number_of_parameters() -> None:
    network = network_of("exvit", token_size=1)
    assert sum(parameter.numel() for parameter in network.parameters()) == 291_462


def test_fused_attention_equals_softmax_of_scaled_products() -> None:
    torch.manual_seed(0)
    attention = Attention()
    tokens = 3 * torch.randn(2, 20, WIDTH)
    width = WIDTH // HEADS
    query, key, value = attention.query_key_value(tokens).chunk(3, dim=-1)
    heads = []
    for head in range(HEADS):
        part = slice(head * width, (head + 1) * width)
        weight = (query[..., part] @ key[..., part].transpose(1, 2) / width**0.5).softmax(-1)
        heads.append(weight @ value[..., part])
    expected = attention.project(torch.cat(heads, dim=-1))
    torch.testing.assert_close(attention(tokens), expected)
    assert not torch.allclose(expected[:, 0], expected[:, 1], atol=1e-3)


def test_both_sensors_take_their_positions_from_one_table() -> None:
    torch.manual_seed(0)
    network = Network(ALL_CHANNELS, Options(token_size=8)).eval()
    seen: list[torch.Tensor] = []
    for blocks in network.apart:
        blocks.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    move = torch.randn_like(network.positions)
    network(*images_of())
    with torch.no_grad():
        network.positions += move
    network(*images_of())
    before, after = seen[:2], seen[2:]
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(other - one, move.expand_as(one))


@pytest.mark.parametrize(("token_size", "tokens"), [(1, 1024), (4, 64), (32, 1)])
def test_token_size_divides_the_patch_into_tokens(token_size: int, tokens: int) -> None:
    assert Network(ALL_CHANNELS, Options(token_size=token_size)).positions.shape == (tokens, WIDTH)


def test_a_token_holds_the_pixels_of_its_own_square() -> None:
    stem = Network(ALL_CHANNELS, Options(token_size=8)).stems[1].eval()
    image = torch.zeros(1, 10, 32, 32)
    changed = image.clone()
    changed[0, :, 12, 20] = 1  # well inside the square in row 1 and column 2
    moved = (stem(changed) - stem(image)).abs().sum(-1).flatten()
    assert moved.nonzero().flatten().tolist() == [1 * 4 + 2]


def test_scores_weigh_the_tokens() -> None:
    network = Network(ALL_CHANNELS, Options(token_size=8)).eval()
    torch.nn.init.zeros_(network.score[1].weight)
    tokens: list[torch.Tensor] = []
    network.together.register_forward_hook(lambda _, inputs, output: tokens.append(output))
    fused = network(*images_of()).fused
    torch.testing.assert_close(fused, tokens[0].mean(1))


def test_both_sensors_matter() -> None:
    network = network_of("exvit").eval()
    sen1, sen2 = images_of()
    logits = network(sen1, sen2).logits
    assert not torch.allclose(logits, network(-sen1, sen2).logits, atol=1e-4)
    assert not torch.allclose(logits, network(sen1, -sen2).logits, atol=1e-4)
