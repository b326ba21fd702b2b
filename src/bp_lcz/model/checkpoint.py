"""A trained trial on disk: safetensors and JSON, nothing that could be executed."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

import bp_lcz
from bp_lcz.bands import PATCH_SIDE, Channels
from bp_lcz.errors import UserError, one_line
from bp_lcz.files import file_sha256
from bp_lcz.model.bp_lcz import BPLCZ, Output
from bp_lcz.params import NetworkParams
from bp_lcz.patches.likeness import unlike
from bp_lcz.patches.transform import first_not_finite, transform
from bp_lcz.records import Checkpoint, Likeness
from bp_lcz.scheme import CLASS_COUNT

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
BATCH = 256
LARGEST_OPTION = 4096
"""Largest width, depth or number of heads of a network that another party made."""


Classified = tuple[Float[np.ndarray, "patch 17"], Bool[np.ndarray, " patch"]]
"""Class probabilities of patches, and whether they are unlike the training data."""


@dataclass(frozen=True)
class Classifier:
    """A trained network that takes patches as So2Sat stores them.

    Attributes:
        network: in evaluation mode.
        channels: what the arrays must hold.
        description: content of ``model.json``.
        device: where the network runs.
    """

    network: BPLCZ
    channels: Channels
    description: Checkpoint
    device: str

    def probabilities(self, output: Output) -> Float[Tensor, "patch 17"]:
        """Calibrated ones, as far as the model knows how: logits divided by its temperature."""
        calibration = self.description.calibration
        return (output.logits.float() / (calibration.temperature if calibration else 1.0)).softmax(1)

    def predict_proba(
        self,
        sen1: np.ndarray,
        sen2: np.ndarray,
        first: int = 0,
    ) -> Float[np.ndarray, "patch 17"]:
        """The probabilities of `classify`."""
        return self.classify(sen1, sen2, first)[0]

    def classify(self, sen1: np.ndarray, sen2: np.ndarray, first: int = 0) -> Classified:
        """Class probabilities of raw patches, and whether patches are unlike the training data.

        Args:
            sen1: (N, 32, 32, C1) linear Sentinel-1 channels in the order of ``channels.sen1``, any float type;
                (N, 32, 32, 0) for a network of Sentinel-2 alone.
            sen2: (N, 32, 32, C2) reflectance in the order of ``channels.sen2``.
            first: number of the first patch in messages, for a part of more.

        Returns:
            float32; each row sums to 1. Whether a patch is unlike: never, where the model does not know.

        Raises:
            UserError: for another shape, another number of patches, values that are not finite as float32, or values
                so far out of range that the network gives no probabilities.
        """
        for key, images, bands in (("sen1", sen1, self.channels.sen1), ("sen2", sen2, self.channels.sen2)):
            expected = (PATCH_SIDE, PATCH_SIDE, len(bands))
            if images.ndim != 4 or images.shape[1:] != expected:
                raise UserError(key, f"shape {images.shape}; expected (N, {', '.join(map(str, expected))})")
            if (patch := first_not_finite(images)) is not None:
                raise UserError(key, f"patch {first + patch} has values that are not finite")
        if len(sen1) != len(sen2):
            raise UserError("sen1", f"has {len(sen1)} patches, sen2 {len(sen2)}")
        parts = [slice(start, start + BATCH) for start in range(0, len(sen1), BATCH)]
        batches = (torch.from_numpy(transform(sen1[part], sen2[part], self.channels)) for part in parts)
        return self._classified(batches, first)

    def classify_alike(
        self, images: Float[Tensor, "patch 32 32 channel"], first: int = 0, *, are_standardised: bool = False
    ) -> Classified:
        """Class probabilities of transformed patches in batches of one size, and whether patches are unlike.

        In which order a library adds up depends on the size of a batch, and with some networks on the place in it. So
        the last batch is filled up with copies of its first patch: the same place in a batch gives the same bits,
        whatever patches come with it, and however few.

        Args:
            images: finite, Sentinel-1 channels first, as `transform` gives them; on any device.
            first: number of the first patch in messages.
            are_standardised: `BPLCZ.standardise` has seen them: ten times fewer pixels where patches overlap.

        Raises:
            UserError: for values so far out of range that the network gives no probabilities.
        """
        batches = (_filled(images[start : start + BATCH]) for start in range(0, len(images), BATCH))
        probability, is_unlike = self._classified(batches, first, are_standardised=are_standardised)
        return probability[: len(images)], is_unlike[: len(images)]

    def _classified(self, batches: Iterable[Tensor], first: int, *, are_standardised: bool = False) -> Classified:
        found, strange = [np.empty((0, CLASS_COUNT), np.float32)], [np.empty(0, bool)]
        likeness = self.description.likeness
        for batch in batches:
            images = batch.to(self.device)
            images = images if are_standardised else self.network.standardise(images)
            with self._averages(images) as averages:
                found.append(self.probabilities(self._output(images)).cpu().numpy())
            if likeness is None:
                strange.append(np.zeros(len(batch), bool))
            else:
                strange.append(unlike(likeness, torch.cat(averages, 1).double().cpu().numpy()))
        probability, is_unlike = np.concatenate(found), np.concatenate(strange)
        if (patch := first_not_finite(probability)) is not None:
            raise UserError(
                f"patch {first + patch}", "values so far out of range that the network gives no probabilities"
            )
        return probability, is_unlike

    @contextmanager
    def _averages(self, standardised: Float[Tensor, "patch 32 32 channel"]) -> Iterator[list[Tensor]]:
        """Averages over each patch of the layers that the likeness compares. They are filled when the network runs."""
        likeness, network = self.description.likeness, self.network
        layers = likeness.layers if likeness else ()
        found = [] if layers or likeness is None else [standardised.mean((1, 2)) * network.std + network.mean]
        hooks = [
            network.get_submodule(layer).register_forward_pre_hook(
                lambda _, inputs: found.append(inputs[0].mean((2, 3)))
            )
            for layer in layers
        ]
        try:
            yield found
        finally:
            for hook in hooks:
                hook.remove()

    @torch.inference_mode()
    def run(self, images: Float[Tensor, "patch 32 32 channel"]) -> Output:
        """Output of the network for transformed patches, Sentinel-1 channels first."""
        return self._output(self.network.standardise(images.to(self.device)))

    @torch.inference_mode()
    def _output(self, standardised: Float[Tensor, "patch 32 32 channel"]) -> Output:
        sensors = standardised.permute(0, 3, 1, 2).split([len(self.channels.sen1), len(self.channels.sen2)], dim=1)
        return self.network.of_standardised(*sensors)


def _filled(images: Tensor) -> Tensor:
    missing = BATCH - len(images)
    return torch.cat([images, images[:1].expand(missing, -1, -1, -1)]) if missing else images


def write_checkpoint(folder: Path, network: BPLCZ, description: Checkpoint) -> None:
    """Write a trained network; equal weights and descriptions give equal bytes."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    weights = save(tensors)
    (folder / WEIGHTS).write_bytes(weights)
    digest = hashlib.sha256(weights).hexdigest()
    description.model_copy(update={"weights_sha256": digest}).write(folder / DESCRIPTION)


