"""The published Keras weights of Sen2LCZ-MF as a checkpoint of this project.

Only arrays are read from the HDF5 file: no Keras, no model configuration, nothing that could be executed.
"""

import hashlib
from pathlib import Path
from typing import cast

import h5py
import numpy as np
import torch
from torch import nn

from bp_lcz.bands import SEN2_BANDS, Channels
from bp_lcz.errors import UserError, one_line
from bp_lcz.files import staged_folder
from bp_lcz.model.backbones.sen2lcz_mf import BLOCKS, Options
from bp_lcz.model.bp_lcz import BPLCZ
from bp_lcz.model.checkpoint import versions, write_checkpoint
from bp_lcz.params import NetworkParams
from bp_lcz.records import Checkpoint, Likeness
from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.so2sat import published
from bp_lcz.so2sat.hdf5 import opened

CHANNELS = Channels((), SEN2_BANDS)
"""What the published network sees."""

PUBLISHED_SHA256 = "2ca98e4adb7d67cc0f69e8168826b763eb7df8cb6ca508689fa34c171e2e8b2a"
"""SHA-256 of ``sen2lcz_drop_32_weights.best.hdf5``."""

PUBLISHED = (
    "published weights of Sen2LCZ-MF, Qiu et al. 2020, trained on So2Sat LCZ42; "
    "https://github.com/ChunpingQiu/benchmark-on-So2SatLCZ42-dataset-a-simple-tour; "
    "MIT licence, Copyright (c) 2021 ChunpingQiu"
)

HEADS = ("dense_1", "dense_2", "dense_5", "dense_4")
"""Keras names of the heads at 32, 16, 8 and 4 pixels a side."""

LIMIT = 0.66
"""Largest distance of a patch that counts as like the training data. 95 % of the simulated patches are nearer, since
So2Sat itself is not at hand. Real scenes: docs/adr/0021-unlike-the-training-data.md."""

Layout = dict[str, tuple[str, tuple[int, ...]]]


def convert_sen2lcz(weights: Path, out: Path) -> Path:
    """Write a checkpoint folder with the weights of a Keras file of Sen2LCZ-MF.

    Args:
        weights: HDF5 file as Keras 2 writes it with ``save_weights``.
        out: folder to make, readable with ``load_classifier``. The network takes all ten Sentinel-2 channels and
            no Sentinel-1 channel, so its ``predict_proba`` wants sen1 of shape (N, 32, 32, 0).

    Returns:
        The folder.

    Raises:
        UserError: if the file is missing, is not HDF5, or lacks, adds or misshapes a layer; or if ``out`` exists.
    """
    if out.exists():
        raise UserError(out, "exists already; remove it or choose another folder")
    width = len(CHANNELS.names)
    form = NetworkParams(backbone="sen2lcz_mf", variant="plain", model=None, backbone_options=Options().model_dump())
    # Reflectance goes in as it is stored: nothing to centre or to scale.
    network = BPLCZ(form, CHANNELS, torch.empty(CLASS_COUNT, 0, 0), torch.zeros(width), torch.ones(width))
    network.load_state_dict(network.state_dict() | _read(weights, network))
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    origin = PUBLISHED if digest == PUBLISHED_SHA256 else "not the published file: origin and licence unknown"
    description = Checkpoint(
        **dict(form),
        trial="sen2lcz_mf-imported",
        channels=CHANNELS,
        level=published.PUBLISHED.level,
        likeness=_likeness(network),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        source=f"{origin}; imported from {weights.name}, sha256 {digest}",
        versions=versions(),
    )
    with staged_folder(out) as folder:
        write_checkpoint(folder, network, description)
    return out


def _likeness(network: BPLCZ) -> Likeness:
    """Statistics of the training data that the network holds: mean and variance in its first batch normalisation.

    Mean and variance of So2Sat's bands are published. Their covariance is not, and without it a wrong offset is
    not seen.
    """
    layers = tuple(f"backbone.blocks.0.{3 * layer + 1}" for layer in range(Options().convolutions))
    norms = [cast(nn.BatchNorm2d, network.get_submodule(layer)) for layer in layers]
    mean, variance = (torch.cat([getattr(norm, f"running_{name}") for norm in norms]) for name in ("mean", "var"))
    scale = (variance.clamp(min=0) + norms[0].eps).sqrt()
    return Likeness(layers=layers, centre=tuple(mean.tolist()), scale=tuple(scale.tolist()), mixing=None, limit=LIMIT)


def _layout() -> Layout:
    """For each tensor of the network the array in the file, and the order of its axes in torch."""
    layout: Layout = {}
    for index in range(BLOCKS * Options().convolutions):
        block, layer = divmod(index, Options().convolutions)
        position = f"backbone.blocks.{block}"
        convolution, norm = f"conv2d_{index + 1}", f"batch_normalization_{index + 1}"
        layout[f"{position}.{3 * layer}.weight"] = f"{convolution}/{convolution}/kernel:0", (3, 2, 0, 1)
        layout[f"{position}.{3 * layer}.bias"] = f"{convolution}/{convolution}/bias:0", (0,)
        for name, array in (
            ("weight", "gamma"),
            ("bias", "beta"),
            ("running_mean", "moving_mean"),
            ("running_var", "moving_variance"),
        ):
            layout[f"{position}.{3 * layer + 1}.{name}"] = f"{norm}/{norm}/{array}:0", (0,)
    for index, head in enumerate(HEADS):
        layout[f"classifier.heads.{index}.weight"] = f"{head}/{head}/kernel:0", (1, 0)
        layout[f"classifier.heads.{index}.bias"] = f"{head}/{head}/bias:0", (0,)
    return layout


def _read(file: Path, network: BPLCZ) -> dict[str, torch.Tensor]:
    arrays = _arrays(file)
    layout = _layout()
    unknown = sorted(arrays.keys() - {key for key, _ in layout.values()})
    if unknown:
        raise UserError(file, f"holds {unknown[0]}, which Sen2LCZ-MF does not have")
    state = network.state_dict()
    tensors = {}
    for name, (key, axes) in layout.items():
        if key not in arrays:
            raise UserError(file, f"lacks {key}; expected the Keras weights of Sen2LCZ-MF")
        array = arrays[key]
        expected = tuple(state[name].shape[axes.index(axis)] for axis in range(len(axes)))
        if array.shape != expected:
            raise UserError(file, f"{key} has shape {array.shape}; expected {expected}")
        if not np.isfinite(array).all():
            raise UserError(file, f"{key} holds values that are not finite")
        tensors[name] = torch.from_numpy(np.ascontiguousarray(array.transpose(axes)))
    return tensors


def _arrays(file: Path) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}

    def collect(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = np.asarray(item, dtype=np.float32)

    try:
        with opened(file) as content:
            content.visititems(collect)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = one_line(error)
        raise UserError(file, f"not a readable HDF5 file of weights ({reason})") from None
    return arrays
