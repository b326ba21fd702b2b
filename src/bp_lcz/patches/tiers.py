"""Chooses the store that a training reads patches from. All stores give equal batches and equal results."""

from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import torch

from bp_lcz.errors import UserError
from bp_lcz.params import Split, Tier
from bp_lcz.patches.hdf5_store import Hdf5Store
from bp_lcz.patches.store import MemoryStore, PackedStore, PatchStore, PinnedStore

SHARE_OF_GPU = 0.5
"""Of the free memory of a GPU that ``auto`` gives to a split; the network needs the rest."""


def choose_tier(nbytes: int, free_on_gpu: int | None) -> Literal["device", "pinned", "packed"]:
    """What ``auto`` means for a split of this size.

    On a GPU the split lies there if it fits, else batches are copied from page-locked memory. On a CPU the packed map
    is as fast as memory once it is read, and trials that train side by side share its pages.

    Args:
        nbytes: of the split's packed images.
        free_on_gpu: bytes; None on a CPU.
    """
    if free_on_gpu is None:
        return "packed"
    return "device" if nbytes <= SHARE_OF_GPU * free_on_gpu else "pinned"


def open_store(tier: Tier, split: Split, packed: Path, dataset: Path, device: torch.device) -> PatchStore:
    """Open a split in the tier that ``params.yaml`` names.

    Args:
        tier: see `bp_lcz.params.Params.store`.
        split: which one.
        packed: output of the stage ``pack``.
        dataset: folder of the So2Sat files, read by ``hdf5`` only.
        device: where the network is trained.

    Raises:
        UserError: if files are missing or not in form, the device has no room for the split, ``pinned`` is asked for
            without a GPU, or the So2Sat file is not the one that was packed.
    """
    store = PackedStore(packed, split)
    on_gpu = device.type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if on_gpu else None
    if tier == "auto":
        tier = choose_tier(store.nbytes, free)
    if tier == "pinned":
        if not on_gpu:
            raise UserError("params.yaml", "store: pinned needs a GPU and this training runs on the CPU; use auto")
        return PinnedStore(store)
    if tier == "device":
        room = psutil.virtual_memory().available if free is None else free
        if store.nbytes > room:
            raise UserError(
                "params.yaml",
                f"store: device: {split} has {store.nbytes / 2**30:.1f} GiB and {device.type} "
                f"{room / 2**30:.1f} GiB free; use auto",
            )
        return MemoryStore(store, device)
    if tier == "hdf5":
        stored = Hdf5Store(dataset, split)
        if stored.channels != store.channels or not np.array_equal(stored.labels, store.labels):
            raise UserError(
                f"{dataset / f'{split}.h5'}", f"not the file that {packed} was packed from; run `bp-lcz pack`"
            )
        return stored
    return store
