"""Rows for the way from the disk to a batch in memory, and to the gradient."""

import itertools
import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.growth import Curve, Series
from benchmarks.harness import Goal, Measured, NotMeasuredError, Row, Setup, Side, rates, timed
from benchmarks.networks import network_of, step_over, trial_of
from benchmarks.patches import PACKED_BYTES, PATCH_VALUES, STORED_BYTES, dataset, evict, packed, sparse_packed
from benchmarks.speed import figure
from bp_lcz.model.memory import keep_freed_memory
from bp_lcz.patches.hdf5_store import Hdf5Store
from bp_lcz.patches.loader import Batches, BatchOrder
from bp_lcz.patches.store import Batch, PackedStore, PatchStore, epoch_order
from bp_lcz.patches.tiers import open_store

BATCH = 256
LARGER = 1.2
"""Size of the file that is larger than memory, as a multiple of memory."""

STEPS = 16
"""Training steps in one measurement. They include the first batch, whose loading no earlier step can hide."""

COLD_NOTE = (
    "before each measurement both files are dropped from the page cache (posix_fadvise); "
    "what lies below it, such as a host's cache, stays as it is"
)


def batch_size(setup: Setup) -> int:
    """Number of patches of a batch."""
    return 8 if setup.quick else BATCH


class FilePerItem(Dataset[Any]):
    """A data set that reads like torchgeo's: it opens the file for every item and returns float64 tensors.

    The loader stacks the tensors into batches.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        with h5py.File(self.path, "r") as file:
            sen1 = file["sen1"][index].astype(np.float64)
            sen2 = file["sen2"][index].astype(np.float64)
            label = torch.tensor(int(file["label"][index].argmax()))
        image = torch.cat([torch.from_numpy(np.rollaxis(values, 2, 0)) for values in (sen1, sen2)])
        return image.float(), label


def file_per_item(path: Path, batches: Sequence[np.ndarray], workers: int = 0) -> DataLoader[Any]:
    """A loader of these batches that reads like torchgeo."""
    return DataLoader(
        FilePerItem(path),
        batch_sampler=[batch.tolist() for batch in batches],
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context=multiprocessing.get_context("fork") if workers else None,
    )


def random_batches(count: int, batch: int, number: int, repeat: int) -> list[np.ndarray]:
    """The first batches of a shuffled epoch, and of further epochs if it is too short."""
    order = np.concatenate([epoch_order(count, 1, repeat + n) for n in range(-(-number * batch // count))])
    return [order[start : start + batch] for start in range(0, number * batch, batch)]


def exhaust(batches: Iterable[object]) -> None:
    """Take all batches of a loader, or of a map over their positions."""
    for _ in batches:
        pass


def against_file_per_item(
    setup: Setup, root: Path, open_ours: Callable[[], PatchStore], gather: str, cold: Path | None = None
) -> Measured:
    """Patches per second of one of our stores and of reading like torchgeo, each with its own shuffled batches.

    Args:
        setup: of the run.
        root: the data set.
        open_ours: opens the store.
        gather: its method that fetches a batch.
        cold: our file; both ways then find the page cache without theirs.
    """
    batch, theirs_path = batch_size(setup), root / "training.h5"
    # Our store is many times as fast, so it gets more batches, to make a measurement long enough.
    number = 1 if setup.quick or cold is not None else 8
    stores = [open_ours()]
    count = len(stores[0])

    def forget(_: int) -> None:
        if cold is not None:
            stores.clear()  # mapped pages stay in the cache
            evict(cold)
            evict(theirs_path)
            stores.append(open_ours())

    ours = Side(
        lambda repeat: exhaust(map(getattr(stores[0], gather), random_batches(count, batch, number, repeat))),
        number * batch,
        forget,
    )
    theirs = Side(
        lambda repeat: exhaust(file_per_item(theirs_path, random_batches(count, batch, 1, repeat))), batch, forget
    )
    sides = rates(setup, ours, theirs)
    if cold is not None:
        return Measured(*sides, cache="cold", note=COLD_NOTE)
    loader = file_per_item(theirs_path, random_batches(count, batch, 8, 0), workers=2)
    running = microseconds(setup, lambda _: exhaust(loader), 8 * batch)
    return Measured(*sides, cache="warm", beside={"theirs with two workers": per_second(running)})


def hdf5(setup: Setup) -> Measured:
    """The file itself, mapped; raw values on both sides, since torchgeo's has no transform."""
    root, batch = dataset(setup), batch_size(setup)
    store = Hdf5Store(root, "training")
    found = against_file_per_item(setup, root, lambda: store, "stored")
    whole = microseconds(setup, lambda repeat: store.gather(random_batches(len(store), batch, 1, repeat)[0]), batch)
    return replace(found, beside={**found.beside, "ours transformed as training reads it": per_second(whole)})


