"""Whole batches of transformed patches, whatever they are kept in."""

import json
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from bp_lcz.bands import Channels
from bp_lcz.errors import UserError
from bp_lcz.params import Split

Batch = tuple[
    Float32[Tensor, "batch c1 32 32"],
    Float32[Tensor, "batch c2 32 32"],
    Int64[Tensor, " batch"],
]


@runtime_checkable
class PatchStore(Protocol):
    """Random access to the patches of one split, as `bp_lcz.data.transform.transform` gives them."""

    @property
    def channels(self) -> Channels:
        """Names of the channels of the two image tensors."""
        ...

    def __len__(self) -> int:
        """Number of patches."""
        ...

    def gather(self, indices: Int64[np.ndarray, " batch"]) -> Batch:
        """The patches at these positions, in this order.

        Returns:
            Sentinel-1 and Sentinel-2 images, both with memory format channels_last, and class indices 0..16.
        """
        ...


class PackedStore:
    """`PatchStore` over the folder that `bp_lcz.data.pack.pack` writes, mapped into memory read-only.

    Args:
        folder: the packed data set.
        split: ``training``, ``validation`` or ``testing``.

    Raises:
        UserError: if a file is missing, truncated, or not what the manifest says.

    Example:
        >>> store = PackedStore(Path("outputs/packed"), "training")
        >>> sen1, sen2, label = store.gather(epoch_order(len(store), seed=1, epoch=0)[:64])
    """

    def __init__(self, folder: Path, split: Split) -> None:
        self.manifest = read_manifest(folder)
        self._channels = Channels(*(tuple(self.manifest["channels"][key]) for key in ("sen1", "sen2")))
        self._images = _array(folder / f"{split}.images.npy")
        self.labels: Int64[np.ndarray, " patch"] = np.array(_array(folder / f"{split}.labels.npy"))
        self.blocks: Int64[np.ndarray, " patch"] = np.array(_array(folder / f"{split}.blocks.npy"))
        count = sum(self.manifest["class_counts"][split])
        shape = (count, 32, 32, len(self._channels.names))
        for part, array, expected in (
            ("images", self._images, shape),
            ("labels", self.labels, (count,)),
            ("blocks", self.blocks, (count,)),
        ):
            if array.shape != expected:
                raise UserError(f"{folder / f'{split}.{part}.npy'}: shape {array.shape}; manifest.json says {expected}")

    @property
    def channels(self) -> Channels:
        """Names of the channels of the two image tensors."""
        return self._channels

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.labels)

    def gather(self, indices: Int64[np.ndarray, " batch"]) -> Batch:
        """The patches at these positions, in this order; see `PatchStore.gather`."""
        split = len(self._channels.sen1)
        images = torch.from_numpy(self._images[indices]).permute(0, 3, 1, 2)
        return (
            images[:, :split].contiguous(memory_format=torch.channels_last),
            images[:, split:].contiguous(memory_format=torch.channels_last),
            torch.from_numpy(self.labels[indices]),
        )


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a packed data set says about itself.

    Raises:
        UserError: if it is missing or no JSON.
    """
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run `bp-lcz pack`") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None
    return manifest


def epoch_order(count: int, seed: int, epoch: int) -> Int64[np.ndarray, " {count}"]:
    """Order of the patches in one epoch, a function of its arguments alone.

    Every store, process and resumed run therefore sees the same batches.
    """
    return np.random.default_rng([seed, epoch]).permutation(count).astype(np.int64)


def _array(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run `bp-lcz pack`") from None
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: not a readable array ({error}); run `bp-lcz pack` again") from None
    return array
