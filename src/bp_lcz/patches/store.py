"""Whole batches of transformed patches, whatever they are kept in."""

import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import psutil
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from bp_lcz.bands import PATCH_SIDE, Channels
from bp_lcz.errors import NO_ARRAY, UserError, one_line
from bp_lcz.params import Split
from bp_lcz.records import PackManifest

Batch = tuple[
    Float32[Tensor, "batch c1 32 32"],
    Float32[Tensor, "batch c2 32 32"],
    Int64[Tensor, " batch"],
]


@runtime_checkable
class PatchStore(Protocol):
    """Random access to the patches of one split, as `bp_lcz.patches.transform.transform` gives them."""

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
    """`PatchStore` over the folder that `bp_lcz.patches.pack.pack` writes, mapped into memory read-only.

    Processes that read the same split share its pages.

    Args:
        folder: the packed data set.
        split: ``training``, ``validation`` or ``testing``.

    Raises:
        UserError: if a file is missing, truncated, or not what the manifest says.

    Example:
        >>> store = PackedStore(Path("outputs/packed"), "training")
        >>> sen1, sen2, label = store.gather(epoch_order(len(store), seed=1, epoch=0)[:16])
        >>> sen1.shape, sen2.shape, label.shape
        (torch.Size([16, 8, 32, 32]), torch.Size([16, 10, 32, 32]), torch.Size([16]))
    """

    def __init__(self, folder: Path, split: Split) -> None:
        self.manifest = PackManifest.read(folder / "manifest.json")
        self._channels = self.manifest.channels
        count = sum(self.manifest.class_counts[split])
        images = _array(folder / f"{split}.images.npy")
        self.labels: Int64[np.ndarray, " patch"] = np.array(_array(folder / f"{split}.labels.npy"))
        self.blocks: Int64[np.ndarray, " patch"] = np.array(_array(folder / f"{split}.blocks.npy"))
        shape = (count, PATCH_SIDE**2 * len(self._channels.names))
        for part, array, expected in (
            ("images", images, shape),
            ("labels", self.labels, (count,)),
            ("blocks", self.blocks, (count,)),
        ):
            if array.shape != expected:
                raise UserError(
                    f"{folder / f'{split}.{part}.npy'}",
                    f"shape {array.shape}; manifest.json says {expected}; run `bp-lcz pack` again",
                )
        self.nbytes: int = images.nbytes
        first = PATCH_SIDE**2 * len(self._channels.sen1)
        self._sen1, self._sen2 = images[:, :first], images[:, first:]
        self._ahead = ReadAhead(folder / f"{split}.images.npy", [(images.offset, images.strides[0])], count)

    @property
    def channels(self) -> Channels:
        """Names of the channels of the two image tensors."""
        return self._channels

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.labels)

    def gather(self, indices: Int64[np.ndarray, " batch"]) -> Batch:
        """The patches at these positions, in this order; see `PatchStore.gather`."""
        self._ahead(indices)
        sen1, sen2 = (torch.from_numpy(rows[indices]) for rows in (self._sen1, self._sen2))
        return as_batch(sen1, sen2, torch.from_numpy(self.labels[indices]))


class MemoryStore:
    """`PatchStore` whose whole split lies in the memory of a device, where batches are gathered, too.

    Args:
        store: what is copied.
        device: of the tensors.
    """

    def __init__(self, store: PatchStore, device: torch.device) -> None:
        self._channels = store.channels
        self._device = device
        values = [PATCH_SIDE**2 * len(names) for names in (store.channels.sen1, store.channels.sen2)]
        self._sen1, self._sen2 = (torch.empty((len(store), width), device=device) for width in values)
        self._labels = torch.empty(len(store), dtype=torch.int64, device=device)
        for start in range(0, len(store), _SLAB):
            sen1, sen2, label = store.gather(np.arange(start, min(start + _SLAB, len(store))))
            piece = slice(start, start + _SLAB)
            self._sen1[piece] = sen1.permute(0, 2, 3, 1).flatten(1)
            self._sen2[piece] = sen2.permute(0, 2, 3, 1).flatten(1)
            self._labels[piece] = label

    @property
    def channels(self) -> Channels:
        """Names of the channels of the two image tensors."""
        return self._channels

    def __len__(self) -> int:
        """Number of patches."""
        return len(self._labels)

    def gather(self, indices: Int64[np.ndarray, " batch"]) -> Batch:
        """The patches at these positions, in this order; see `PatchStore.gather`."""
        position = torch.from_numpy(indices)
        if self._device.type == "cuda":
            # From pinned memory the copy does not make the host wait for the device.
            position = position.pin_memory().to(self._device, non_blocking=True)
        sen1, sen2 = (rows.index_select(0, position) for rows in (self._sen1, self._sen2))
        return as_batch(sen1, sen2, self._labels.index_select(0, position))


