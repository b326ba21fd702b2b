"""From the disk to a batch in memory, and to the gradient."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.growth import Curve, Series
from benchmarks.harness import Goal, Measured, NotMeasuredError, Row, Setup, Side, rates, timed
from benchmarks.speed import figure
from bp_lcz.bands import ALL_CHANNELS, PATCH_SIDE
from bp_lcz.files import staged_file
from bp_lcz.model.bp_lcz import BPLCZ
from bp_lcz.model.memory import keep_freed_memory
from bp_lcz.model.task import LczTask, class_weights
from bp_lcz.params import SPLITS, Split, TrialParams, load_params
from bp_lcz.patches.hdf5_store import Hdf5Store
from bp_lcz.patches.loader import Batches, BatchOrder
from bp_lcz.patches.pack import pack
from bp_lcz.patches.store import PackedStore, PatchStore, epoch_order
from bp_lcz.patches.tiers import open_store
from bp_lcz.records import Blocks, DataKind, GateSummary, Leakage, PackManifest, SplitSummary
from bp_lcz.scheme import CLASS_COUNT

BATCH = 256
PATCHES = 4096
"""Of the benchmark's file: 600 MB, twenty times the last cache."""

PATCH_VALUES = PATCH_SIDE**2 * len(ALL_CHANNELS.names)
STORED_BYTES = 8 * (PATCH_VALUES + CLASS_COUNT)
PACKED_BYTES = 4 * PATCH_VALUES

LARGER = 1.2
"""A file larger than memory is that many times as large."""

STEPS = 16
_ANY_DATA: dict[str, Any] = {
    "dataset": "benchmark",
    "source": None,
    "kind": DataKind.UNSTATED,
    "leakage": Leakage(status="none", pairs=0, distance=None),
    "channels": ALL_CHANNELS,
}
"""Training steps in one measurement: the first batch, for which there is no step to hide behind, is one of them."""


def batch_size(setup: Setup) -> int:
    """Patches of a batch."""
    return 8 if setup.quick else BATCH


def dataset(setup: Setup, patches: int | None = None) -> Path:
    """A data set in the form of the official files, contiguous float64, made once and kept for the other rows.

    Values repeat every 512 patches: no reader looks at them.
    """
    patches = patches or (64 if setup.quick else PATCHES)
    root = setup.folder / f"so2sat-{patches}"
    for split, count in (("training", patches), ("validation", CLASS_COUNT), ("testing", CLASS_COUNT)):
        path = root / f"{split}.h5"
        if path.exists():
            continue
        rng = np.random.default_rng(1)
        slab = {
            "sen1": rng.exponential(0.05, (min(count, 512), PATCH_SIDE, PATCH_SIDE, len(ALL_CHANNELS.sen1))),
            "sen2": rng.uniform(0, 0.4, (min(count, 512), PATCH_SIDE, PATCH_SIDE, len(ALL_CHANNELS.sen2))),
            "label": np.eye(CLASS_COUNT)[np.arange(min(count, 512)) % CLASS_COUNT],
        }
        with staged_file(path) as new, h5py.File(new, "w") as file:
            for key, values in slab.items():
                array = file.create_dataset(key, (count, *values.shape[1:]), np.float64)
                for start in range(0, count, 512):
                    array[start : start + 512] = values[: count - start]
        flush(path)
    return root


def packed(setup: Setup) -> Path:
    """The same data set, packed by the stage's own code."""
    root = dataset(setup)
    folder = root / "packed"
    if not folder.exists():
        splits: dict[Split, SplitSummary] = {}
        for split in SPLITS:
            with h5py.File(root / f"{split}.h5") as file:
                splits[split] = SplitSummary(patches=len(file["label"]), class_counts=(), cities=None)
        summary = GateSummary(
            **_ANY_DATA,
            release=None,
            splits=splits,
            bands={},
            expectations=(),
            not_checked=(),
            too_few_patches={},
            warnings=(),
        )
        pack(root, summary, folder)
        flush(folder / "training.images.npy")
    return folder


class FilePerItem(Dataset[Any]):
    """The way of torchgeo's data set, written as its loop: open the file for every item, float64, a tensor each.

    Its stacking of tensors to a batch, the collation, is the loader's.
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
    """A loader of these batches in torchgeo's way."""
    return DataLoader(
        FilePerItem(path),
        batch_sampler=[batch.tolist() for batch in batches],
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context=multiprocessing.get_context("fork") if workers else None,
    )