def packed_map(setup: Setup) -> Measured:
    """The packed split, mapped: transformed values against raw ones."""
    folder = packed(setup)
    return against_file_per_item(setup, dataset(setup), lambda: PackedStore(folder, "training"), "gather")


def hdf5_cold(setup: Setup, patches: int | None = None) -> Measured:
    """Like `hdf5`, but from the disk."""
    root = dataset(setup, patches)
    return against_file_per_item(setup, root, partial(Hdf5Store, root, "training"), "stored", root / "training.h5")


def packed_cold(setup: Setup) -> Measured:
    """Like `packed_map`, but from the disk."""
    folder = packed(setup)
    opened, images = partial(PackedStore, folder, "training"), folder / "training.images.npy"
    return against_file_per_item(setup, dataset(setup), opened, "gather", images)


def hdf5_large(setup: Setup) -> Measured:
    """Like `hdf5_cold`, but with a file that does not fit into memory."""
    memory = psutil.virtual_memory().total
    patches = int(LARGER * memory / STORED_BYTES)
    size = f"{LARGER * memory / 2**30:.0f} GiB"
    if not setup.large:
        raise NotMeasuredError(f"writes a file of {size}; --large measures it")
    free = psutil.disk_usage(str(setup.folder)).free
    if free < patches * STORED_BYTES + 2**30:
        raise NotMeasuredError(
            f"needs {patches * STORED_BYTES / 2**30:.0f} GiB of disk, {free / 2**30:.0f} GiB are free"
        )
    found = hdf5_cold(setup, patches)
    shutil.rmtree(dataset(setup, patches))
    return replace(found, note=f"file of {size}; {found.note}")


def gather(setup: Setup) -> Measured:
    """A batch of random patches of a packed split, against one copy of as many adjacent patches."""
    folder, batch, number = packed(setup), batch_size(setup), 2 if setup.quick else 8
    store = PackedStore(folder, "training")
    rows = np.load(folder / "training.images.npy", mmap_mode="r")
    target = np.empty((batch, PATCH_VALUES), np.float32)
    first = np.arange(0, len(rows) - batch + 1, batch)

    def memcpy(repeat: int) -> None:
        for n in range(number):
            start = first[(repeat * number + n) % len(first)]
            np.copyto(target, rows[start : start + batch])

    gigabytes = number * batch * PACKED_BYTES / 1e9
    ours = Side(lambda repeat: exhaust(map(store.gather, random_batches(len(store), batch, number, repeat))), gigabytes)
    return Measured(
        *rates(setup, ours, Side(memcpy, gigabytes)),
        cache="warm",
        note="memcpy goes from the same mapped file, far larger than the caches, to one array that is there already",
    )


def pipeline(setup: Setup) -> Measured:
    """Training steps on loaded batches, against the same steps on one batch in memory."""
    trial, folder = trial_of("plain"), packed(setup)
    batch = 8 if setup.quick else trial.train.batch_size
    store = open_store("auto", "training", folder, dataset(setup), torch.device(setup.device))
    network = network_of(trial)
    coming: Iterator[Batch]

    def next_batch() -> Batch:
        sen1, sen2, label = (part.to(setup.device, non_blocking=True) for part in next(coming))
        return sen1, sen2, label

    step = step_over(next_batch, setup.device, network, trial, "32-true")
    keep_freed_memory()  # as training does
    coming = iter([store.gather(np.arange(batch))])
    lying = next_batch()
    order = BatchOrder(len(store), batch, seed=1)
    steps = min(STEPS, len(order))

    def train(batches: Iterator[Batch]) -> None:
        nonlocal coming
        coming = batches
        for number in range(steps):
            step(number)

    def from_store(repeat: int) -> None:
        order.set_epoch(repeat)
        train(iter(Batches(store, order)))

    def from_memory(_: int) -> None:
        train(itertools.repeat(lying))

    sides = rates(setup, Side(from_store, steps * batch), Side(from_memory, steps * batch), wide=0.02)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    note = f"EB-CNN plain, {parameters:,} parameters, batches of {batch}; both sides in steps of the trainer's own task"
    return Measured(*sides, cache="warm", note=note)


ITEM = "torchgeo's way: file opened per item, one process"
ROWS = (
    Row("hdf5", "HDF5 in place to a shuffled float32 batch", ITEM, "patches/s", Goal(15), hdf5),
    Row("packed", "packed split to a shuffled float32 batch", ITEM, "patches/s", Goal(50), packed_map),
    Row("hdf5-cold", "HDF5 in place to a shuffled float32 batch", ITEM, "patches/s", None, hdf5_cold),
    Row("packed-cold", "packed split to a shuffled float32 batch", ITEM, "patches/s", None, packed_cold),
    Row("hdf5-large", "HDF5 in place, file larger than memory", ITEM, "patches/s", None, hdf5_large),
    Row("gather", "gather of a packed batch", "memcpy of the same bytes", "GB/s", Goal(0.5), gather),
    Row("pipeline", "training on batches as they come", "on a batch in memory", "patches/s", Goal(0.97), pipeline),
)


