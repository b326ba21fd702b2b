"""Networks and training steps for the benchmark, built from the package with the committed parameters."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from bp_lcz.bands import ALL_CHANNELS, PATCH_SIDE, Channels
from bp_lcz.model.bp_lcz import BPLCZ
from bp_lcz.model.task import LczTask
from bp_lcz.params import TrialParams, load_params
from bp_lcz.patches.store import Batch
from bp_lcz.scheme import CLASS_COUNT

PARAMS = Path(__file__).parents[1] / "params.yaml"
TEXT_WIDTH = 384
"""Width of the vectors of the packaged text encoder."""


def trial_of(variant: str, backbone: str = "eb_cnn", **options: Any) -> TrialParams:
    """A trial with the committed parameters, and some options of the backbone changed."""
    params = load_params(PARAMS)
    changed = {"backbone": backbone, "backbone_options": params.backbones.get(backbone, {}) | options}
    return TrialParams.model_validate(params.trial(f"eb_cnn-{variant}").model_dump() | changed)


def network_of(trial: TrialParams, channels: Channels = ALL_CHANNELS) -> BPLCZ:
    """The trial's network, as training makes it, on random prompts."""
    torch.manual_seed(0)
    groups = 1 if trial.variant == "msm" else len(channels.groups)  # classes only, or class and group
    prompts = torch.nn.functional.normalize(torch.randn(CLASS_COUNT, groups, TEXT_WIDTH), dim=-1)
    width = len(channels.names)
    network = BPLCZ(trial, channels, prompts, torch.zeros(width), torch.ones(width))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class NoiseStore:
    """`PatchStore` of any number of patches: noise around a spectrum of each class, which takes as long as images do.

    Args:
        count: patches.
        device: where they are made.
        seed: of the noise.
    """

    channels = ALL_CHANNELS

    def __init__(self, count: int, device: torch.device, seed: int = 1) -> None:
        self._count, self._device, self._seed = count, device, seed
        spectra = torch.randn(CLASS_COUNT, len(self.channels.names), generator=torch.Generator().manual_seed(0))
        self._spectra = spectra.to(device)

    def __len__(self) -> int:
        """Number of patches."""
        return self._count

    def gather(self, indices: Int64[np.ndarray, " batch"]) -> Batch:
        """The patches at these positions; see `PatchStore.gather`. Equal indices in another batch give other noise."""
        generator = torch.Generator(self._device).manual_seed(self._seed * self._count + int(indices[0]))
        label = torch.from_numpy(indices % CLASS_COUNT).to(self._device)
        shape = (len(indices), PATCH_SIDE, PATCH_SIDE, len(self.channels.names))
        images = torch.randn(shape, generator=generator, device=self._device) + self._spectra[label][:, None, None]
        sen1, sen2 = images.tensor_split([len(self.channels.sen1)], dim=3)
        return sen1.contiguous().permute(0, 3, 1, 2), sen2.contiguous().permute(0, 3, 1, 2), label


def batch_of(
    size: int,
    channels: Channels = ALL_CHANNELS,
    side: int = PATCH_SIDE,
    memory_format: torch.memory_format = torch.channels_last,
    device: str = "cpu",
) -> Batch:
    """A batch of noise, which takes as long as patches do."""
    generator = torch.Generator().manual_seed(1)

    def images(count: int) -> Tensor:
        values = torch.randn(size, count, side, side, generator=generator)
        return values.to(device).contiguous(memory_format=memory_format)

    label = torch.randint(CLASS_COUNT, (size,), generator=generator)
    return images(len(channels.sen1)), images(len(channels.sen2)), label.to(device)


def training_step(
    network: BPLCZ, trial: TrialParams, batch: Batch, precision: str = "32-true"
) -> Callable[[int], Tensor]:
    """One training step, always on the same batch in memory; otherwise like `step_over`."""
    return step_over(lambda: batch, batch[0].device.type, network, trial, precision)


def step_over(
    next_batch: Callable[[], Batch], device: str, network: BPLCZ, trial: TrialParams, precision: str
) -> Callable[[int], Tensor]:
    """One training step: batch, augmentation, both losses, gradient, optimiser.

    Returns:
        The step, to be called with its number; it gives the loss.
    """
    task = LczTask(network, trial, torch.ones(CLASS_COUNT), steps=1).to(device)
    optimizer = task.configure_optimizers()["optimizer"]

    def step(number: int) -> Tensor:
        batch = next_batch()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = task.training_step(batch, number)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step
