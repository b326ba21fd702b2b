"""The network: shapes, what each variant adds, and groups of reduced channel sets."""

import pytest
import torch

from bp_lcz.bands import ALL_CHANNELS, GROUPS, SEN2_BANDS, Channels
from bp_lcz.model.backbones import build_backbone, spatial_mean
from bp_lcz.model.bp_lcz import BPLCZ
from bp_lcz.model.group_stack import GroupStack
from bp_lcz.params import TrialParams, load_params
from tests.conftest import ROOT
from tests.refusals import refuses

INTENSITIES_ONLY = Channels(("VH_lee_intensity", "VV_lee_intensity"), SEN2_BANDS)


def trial(variant: str = "bp-lcz", **model: object) -> TrialParams:
    content = load_params(ROOT / "params.yaml").trial("eb_cnn-plain").model_dump() | {"variant": variant}
    content["model"] |= model
    content["backbone_options"] = {"widths": [4, 8], "fused_width": 16}
    return TrialParams.model_validate(content)


def network(channels: Channels = ALL_CHANNELS, settings: TrialParams | None = None) -> BPLCZ:
    torch.manual_seed(0)
    prompts = torch.randn(17, len(channels.groups), 12)
    width = len(channels.names)
    return BPLCZ(settings or trial(), channels, prompts, torch.zeros(width), torch.ones(width))


def images(channels: Channels, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(batch, len(channels.sen1), 32, 32, generator=generator),
        torch.randn(batch, len(channels.sen2), 32, 32, generator=generator),
    )


@pytest.mark.parametrize(("channels", "groups"), [(ALL_CHANNELS, 7), (INTENSITIES_ONLY, 6)])
def test_output_has_a_logit_for_each_class_and_a_similarity_for_each_pair(channels: Channels, groups: int) -> None:
    output = network(channels)(*images(channels))
    assert output.logits.shape == (3, 17)
    assert output.alignment is not None
    assert output.alignment.shape == (3, groups, 17, groups)


def test_a_group_without_channels_is_dropped() -> None:
    assert list(INTENSITIES_ONLY.groups) == [group for group in GROUPS if group != "PolSAR"]


def test_plain_has_no_prompting() -> None:
    plain = network(settings=trial("plain"))
    assert plain.prompting is None
    assert plain(*images(ALL_CHANNELS)).alignment is None


def test_the_encoder_is_the_network_of_bgp_and_aligns_nothing() -> None:
    encoder, bgp = network(settings=trial("encoder")), network(settings=trial("bgp"))
    assert encoder(*images(ALL_CHANNELS)).alignment is None
    assert torch.equal(encoder(*images(ALL_CHANNELS)).logits, bgp(*images(ALL_CHANNELS)).logits)
    assert encoder.state_dict().keys() == bgp.state_dict().keys()


def test_all_variants_start_from_the_same_backbone() -> None:
    states = [network(settings=trial(v)).backbone.state_dict() for v in ("plain", "bgp", "bp-lcz")]
    for other in states[1:]:
        assert all(torch.equal(states[0][name], other[name]) for name in states[0])


def test_a_branch_sees_only_the_channels_of_its_group() -> None:
    backbone = build_backbone("eb_cnn", ALL_CHANNELS, {"widths": [4, 8]}).eval()
    sen1, sen2 = images(ALL_CHANNELS, batch=1)
    before = backbone(sen1, sen2).groups
    for position, band in enumerate(ALL_CHANNELS.sen2):
        changed = sen2.clone()
        changed[:, position] += 1
        difference = (backbone(sen1, changed).groups - before).abs().sum(dim=(0, 2))
        touched = [group for group, moved in zip(GROUPS, difference > 0, strict=True) if moved]
        assert touched == [group for group, bands in GROUPS.items() if band in bands]


def test_cosine_similarities_are_cosines() -> None:
    net = network()
    output = net(*images(ALL_CHANNELS))
    assert net.prompting is not None
    assert output.alignment is not None
    cosine = net.prompting.cosine(output.alignment)
    assert cosine.abs().max() <= 1 + 1e-5
    assert cosine.std() > 0.01


def test_retrieved_text_depends_on_the_image_but_not_on_a_label() -> None:
    net = network(settings=trial(augment="text")).eval()
    first, second = images(ALL_CHANNELS), tuple(-x for x in images(ALL_CHANNELS))
    assert not torch.allclose(net(*first).logits, net(*second).logits)


def test_a_frozen_projection_of_the_texts_stays_as_it_starts() -> None:
    learnt, frozen = network().prompting, network(settings=trial(text_projection="frozen")).prompting
    assert learnt is not None
    assert frozen is not None
    assert torch.equal(learnt.project_text.weight, frozen.project_text.weight)
    assert learnt.project_text.weight.requires_grad
    assert not frozen.project_text.weight.requires_grad