def random_batches(count: int, batch: int, number: int, repeat: int) -> list[np.ndarray]:
    """The first batches of a shuffled epoch, over again where it is too short."""
    order = np.concatenate([epoch_order(count, 1, repeat + n) for n in range(-(-number * batch // count))])
    return [order[start : start + batch] for start in range(0, number * batch, batch)]


def drain(batches: Sequence[np.ndarray], gather: Callable[[np.ndarray], object]) -> None:
    """Gather batches one after the other."""
    for indices in batches:
        gather(indices)


def exhaust(loader: DataLoader[Any]) -> None:
    """Take all batches of a loader."""
    for _ in loader:
        pass


def flush(path: Path) -> None:
    """Write a file's pages to the disk, without which they cannot leave the cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def evict(path: Path) -> None:
    """Drop a file that nothing maps from the page cache."""
    if not hasattr(os, "posix_fadvise"):
        raise NotMeasuredError("this system cannot drop a file from the page cache")
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def against_file_per_item(
    setup: Setup, root: Path, open_ours: Callable[[], PatchStore], gather: str, cold: Path | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Patches per second of one of our stores and of torchgeo's way, each with shuffled batches of its own.

    Args:
        setup: of the run.
        root: the data set.
        open_ours: opens the store.
        gather: its method that fetches a batch.
        cold: our file; both ways then find the page cache without theirs.
    """
    batch, theirs_path = batch_size(setup), root / "training.h5"
    # Ours is many times as fast: more batches, so that one measurement is long enough to be timed.
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
        lambda repeat: drain(random_batches(count, batch, number, repeat), getattr(stores[0], gather)),
        number * batch,
        forget,
    )
    theirs = Side(
        lambda repeat: exhaust(file_per_item(theirs_path, random_batches(count, batch, 1, repeat))), batch, forget
    )
    return rates(setup, ours, theirs)


def two_workers(setup: Setup) -> str:
    """Patches per second of torchgeo's way with two workers that are already running."""
    batch, number = batch_size(setup), 2 if setup.quick else 8
    path = dataset(setup) / "training.h5"
    loader = file_per_item(path, random_batches(64 if setup.quick else PATCHES, batch, number, 0), workers=2)
    exhaust(loader)
    spent = [timed(setup, Side(lambda _: exhaust(loader)), 0) for _ in range(3 if setup.quick else 9)]
    return f"{figure(number * batch / float(np.median(spent)))} patches/s"


def hdf5(setup: Setup) -> Measured:
    """The file itself, mapped; raw values on both sides, since torchgeo's has no transform."""
    root = dataset(setup)
    store = Hdf5Store(root, "training")
    ours, theirs = against_file_per_item(setup, root, lambda: store, "stored")
    batch = batch_size(setup)
    side = Side(lambda repeat: store.gather(random_batches(len(store), batch, 1, repeat)[0]))
    spent = [timed(setup, side, repeat) for repeat in range(3 if setup.quick else 9)]
    beside = {
        "theirs with two workers": two_workers(setup),
        "ours transformed as training reads it": f"{figure(batch / float(np.median(spent)))} patches/s",
    }
    return Measured(ours, theirs, cache="warm", beside=beside)


def packed_map(setup: Setup) -> Measured:
    """The packed split, mapped: transformed values against raw ones."""
    root, folder = dataset(setup), packed(setup)
    ours, theirs = against_file_per_item(setup, root, lambda: PackedStore(folder, "training"), "gather")
    return Measured(ours, theirs, cache="warm", beside={"theirs with two workers": two_workers(setup)})


COLD_NOTE = (
    "before each measurement both files are dropped from the page cache (posix_fadvise); "
    "what lies below it, such as a host's cache, stays as it is"
)


def hdf5_cold(setup: Setup) -> Measured:
    """As `hdf5`, from the disk."""
    root = dataset(setup)
    sides = against_file_per_item(setup, root, partial(Hdf5Store, root, "training"), "stored", root / "training.h5")
    return Measured(*sides, cache="cold", note=COLD_NOTE)


def packed_cold(setup: Setup) -> Measured:
    """As `packed_map`, from the disk."""
    root, folder = dataset(setup), packed(setup)
    file = folder / "training.images.npy"
    sides = against_file_per_item(setup, root, partial(PackedStore, folder, "training"), "gather", file)
    return Measured(*sides, cache="cold", note=COLD_NOTE)


def hdf5_large(setup: Setup) -> Measured:
    """As `hdf5_cold`, of a file that does not fit into memory."""
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
    root = dataset(setup, patches)
    sides = against_file_per_item(setup, root, partial(Hdf5Store, root, "training"), "stored", root / "training.h5")
    (root / "training.h5").unlink()
    return Measured(*sides, cache="cold", note=f"file of {size}; {COLD_NOTE}")


def gather(setup: Setup) -> Measured:
    """Random patches of a packed split as a batch, against one copy of as many that lie side by side."""
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
    ours = Side(lambda repeat: drain(random_batches(len(store), batch, number, repeat), store.gather), gigabytes)
    return Measured(
        *rates(setup, ours, Side(memcpy, gigabytes)),
        cache="warm",
        note="memcpy goes from the same mapped file, far larger than the caches, to one array that is there already",
    )


def network_parameters() -> TrialParams:
    """The smallest network with the parameters of this checkout."""
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    return TrialParams(
        name="benchmark",
        backbone="eb_cnn",
        variant="plain",
        seed=1,
        train=params.train,
        model=params.model,
        backbone_options=params.backbones["eb_cnn"],
    )


def pipeline(setup: Setup) -> Measured:
    """Training steps on batches as they come, against the same steps on one batch that lies there."""
    device = torch.device(setup.device)
    trial, folder = network_parameters(), packed(setup)
    batch = 8 if setup.quick else trial.train.batch_size
    store = open_store("auto", "training", folder, dataset(setup), device)
    torch.manual_seed(1)
    width = len(ALL_CHANNELS.names)
    prompts = torch.zeros(CLASS_COUNT, len(ALL_CHANNELS.groups), 1)
    network = BPLCZ(trial, ALL_CHANNELS, prompts, torch.zeros(width), torch.full((width,), 20.0)).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    task = LczTask(network, trial, class_weights([1] * CLASS_COUNT, 0.0), 1).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def step(number: int, sen1: torch.Tensor, sen2: torch.Tensor, label: torch.Tensor) -> None:
        optimizer.zero_grad()
        task.training_step((sen1, sen2, label), number).backward()
        optimizer.step()

    keep_freed_memory()  # as training does
    lying = tuple(part.to(device) for part in store.gather(np.arange(batch)))
    order = BatchOrder(len(store), batch, seed=1)
    steps = min(STEPS, len(order))

    def from_store(repeat: int) -> None:
        order.set_epoch(repeat)
        for number, parts in enumerate(islice(iter(Batches(store, order)), steps)):
            step(number, *(part.to(device, non_blocking=True) for part in parts))

    def from_memory(_: int) -> None:
        for number in range(steps):
            step(number, *lying)

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


def sparse_packed(setup: Setup, patches: int) -> PackedStore:
    """A packed split of any size of which only the patches that are read take memory: the file is all holes."""
    folder = setup.folder / f"sparse-{patches}"
    if not folder.exists():
        folder.mkdir()
        np.lib.format.open_memmap(folder / "training.images.npy", "w+", np.float32, (patches, PATCH_VALUES))
        labels = np.arange(patches) % CLASS_COUNT
        np.save(folder / "training.labels.npy", labels)
        np.save(folder / "training.blocks.npy", labels)
        counts = tuple(np.bincount(labels, minlength=CLASS_COUNT).tolist())
        blocks = Blocks(unit="patch", description="", count={})
        manifest = PackManifest(
            **_ANY_DATA, mean=(), std=(), class_counts=dict.fromkeys(SPLITS, counts), blocks=blocks, sha256={}
        )
        manifest.write(folder / "manifest.json")
    return PackedStore(folder, "training")


def microseconds(setup: Setup, work: Callable[[int], object], patches: int) -> list[float]:
    """Samples of the time per patch of a call, after one to warm up."""
    side = Side(work)
    timed(setup, side, 0)
    return [1e6 * timed(setup, side, repeat) / patches for repeat in range(3 if setup.quick else 15)]


def sizes_of_data(setup: Setup) -> list[int]:
    """Patches in a file."""
    return [50, 100, 200] if setup.quick else [10**3, 10**4, 10**5, 10**6]


def growth_with_data(setup: Setup) -> list[Series]:
    """Time per patch of random batches out of ever larger files."""
    batch, number = batch_size(setup), 2 if setup.quick else 8
    costs = []
    for patches in sizes_of_data(setup):
        store = sparse_packed(setup, patches)
        # As many different patches at every size: a small file must not win by fitting into the processor's cache.
        batches = random_batches(patches, min(batch, patches), number, 0)
        costs.append(microseconds(setup, lambda _: drain(batches, store.gather), sum(map(len, batches))))  # noqa: B023
    return [Series("gather of a batch", sizes_of_data(setup), costs)]


def private_mebibytes(setup: Setup, patches: int) -> float:
    """Memory of a fresh process of its own, shared pages of files left out, after random batches of a file."""
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
    return [Series("memory of the reading process", sizes_of_data(setup), costs)]


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
            costs.append(microseconds(setup, lambda _: drain(batches, gather), patches))  # noqa: B023
        series.append(Series(label, sizes, costs))
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
    return [Series("packed, threads", workers, ours), Series("file opened per item, processes", workers, theirs)]


CURVES = (
    Curve(
        "data",
        "Random batches out of a file of any size",
        "patches in the file",
        "µs per patch",
        {"gather of a batch": 0},
        growth_with_data,
    ),
    Curve(
        "data-memory",
        "Memory against the data",
        "patches in the file",
        "MiB",
        {"memory of the reading process": 0},
        memory_with_data,
    ),
    Curve(
        "gather",
        "Batches of any size",
        "patches in the batch",
        "µs per patch",
        {"packed": 0, "HDF5 in place": 0},
        growth_with_batch,
    ),
    Curve(
        "workers",
        "Readers side by side",
        "readers",
        "µs per patch",
        {"packed, threads": -1, "file opened per item, processes": -1},
        growth_with_workers,
    ),
)