def per_second(spent: Sequence[float]) -> str:
    """Text of the patches per second from microseconds per patch."""
    return f"{figure(1e6 / float(np.median(spent)))} patches/s"


def microseconds(setup: Setup, work: Callable[[int], object], patches: int) -> list[float]:
    """Samples of the time per patch of a call, after one warm-up call."""
    side = Side(work)
    timed(setup, side, 0)
    return [1e6 * timed(setup, side, repeat) / patches for repeat in range(3 if setup.quick else 15)]


def sizes_of_data(setup: Setup) -> list[int]:
    """Numbers of patches in the files."""
    return [50, 100, 200] if setup.quick else [10**3, 10**4, 10**5, 10**6]


def growth_with_data(setup: Setup) -> list[Series]:
    """Time per patch of random batches out of ever larger files."""
    batch, number = batch_size(setup), 2 if setup.quick else 8
    costs = []
    for patches in sizes_of_data(setup):
        store = sparse_packed(setup, patches)
        # Every size reads as many different patches, so a small file does not win by the processor's cache.
        batches = random_batches(patches, min(batch, patches), number, 0)
        costs.append(microseconds(setup, lambda _: exhaust(map(store.gather, batches)), sum(map(len, batches))))  # noqa: B023
    return [Series("gather of a batch", 0, sizes_of_data(setup), costs)]


def private_mebibytes(setup: Setup, patches: int) -> float:
    """Private memory of a new process after random batches of a file, without shared pages of files."""
    sparse_packed(setup, patches)
    code = (
        "import sys, numpy as np, psutil; from pathlib import Path; from bp_lcz.patches.store import *; "
        "from bp_lcz.patches.loader import Batches, BatchOrder; from itertools import islice; "
        "store = PackedStore(Path(sys.argv[1]), 'training'); batches = Batches(store, BatchOrder(len(store), 64, 1)); "
        "list(map(len, islice(iter(batches), 16))); "
        "print(sum(part.private_dirty for part in psutil.Process().memory_maps()) / 2**20)"
    )
    path = str(setup.folder / f"sparse-{patches}")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    return float(done.stdout)


def memory_with_data(setup: Setup) -> list[Series]:
    """Memory of a process that reads ever larger files."""
    costs = [[private_mebibytes(setup, patches)] for patches in sizes_of_data(setup)]
    return [Series("memory of the reading process", 0, sizes_of_data(setup), costs)]


def growth_with_batch(setup: Setup) -> list[Series]:
    """Time per patch of batches of any size."""
    store = PackedStore(packed(setup), "training")
    root = dataset(setup)
    in_place = Hdf5Store(root, "training")
    sizes = [2, 4, 8] if setup.quick else [4, 16, 64, 256, 1024]
    series = []
    for label, gather in (("packed", store.gather), ("HDF5 in place", in_place.stored)):
        costs = []
        for size in sizes:
            batches = random_batches(len(store), size, max(1, sizes[-1] // size), 0)
            patches = sum(map(len, batches))
            costs.append(microseconds(setup, lambda _: exhaust(map(gather, batches)), patches))  # noqa: B023
        series.append(Series(label, 0, sizes, costs))
    return series


def growth_with_workers(setup: Setup) -> list[Series]:
    """Time per patch when several threads gather batches, and when several processes open the file per item."""
    root, batch, number = dataset(setup), batch_size(setup), 4 if setup.quick else 16
    store = PackedStore(packed(setup), "training")
    batches = random_batches(len(store), batch, number, 0)
    workers = [1, 2, 4]
    ours, theirs = [], []
    for count in workers:
        with ThreadPoolExecutor(count) as pool:
            ours.append(microseconds(setup, lambda _: list(pool.map(store.gather, batches)), number * batch))
        loader = file_per_item(root / "training.h5", batches[: number // 2], workers=count)
        theirs.append(microseconds(setup, lambda _: exhaust(loader), number // 2 * batch))  # noqa: B023
    return [
        Series("packed, threads", -1, workers, ours),
        Series("file opened per item, processes", -1, workers, theirs),
    ]


CURVES = (
    Curve("data", "Random batches out of a file of any size", "patches in the file", "µs per patch", growth_with_data),
    Curve("data-memory", "Memory against the data", "patches in the file", "MiB", memory_with_data),
    Curve("gather", "Batches of any size", "patches in the batch", "µs per patch", growth_with_batch),
    Curve("workers", "Readers side by side", "readers", "µs per patch", growth_with_workers),
)
