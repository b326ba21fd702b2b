"""Sen2LCZ-MF: the published size, its heads, and what it does not look at."""

import torch

from bp_lcz.bands import ALL_CHANNELS
from bp_lcz.model.backbones.sen2lcz_mf import Network, Options
from tests.model.networks import images_of, network_of


def test_the_default_has_as_many_values_as_the_published_weights() -> None:
    backbone = Network(ALL_CHANNELS, Options())
    modules = (backbone, backbone.classifier(17))
    values = sum(
        tensor.numel()
        for module in modules
        for name, tensor in module.state_dict().items()
        if not name.endswith("num_batches_tracked")  # a counter of torch's own
    )
    assert values == 793_348


def test_logits_are_the_log_of_probabilities() -> None:
    logits = network_of("sen2lcz_mf")(*images_of()).logits
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(3))


def test_sentinel_1_is_seen_only_on_demand() -> None:
    sen1, sen2 = images_of()
    for sensors, variant, sees in (
        ("sen2", "plain", False),
        ("sen2", "bp-lcz", False),
        ("both", "plain", True),
        ("both", "bp-lcz", True),
    ):
        network = network_of("sen2lcz_mf", variant, sensors=sensors).eval()
        logits = network(sen1, sen2).logits
        assert torch.equal(logits, network(-sen1, sen2).logits) is not sees
        assert not torch.allclose(logits, network(sen1, -sen2).logits)


def test_features_are_mean_maps_of_four_resolutions() -> None:
    backbone = Network(ALL_CHANNELS, Options(width=4, convolutions=1)).eval()
    maps: list[torch.Tensor] = []
    for block in backbone.blocks:
        block.register_forward_hook(lambda _, inputs, output: maps.append(output))
    parts = backbone(*images_of()).fused.split([8, 16, 32, 32], dim=1)
    assert [tuple(m.shape[1:]) for m in maps] == [(4, 32, 32), (8, 16, 16), (16, 8, 8), (32, 4, 4)]
    for part, block_maps in zip(parts[:3], maps[:3], strict=True):
        # The second half is the average pool, whose mean is the mean of the map.
        torch.testing.assert_close(part.chunk(2, dim=1)[1], block_maps.mean(dim=(2, 3)))
        assert (part.chunk(2, dim=1)[0] >= part.chunk(2, dim=1)[1]).all()
    torch.testing.assert_close(parts[3], maps[3].mean(dim=(2, 3)))


def test_dropout_acts_in_training_only() -> None:
    network = network_of("sen2lcz_mf", dropout=0.5)
    first, second = network(*images_of()).logits, network(*images_of()).logits
    assert not torch.equal(first, second)
    network.eval()
    assert torch.equal(network(*images_of()).logits, network(*images_of()).logits)
