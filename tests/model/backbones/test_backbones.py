"""What holds for every backbone, alone and inside band group prompting."""

import pkgutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from bp_lcz.bands import ALL_CHANNELS, SEN1_BANDS, SEN2_BANDS, Channels
from bp_lcz.model import backbones
from bp_lcz.model.backbones import build_backbone
from bp_lcz.model.checkpoint import BATCH, Classifier, load_classifier, write_checkpoint
from bp_lcz.params import load_params
from bp_lcz.patches.transform import transform
from tests.conftest import ROOT
from tests.model.networks import INTENSITIES_ONLY, SMALL, VARIANTS, images_of, network_of, trial_of
from tests.records import described
from tests.refusals import refuses
from tests.so2sat.patches import random_patches

BACKBONES = sorted(SMALL)

# What all tokens share moves every score alike, and a softmax over the scores does not see it.
INVISIBLE_TO_SOFTMAX = {
    "exvit": ("score.0.bias", "score.1.bias"),
    "vit": ("k_proj.bias",),
    "swin": ("k_proj.bias",),
}


def test_every_backbone_is_tested_here() -> None:
    assert sorted(module.name for module in pkgutil.iter_modules(backbones.__path__)) == BACKBONES


@pytest.mark.parametrize("backbone", BACKBONES)
def test_params_yaml_has_a_section_that_the_backbone_accepts(backbone: str) -> None:
    build_backbone(backbone, ALL_CHANNELS, load_params(ROOT / "params.yaml").backbones[backbone])


