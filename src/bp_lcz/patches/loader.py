"""Batches for training: whole batches gathered at once, in an order that depends on seed and epoch alone."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from bp_lcz.errors import UserError
from bp_lcz.params import Split, Train
from bp_lcz.patches.store import Batch, MemoryStore, PackedStore, PatchStore, epoch_order
from bp_lcz.scheme import CODES

EVALUATION_BATCH = 256


class BatchOrder:
    """Index arrays of the batches of an epoch.

    Args:
        count: patches of the split.
        batch_size: patches of a batch; the last batch may be smaller.
        seed: of the shuffle; None keeps the order of the file.
        share: number of this process and how many share each batch.
        pool: the patches to take; all of them without.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int | None,
        share: tuple[int, int] = (0, 1),
        pool: Int64[np.ndarray, " patch"] | None = None,
    ) -> None:
        self.pool = np.arange(count) if pool is None else pool
        self.count = len(self.pool)
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
        order = self.pool if self.seed is None else self.pool[epoch_order(self.count, self.seed, self.epoch)]
        number, processes = self.share
        for start in range(0, self.count, self.batch_size):
            batch = order[start : start + self.batch_size]
            # A last batch with too few patches to share goes to every process. The mean of equal gradients is the same.
            yield batch[number::processes] if len(batch) >= processes else batch


def few_of_each_class(labels: Int64[np.ndarray, " patch"], most: int, seed: int) -> Int64[np.ndarray, " some"]:
    """At most `most` patches of each class, in the order of the file. A smaller `most` gives a subset."""
    drawn = np.random.default_rng(seed).permutation(len(labels))
    return np.sort(np.concatenate([drawn[labels[drawn] == klass][:most] for klass in np.unique(labels)]))


def chosen_patches(train: Train, folder: Path, seed: int) -> dict[Split, Int64[np.ndarray, " patch"]]:
    """Indices of the patches that a training uses, for each split that it does not use as a whole.

    Raises:
        UserError: if leaving out classes leaves none.
    """
    chosen: dict[Split, Int64[np.ndarray, " patch"]] = {}
    if train.per_class is not None:
        chosen["training"] = few_of_each_class(PackedStore(folder, "training").labels, train.per_class, seed)
    left_out = [CODES.index(code) for code in train.leave_out]
    splits: tuple[Split, ...] = ("training", "validation")
    for split in splits if left_out else ():
        labels = PackedStore(folder, split).labels
        kept = chosen.get(split, np.arange(len(labels)))
        chosen[split] = kept[~np.isin(labels[kept], left_out)]
        if not len(chosen[split]):
            raise UserError("params.yaml", f"train.leave_out: {', '.join(train.leave_out)} leaves no {split} patch")
    return chosen


class Batches:
    """The batches of an epoch, each gathered in a thread of its own while the one before is at work.

    Args:
        store: where they are gathered.
        order: which patches each of them has. The trainer finds it under the name ``sampler`` and sets its epoch.
    """

    batch_sampler = None  # the other name under which the trainer looks

    def __init__(self, store: PatchStore, order: BatchOrder) -> None:
        self.store = store
        self.sampler = order

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of this epoch."""
        if isinstance(self.store, MemoryStore):
            # Nothing to wait for; and a device takes its work from one thread.
            yield from map(self.store.gather, self.sampler)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
            order = iter(self.sampler)
            ahead = reader.submit(self.store.gather, next(order))
            for indices in order:
                batch, ahead = ahead, reader.submit(self.store.gather, indices)
                yield batch.result()
            yield ahead.result()
