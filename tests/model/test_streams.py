"""Fusion of the two sensors with one and the same network."""

import pytest
import torch

from bp_lcz.bands import GROUPS
from tests.model.networks import images_of, network_of

STREAMED = ("convnext_v2", "resnet", "swin", "vit")


@pytest.mark.parametrize("variant", ["plain", "bp-lcz"])
@pytest.mark.parametrize("fusion", ["sen1", "sen2", "early", "feature", "decision"])
@pytest.mark.parametrize("backbone", STREAMED)
def test_a_fusion_sees_the_sensors_it_names_and_no_other(backbone: str, fusion: str, variant: str) -> None:
    network = network_of(backbone, variant, fusion=fusion).eval()
    sen1, sen2 = images_of()
    logits = network(sen1, sen2).logits
    sees_sen1 = not torch.equal(logits, network(-sen1, sen2).logits)
    sees_sen2 = not torch.equal(logits, network(sen1, -sen2).logits)
    assert (sees_sen1, sees_sen2) == (fusion != "sen2", fusion != "sen1")


@pytest.mark.parametrize("backbone", STREAMED)
def test_decision_fusion_is_the_mean_of_the_sensors_probabilities(backbone: str) -> None:
    both = network_of(backbone, fusion="decision").eval()
    images = images_of()
    probabilities = []
    for number, sensor in enumerate(("sen1", "sen2")):
        alone = network_of(backbone, fusion=sensor).eval()
        stream = {
            name: value for name, value in both.backbone.state_dict().items() if name.startswith(f"streams.{sensor}.")
        }
        alone.backbone.load_state_dict(stream)
        alone.classifier.load_state_dict(both.classifier.heads[number].state_dict())
        probabilities.append(alone(*images).logits.softmax(1))
    torch.testing.assert_close(both(*images).logits.softmax(1), torch.stack(probabilities).mean(0))
    assert not torch.allclose(probabilities[0], probabilities[1], atol=1e-4)


@pytest.mark.parametrize("backbone", STREAMED)
def test_feature_fusion_concatenates_the_features_of_the_sensors(backbone: str) -> None:
    both = network_of(backbone, fusion="feature").eval().backbone
    sen1, sen2 = images_of()
    first, second = both(sen1, sen2).fused.chunk(2, dim=1)
    moved = both(-sen1, sen2).fused.chunk(2, dim=1)
    assert torch.equal(second, moved[1])
    assert not torch.equal(first, moved[0])


@pytest.mark.parametrize("backbone", STREAMED)
def test_a_single_sensor_has_no_weights_for_the_other(backbone: str) -> None:
    counts = {
        fusion: sum(p.numel() for p in network_of(backbone, fusion=fusion).backbone.parameters())
        for fusion in ("sen1", "sen2", "feature", "decision")
    }
    assert counts["sen1"] + counts["sen2"] == counts["feature"] == counts["decision"]


@pytest.mark.parametrize(
    ("fusion", "groups"),
    [("early", 7), ("feature", 7), ("decision", 7), ("sen1", 3), ("sen2", 4)],
)
def test_prompting_keeps_to_the_groups_of_the_sensors_in_use(fusion: str, groups: int) -> None:
    network = network_of("resnet", "bp-lcz", fusion=fusion)
    output = network(*images_of())
    assert output.alignment is not None
    assert output.alignment.shape == (3, groups, 17, groups)
    assert network.groups == {3: list(GROUPS)[:3], 4: list(GROUPS)[3:], 7: list(GROUPS)}[groups]


def test_prompts_of_the_groups_in_use_are_those_of_the_table() -> None:
    both, alone = (network_of("resnet", "bp-lcz", fusion=fusion).prompting for fusion in ("early", "sen2"))
    assert both is not None
    assert alone is not None
    assert torch.equal(both.prompts[:, 3:], alone.prompts)