_SLAB = 1024
"""Patches copied at a time when a split is loaded: 72 MiB."""


class PinnedStore:
    """`PatchStore` whose batches lie in page-locked memory, from which a GPU copies while the host goes on.

    Args:
        store: what batches are gathered from.
    """

    def __init__(self, store: PatchStore) -> None:
        self._store = store

    @property
    def channels(self) -> Channels:
        """Names of the channels of the two image tensors."""
        return self._store.channels

    def __len__(self) -> int:
        """Number of patches."""
        return len(self._store)

    def gather(self, indices: Int64[np.ndarray, " batch"]) -> Batch:
        """The patches at these positions, in this order; see `PatchStore.gather`."""
        sen1, sen2, label = self._store.gather(indices)
        return sen1.pin_memory(), sen2.pin_memory(), label.pin_memory()


class ReadAhead:
    """Asks the system for all patches of a batch at once, where it would else fetch page after page.

    Of a file that fits into memory each patch is asked for once, in the first epoch; of a larger one always, since its
    pages do not stay.

    Args:
        path: the file.
        parts: offset of the first patch and distance of patches in bytes, for each array in the file.
        count: number of patches.
    """

    def __init__(self, path: Path, parts: Sequence[tuple[int, int]], count: int) -> None:
        self._parts = parts
        self._file = os.open(path, os.O_RDONLY) if hasattr(os, "posix_fadvise") else None  # it is not everywhere
        if self._file is not None:
            weakref.finalize(self, os.close, self._file)
        nbytes = count * sum(stride for _, stride in parts)
        self._fits = nbytes <= psutil.virtual_memory().available / 2
        self._is_asked = np.zeros(count, bool)

    def __call__(self, indices: Int64[np.ndarray, " batch"]) -> None:
        """Announce the patches at these positions."""
        if self._file is None:
            return
        if self._fits:
            indices = indices[~self._is_asked[indices]]
            self._is_asked[indices] = True
        for offset, stride in self._parts:
            for index in indices.tolist():
                os.posix_fadvise(self._file, offset + index * stride, stride, os.POSIX_FADV_WILLNEED)


def as_batch(
    sen1: Float32[Tensor, "batch *values1"], sen2: Float32[Tensor, "batch *values2"], label: Int64[Tensor, " batch"]
) -> Batch:
    """A batch from the values of each patch in the order row, column, channel."""
    first, second = (
        part.view(len(part), PATCH_SIDE, PATCH_SIDE, part.shape[1:].numel() // PATCH_SIDE**2).permute(0, 3, 1, 2)
        for part in (sen1, sen2)
    )
    return first, second, label


def epoch_order(count: int, seed: int, epoch: int) -> Int64[np.ndarray, " {count}"]:
    """Order of the patches in one epoch, a function of its arguments alone.

    Every store, process and resumed run therefore sees the same batches.
    """
    return np.random.default_rng([seed, epoch]).permutation(count).astype(np.int64)


def _array(path: Path) -> np.memmap:
    try:
        array: np.memmap = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(path, "not found; run `bp-lcz pack`") from None
    except NO_ARRAY as error:
        raise UserError(path, f"not a readable array ({one_line(error)}); run `bp-lcz pack` again") from None
    return array
