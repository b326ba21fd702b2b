"""Every backbone in a size that a test can afford."""

from typing import Any

import torch

from bp_lcz.bands import ALL_CHANNELS, SEN2_BANDS, Channels
from bp_lcz.model.bp_lcz import BPLCZ
from bp_lcz.params import TrialParams, load_params
from tests.conftest import ROOT

SMALL: dict[str, dict[str, Any]] = {
    "convnext_v2": {"widths": [8, 16], "depths": [1, 1]},
    "eb_cnn": {"widths": [4, 8], "fused_width": 16},
    "exvit": {"token_size": 8},
    "resnet": {"widths": [8, 16], "depths": [1, 1]},
    "sen2lcz_mf": {"width": 4, "convolutions": 1},
    "swin": {"width": 16, "depths": [2, 2]},
    "vit": {"token_size": 8, "width": 16, "layers": 1, "heads": 2},
}
VARIANTS = ("plain", "bgp", "bp-lcz")
INTENSITIES_ONLY = Channels(("VH_lee_intensity", "VV_lee_intensity"), SEN2_BANDS)


def trial_of(backbone: str, variant: str = "plain", seed: int = 1, **options: Any) -> TrialParams:
    content = load_params(ROOT / "params.yaml").trial(f"eb_cnn-{variant}").model_dump()
    content |= {"backbone": backbone, "seed": seed, "backbone_options": SMALL[backbone] | options}
    content["model"]["dimension"] = 8
    return TrialParams.model_validate(content)


def network_of(
    backbone: str, variant: str = "plain", channels: Channels = ALL_CHANNELS, seed: int = 0, **options: Any
) -> BPLCZ:
    torch.manual_seed(seed)
    prompts = torch.randn(17, len(channels.groups), 12)
    width = len(channels.names)
    return BPLCZ(trial_of(backbone, variant, **options), channels, prompts, torch.zeros(width), torch.ones(width))


def images_of(channels: Channels = ALL_CHANNELS, batch: int = 3, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(batch, len(channels.sen1), 32, 32, generator=generator),
        torch.randn(batch, len(channels.sen2), 32, 32, generator=generator),
    )
