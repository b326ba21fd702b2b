"""The group encoder beside backbones that have no branches for groups."""

import torch

from bp_lcz.bands import ALL_CHANNELS, GROUPS
from bp_lcz.model.group_encoder import GroupEncoder
from tests.model.networks import INTENSITIES_ONLY, images_of, network_of


def test_a_group_sees_its_own_channels_only() -> None:
    encoder = GroupEncoder(ALL_CHANNELS).eval()
    sen1, sen2 = images_of(batch=1)
    before = encoder(sen1, sen2)
    for position, band in enumerate(ALL_CHANNELS.names):
        changed = torch.cat([sen1, sen2], dim=1)
        changed[:, position] += 1
        after = encoder(*changed.split([8, 10], dim=1))
        touched = [group for group, moved in zip(GROUPS, (after != before).any(2)[0], strict=True) if moved]
        assert touched == [group for group, bands in GROUPS.items() if band in bands]


def test_equal_images_of_two_groups_are_told_apart() -> None:
    ones = torch.ones(1, 8, 32, 32), torch.ones(1, 10, 32, 32)
    groups = GroupEncoder(ALL_CHANNELS).eval()(*ones)[0]
    assert torch.pdist(groups).min() > 0


def test_there_is_a_feature_for_each_group_that_the_data_set_has() -> None:
    encoder = GroupEncoder(INTENSITIES_ONLY)
    assert encoder(*images_of(INTENSITIES_ONLY)).shape == (3, 6, encoder.group_width)


def test_only_prompting_without_branches_has_an_encoder() -> None:
    encoders = {
        (backbone, variant): network_of(backbone, variant).group_encoder is not None
        for backbone in ("eb_cnn", "resnet")
        for variant in ("plain", "bp-lcz")
    }
    assert [pair for pair, present in encoders.items() if present] == [("resnet", "bp-lcz")]


def test_a_plain_network_holds_a_backbone_and_a_classifier_and_nothing_else() -> None:
    network = network_of("resnet")
    parts = (network.backbone, network.classifier)
    assert len(list(network.parameters())) == sum(len(list(part.parameters())) for part in parts)