def versions(device: str = "cpu") -> dict[str, str]:
    """Versions of the packages that compute a network; on a GPU also PyTorch's build, such as ``2.9.0+cu130``.

    On a CPU the builds give equal results.
    """
    build = str(torch.__version__)
    release, _, _ = build.partition("+")
    return {"bp_lcz": bp_lcz.__version__, "torch": release if device == "cpu" else build, "numpy": np.__version__}


def load_classifier(folder: Path, device: str = "cpu") -> Classifier:
    """Load a trained trial; nothing in it is executed.

    Raises:
        UserError: if a file is missing, damaged, of another format, or does not fit the network it describes.
    """
    description_file, weights_file = folder / DESCRIPTION, folder / WEIGHTS
    form = Checkpoint.read(description_file)
    channels = form.channels
    _check_sizes({"backbone_options": form.backbone_options, "model": form.model and form.model.model_dump()}, folder)
    if not weights_file.is_file():
        raise UserError(weights_file, f"not found; a checkpoint is {DESCRIPTION} and {WEIGHTS} in one folder")
    if file_sha256(weights_file) != form.weights_sha256:
        raise UserError(weights_file, f"not a readable checkpoint (its sha256 is not the one in {DESCRIPTION})")
    try:
        with safe_open(weights_file, "pt") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
        text_width = shapes.get("prompting.prompts", (0,))[-1]
        # First without memory: a description may demand more of it than its weights have.
        with torch.device("meta"):
            described = empty_network(form, channels, text_width).state_dict()
        for key in sorted(described.keys() | shapes.keys()):
            wanted, found = list(described[key].shape) if key in described else None, shapes.get(key)
            if wanted != found:
                raise RuntimeError(f"size mismatch for {key}: {found}; {DESCRIPTION} describes {wanted}")
        network = empty_network(form, channels, text_width)
        network.load_state_dict(load_file(weights_file, device="cpu"))
    except UserError as error:  # of the backbone, which takes its options for those of params.yaml
        raise UserError(description_file, error.what) from None
    except (SafetensorError, RuntimeError, OSError, ValueError, IndexError) as error:
        reason = one_line(error)
        raise UserError(weights_file, f"not a readable checkpoint ({reason})") from None
    if not _fits(form.likeness, network, len(channels.names)):
        raise UserError(description_file, "its likeness is not that of its network")
    network.eval().requires_grad_(False).to(device)
    return Classifier(network, channels, form, device)


def empty_network(form: NetworkParams, channels: Channels, text_width: int) -> BPLCZ:
    """A network of this form whose prompts have this width, with whatever values."""
    prompts = torch.empty(CLASS_COUNT, 1 if form.variant == "msm" else len(channels.groups), text_width)
    unknown = torch.empty(len(channels.names))
    return BPLCZ(form, channels, prompts, unknown, unknown.clone())


def _fits(likeness: Likeness | None, network: BPLCZ, channel_count: int) -> bool:
    if likeness is None:
        return True
    if not likeness.layers:
        return len(likeness.centre) == channel_count
    norms = {name: part for name, part in network.named_modules() if isinstance(part, torch.nn.BatchNorm2d)}
    return set(likeness.layers) <= norms.keys() and len(likeness.centre) == sum(
        norms[layer].num_features for layer in likeness.layers
    )


def _check_sizes(options: Any, folder: Path) -> None:
    """Refuse numbers that no network of this project has: a million layers would take for ever to build."""
    if isinstance(options, dict):
        options = list(options.values())
    if isinstance(options, list | tuple):
        if len(options) > LARGEST_OPTION:
            raise UserError(folder / DESCRIPTION, f"{len(options)} options")
        for option in options:
            _check_sizes(option, folder)
    elif isinstance(options, int | float) and not abs(options) <= LARGEST_OPTION:
        raise UserError(folder / DESCRIPTION, f"an option is {options}; none may be larger than {LARGEST_OPTION}")
