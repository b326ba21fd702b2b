"""Fusion of the two sensors with one and the same network."""

import pytest
import torch

from tests.model.networks import images_of, network_of

STREAMED = ("convnext_v2", "resnet", "swin", "vit")


@pytest.mark.parametrize("fusion", ["sen1", "sen2", "early", "feature", "decision"])
@pytest.mark.parametrize("backbone", STREAMED)
def test_a_fusion_sees_the_sensors_it_names_and_no_other(backbone: str, fusion: str) -> None:
    network = network_of(backbone, fusion=fusion).eval()
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


@pytest.mark.parametrize("fusion", ["early", "feature", "decision", "sen1", "sen2"])
def test_every_fusion_works_with_prompting(fusion: str) -> None:
    output = network_of("resnet", "bp-lcz", fusion=fusion)(*images_of())
    assert output.logits.shape == (3, 17)
    assert output.alignment is not None
    assert output.alignment.shape == (3, 7, 17, 7)