@pytest.mark.parametrize("channels", [ALL_CHANNELS, INTENSITIES_ONLY], ids=["all", "intensities"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_output_has_a_logit_for_each_class_and_a_similarity_for_each_pair(
    backbone: str, variant: str, channels: Channels
) -> None:
    network = network_of(backbone, variant, channels)
    output = network(*images_of(channels))
    assert output.logits.shape == (3, 17)
    assert torch.isfinite(output.logits).all()
    if variant == "plain":
        assert output.alignment is None
    else:
        groups = 4 if backbone == "sen2lcz_mf" else len(channels.groups)
        assert len(network.groups) == groups
        assert output.alignment is not None
        assert output.alignment.shape == (3, groups, 17, groups)


@pytest.mark.parametrize("variant", ["plain", "bp-lcz"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_gradient_reaches_every_parameter(backbone: str, variant: str) -> None:
    # In evaluation mode, since batch statistics would cancel the bias of the convolution before them.
    network = network_of(backbone, variant).eval()
    output = network(*images_of())
    loss = output.logits.square().sum()
    if output.alignment is not None:
        loss = loss + output.alignment.square().sum()
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        if not name.endswith(INVISIBLE_TO_SOFTMAX.get(backbone, ())):
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("backbone", BACKBONES)
def test_features_have_the_widths_that_the_backbone_states(backbone: str) -> None:
    network = build_backbone(backbone, ALL_CHANNELS, SMALL[backbone])
    features = network(*images_of())
    assert features.fused.shape == (3, network.fused_width)
    if network.group_width is None:
        assert features.groups is None
    else:
        assert features.groups is not None
        assert features.groups.shape == (3, 7, network.group_width)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_equal_seeds_give_equal_weights_and_others_do_not(backbone: str) -> None:
    first, again, other = (network_of(backbone, seed=seed).backbone.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_all_variants_start_from_the_same_backbone(backbone: str) -> None:
    states = [network_of(backbone, variant).backbone.state_dict() for variant in VARIANTS]
    for other in states[1:]:
        assert all(torch.equal(states[0][name], other[name]) for name in states[0])


@pytest.mark.parametrize("variant", ["plain", "bp-lcz"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_checkpoint_gives_back_the_network(backbone: str, variant: str, tmp_path: Path) -> None:
    network = network_of(backbone, variant).eval()
    write_checkpoint(tmp_path, network, described(trial_of(backbone, variant)))
    sen1, sen2, _ = random_patches(4)
    images = torch.from_numpy(transform(sen1, sen2, ALL_CHANNELS)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = network(*images.split([8, 10], dim=1)).logits.softmax(1)
    probability = load_classifier(tmp_path).predict_proba(sen1, sen2)
    np.testing.assert_allclose(probability, expected.numpy(), atol=1e-6)
    assert np.ptp(probability, axis=0).max() > 1e-6


@pytest.mark.parametrize("backbone", ["eb_cnn", "sen2lcz_mf", "vit"])
def test_the_same_place_in_a_batch_gives_the_same_bits(backbone: str) -> None:
    classifier = Classifier(network_of(backbone).eval(), ALL_CHANNELS, described(trial_of(backbone)), "cpu")
    images = torch.from_numpy(transform(*random_patches(BATCH + 70)[:2], ALL_CHANNELS))
    together, _ = classifier.classify_alike(images)
    for part in (slice(0, 1), slice(0, 40), slice(BATCH, BATCH + 7)):
        assert classifier.classify_alike(images[part])[0].tobytes() == together[part].tobytes()
    elsewhere, _ = classifier.classify_alike(torch.cat([images[:20], images[:1].expand(BATCH - 20, -1, -1, -1)]))
    assert elsewhere[:20].tobytes() == together[:20].tobytes()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_an_unknown_option_is_named_with_the_known_ones(backbone: str) -> None:
    with refuses("params.yaml", f"backbones.{backbone}.colour: unknown key", *SMALL[backbone]):
        build_backbone(backbone, ALL_CHANNELS, {"colour": 3})


@pytest.mark.parametrize(
    ("key", "options", "facts"),
    [
        ("exvit.token_size", {"token_size": 3}, [1, 2, 4, 8, 16, 32]),
        ("vit.token_size", {"token_size": 5}, [2, 4, 8, 16]),
        ("vit", {"width": 90}, ["4 heads", "width 90"]),
        ("swin", {"width": 24}, ["head_width 16", "width 24"]),
        ("resnet", {"depths": [1]}, ["3 widths", "1 depths"]),
        ("convnext_v2", {"widths": [8]}, ["1 widths", "3 depths"]),
        ("resnet.fusion", {"fusion": "late"}, ["'early'", "'feature'"]),
        ("sen2lcz_mf.sensors", {"sensors": "sen1"}, ["'sen2'", "'both'"]),
        ("sen2lcz_mf.dropout", {"dropout": 1.0}, [1]),
        ("sen2lcz_mf.dropout", {"dropout": "2e-1"}, ["number"]),  # what YAML makes of 2e-1
    ],
)
def test_an_option_out_of_range_is_named(key: str, options: dict[str, object], facts: list[object]) -> None:
    with refuses("params.yaml", f"backbones.{key}", *facts):
        build_backbone(key.partition(".")[0], ALL_CHANNELS, options)


@pytest.mark.parametrize(
    ("key", "options", "has", "needed"),
    [
        ("exvit", {}, Channels((), SEN2_BANDS), "sen1"),
        ("sen2lcz_mf.sensors: sen2", {}, Channels(SEN1_BANDS, ()), "sen2"),
        ("sen2lcz_mf.sensors: both", {"sensors": "both"}, Channels((), SEN2_BANDS), "sen1"),
        ("resnet.fusion: sen1", {"fusion": "sen1"}, Channels((), SEN2_BANDS), "sen1"),
        ("vit.fusion: sen2", {"fusion": "sen2"}, Channels(SEN1_BANDS, ()), "sen2"),
        ("swin.fusion: early", {"fusion": "early"}, Channels(SEN1_BANDS, ()), "sen2"),
    ],
)
def test_a_sensor_that_the_data_set_lacks_is_named(
    key: str, options: dict[str, object], has: Channels, needed: str
) -> None:
    backbone = key.partition(".")[0]
    with refuses("params.yaml", f"backbones.{key}: needs {needed}"):
        build_backbone(backbone, has, SMALL[backbone] | options)


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Adds a backbone `tiny` with this text."""

    def write(text: str) -> None:
        (tmp_path / "tiny.py").write_text(text)

    monkeypatch.setattr(backbones, "__path__", [*backbones.__path__, str(tmp_path)])
    monkeypatch.setattr(backbones, "backbone_names", lambda: ["tiny"])
    monkeypatch.setitem(SMALL, "tiny", {"width": 4})
    yield write
    sys.modules.pop(f"{backbones.__name__}.tiny", None)


@pytest.fixture(scope="module")
def example() -> str:
    """The backbone in docs/backbone.md."""
    return (ROOT / "docs" / "backbone.md").read_text().partition("```python\n")[2].partition("```")[0]


def test_the_example_of_the_documentation_is_a_backbone(
    add: Callable[[str], None], example: str, tmp_path: Path
) -> None:
    add(example)
    test_features_have_the_widths_that_the_backbone_states("tiny")
    for variant in ("plain", "bp-lcz"):
        test_gradient_reaches_every_parameter("tiny", variant)
    test_a_checkpoint_gives_back_the_network("tiny", "bp-lcz", tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ("class Options(BaseModel)", "class Knobs(BaseModel)", "class Options"),
        ("class Network(Backbone)", "class Tiny(Backbone)", "class Network"),
        ("class Network(Backbone)", "class Network(nn.Module)", "class Network"),
        ("self.fused_width, self.group_width = options.width, None", "self.fused_width = options.width", "group_width"),
        (
            "self.fused_width, self.group_width = options.width, None",
            "self.fused_width = self.group_width = 16",
            "groups",
        ),
        ("spatial_mean(maps)", "maps", "(2, 16, 7, 7)"),
        ("spatial_mean(maps)", "spatial_mean(maps).mean(0, keepdim=True)", "(1, 16)"),
        ("Features(spatial_mean(maps), None)", "spatial_mean(maps)", "Tensor"),
        ("len(channels.names)", "3", "line 24"),
        ("super().__init__()", "pass", "line 20"),
        ("import torch\n", "import torhc\n", "torhc"),
        ("def forward(self, sen1, sen2):", "def forward(self, sen1, sen2)", "SyntaxError"),
        ("def forward(", "def backward(", "forward"),
    ],
)
def test_what_a_backbone_lacks_is_named(
    add: Callable[[str], None], example: str, tmp_path: Path, old: str, new: str, missing: str
) -> None:
    assert old in example
    add(example.replace(old, new))
    with refuses(tmp_path / "tiny.py", missing):
        build_backbone("tiny", ALL_CHANNELS, {})