def test_image_groups_among_themselves_are_compared_as_with_texts() -> None:
    net = network()
    output = net(*images(ALL_CHANNELS))
    assert net.prompting is not None
    assert output.groups is not None
    cosine = net.prompting.cosine(net.prompting.between(output.groups))
    torch.testing.assert_close(cosine[2, 3, 2, 3], torch.tensor(1.0), rtol=0, atol=1e-5)
    torch.testing.assert_close(cosine[0, 1, 2, 3], output.groups[0, 1] @ output.groups[2, 3], rtol=0, atol=1e-5)


@pytest.mark.parametrize("augment", ["none", "visual", "text", "both"])
def test_augmentation_sizes_follow_the_parameter(augment: str) -> None:
    prompting = network(settings=trial(augment=augment)).prompting
    assert prompting is not None
    widths = {"none": 0, "visual": 1, "text": 1, "both": 2}
    width = 0 if prompting.augment is None else prompting.augment.in_features
    assert width == widths[augment] * 7 * trial().model.dimension


def test_normalisation_is_inside_the_network() -> None:
    settings, width = trial("plain"), len(ALL_CHANNELS.names)
    sen1, sen2 = images(ALL_CHANNELS)
    torch.manual_seed(0)
    prompts = torch.randn(17, 7, 12)
    scaled = BPLCZ(settings, ALL_CHANNELS, prompts, torch.full((width,), 5.0), torch.full((width,), 2.0))
    plain = network(settings=settings)
    torch.testing.assert_close(plain(sen1, sen2).logits, scaled(2 * sen1 + 5, 2 * sen2 + 5).logits)


def test_an_unknown_backbone_is_named_with_the_known_ones() -> None:
    with refuses("params.yaml", "'eb_cn'", "eb_cnn"):
        build_backbone("eb_cn", ALL_CHANNELS, {})


def test_msm_alone_compares_one_feature_of_the_patch_with_the_classes() -> None:
    settings = trial("msm")
    torch.manual_seed(0)
    width = len(ALL_CHANNELS.names)
    net = BPLCZ(settings, ALL_CHANNELS, torch.randn(17, 1, 12), torch.zeros(width), torch.ones(width))
    output = net(*images(ALL_CHANNELS))
    assert output.alignment is not None
    assert output.alignment.shape == (3, 1, 17, 1)
    assert net.prompting is not None
    assert net.prompting.augment is None


@pytest.mark.parametrize("channels", [ALL_CHANNELS, INTENSITIES_ONLY])
def test_the_group_stack_holds_the_channels_of_each_group_and_zeros(channels: Channels) -> None:
    stack = GroupStack(channels)
    sen1, sen2 = images(channels)
    joint, stacked = torch.cat([sen1, sen2], dim=1), stack(sen1, sen2).unflatten(1, (stack.count, stack.width))
    assert stack(sen1, sen2).is_contiguous(memory_format=torch.channels_last)
    for group, positions in enumerate(channels.groups.values()):
        assert torch.equal(stacked[:, group, : len(positions)], joint[:, list(positions)])
        assert (stacked[:, group, len(positions) :] == 0).all()


def test_the_spatial_mean_keeps_value_and_gradient_and_gives_the_gradient_channels_last() -> None:
    values = torch.randn(3, 6, 4, 4).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(3, 6)
    means, gradients, seen = [], [], []
    for mean in (spatial_mean, lambda maps: maps.mean(dim=(2, 3))):
        leaf = values.clone().requires_grad_()
        maps = leaf * 1
        maps.register_hook(lambda gradient: seen.append(gradient.is_contiguous(memory_format=torch.channels_last)))
        means.append(mean(maps))
        (means[-1] * weight).sum().backward()
        gradients.append(leaf.grad)
    assert torch.equal(*means)
    assert torch.equal(*gradients)
    assert seen == [True, False]


def test_the_gradients_of_all_maps_of_eb_cnn_are_channels_last() -> None:
    net = network().to(memory_format=torch.channels_last)
    layouts = []

    def watch(_: torch.nn.Module, __: object, output: torch.Tensor) -> None:
        output.register_hook(lambda gradient: layouts.append(gradient.is_contiguous(memory_format=torch.channels_last)))

    for module in net.backbone.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.BatchNorm2d):
            module.register_forward_hook(watch)
    output = net(*(part.contiguous(memory_format=torch.channels_last) for part in images(ALL_CHANNELS)))
    (output.logits.sum() + output.alignment.sum()).backward()
    assert len(layouts) == 6
    assert all(layouts)
