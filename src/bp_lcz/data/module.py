"""Batches for training: whole batches gathered at once, in an order that depends on seed and epoch alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from bp_lcz.data.store import Batch, PackedStore, PatchStore, epoch_order
from bp_lcz.params import Split

EVALUATION_BATCH = 256


class BatchOrder(Sampler[np.ndarray]):
    """Index arrays of the batches of an epoch.

    Args:
        count: patches of the split.
        batch_size: patches of a batch; the last batch may be smaller.
        seed: of the shuffle; None keeps the order of the file.
        share: number of this process and how many share each batch.
    """

    def __init__(self, count: int, batch_size: int, seed: int | None, share: tuple[int, int] = (0, 1)) -> None:
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.share = share
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the trainer calls it, also when it resumes."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of batches."""
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[np.ndarray]:
        """This process's part of the batches of this epoch."""
        order = np.arange(self.count) if self.seed is None else epoch_order(self.count, self.seed, self.epoch)
        number, processes = self.share
        for start in range(0, self.count, self.batch_size):
            batch = order[start : start + self.batch_size]
            # A last batch too small to share is everyone's: equal gradients have themselves as mean.
            yield batch[number::processes] if len(batch) >= processes else batch


class _Batches(Dataset[Batch]):
    """Lets a DataLoader ask a store for a whole batch where it would ask for one item."""

    def __init__(self, store: PatchStore) -> None:
        self.store = store

    def __getitem__(self, indices: np.ndarray) -> Batch:
        return self.store.gather(indices)


class PatchModule(lightning.LightningDataModule):
    """Training and validation batches of a packed data set.

    Args:
        folder: output of the stage ``pack``.
        batch_size: patches of a training batch.
        seed: of the shuffle.
    """

    def __init__(self, folder: Path, batch_size: int, seed: int) -> None:
        super().__init__()
        self.folder = folder
        self.batch_size = batch_size
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled training batches."""
        return self._loader("training", self.batch_size, self.seed)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Validation batches in the order of the file."""
        return self._loader("validation", EVALUATION_BATCH, None)

    def _loader(self, split: Split, batch_size: int, seed: int | None) -> DataLoader[Batch]:
        store = PackedStore(self.folder, split)
        # Every process validates on the whole split, and so comes to the same decisions.
        trainer = self.trainer if split == "training" else None
        share = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        order = BatchOrder(len(store), batch_size, seed, share)
        return DataLoader(
            _Batches(store),
            sampler=order,
            batch_size=None,
            collate_fn=_as_it_is,
            pin_memory=torch.cuda.is_available(),
        )


def _as_it_is(batch: Any) -> Any:
    return batch
