"""So2Sat LCZ42's file layout. Only this module knows and checks it.

A data set is a folder::

    training.h5  validation.h5  testing.h5
        sen1   (N, 32, 32, C1)  Sentinel-1, linear; names of the channels in the attribute ``bands``;
                                absent from a data set of Sentinel-2 alone
        sen2   (N, 32, 32, C2)  Sentinel-2, top-of-atmosphere reflectance; attribute ``bands`` likewise; the
                                processing level, ``L1C`` or ``L2A``, in ``level`` where it is known
        label  (N, 17)          one-hot; attribute ``source`` says where labels and pixels come from
    training_geo.h5  validation_geo.h5  testing_geo.h5      (optional, as in release v4)
        epsg (N, 1)   tfw (N, 6)   city (N,)

Without ``bands`` the channels are the official 8 and 10. The official files are contiguous float64 (52 GB for
training). Other files are often float32 in gzip chunks. Both are read in one sequential pass with memory that does not
grow with N.

Data: Zhu et al. 2020, doi 10.1109/MGRS.2020.2964708, CC BY 4.0.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar, get_args

import h5py
import numpy as np
from jaxtyping import Float, Int, Num

from bp_lcz.bands import PATCH_SIDE, Channels, Level, resolve_bands
from bp_lcz.errors import UserError
from bp_lcz.params import SPLITS, Split
from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.so2sat.geo import read_geo
from bp_lcz.so2sat.hdf5 import attribute, check_unpacked, dataset_of, offset_in, opened, readable, text

KEYS = ("sen1", "sen2", "label")

WORKERS = os.process_cpu_count() if hasattr(os, "process_cpu_count") else len(os.sched_getaffinity(0))
"""Threads of a pass over the pixels: one for each processor that this process may use."""

_SLAB_BYTES = 2**28
"""Largest number of bytes that one read of a chunked file holds, so that memory is bounded for large chunks."""

_AHEAD = 4
"""Slabs in progress for each thread, so that no thread waits for the one that takes results."""

T = TypeVar("T")

Slab = tuple[
    int,
    Float[np.ndarray, "patch 32 32 c1"],
    Float[np.ndarray, "patch 32 32 c2"],
    Num[np.ndarray, "patch 17"],
]


@dataclass(frozen=True)
class StoredArray:
    """How an array is stored in its file.

    Attributes:
        key: ``sen1``, ``sen2`` or ``label``.
        shape: patches first.
        dtype: type of the stored values.
        offset: byte of the file at which its values begin, or None if HDF5 has to read them, see `offset_in`.
    """

    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int | None

    def read(self, descriptor: int, first: int, last: int) -> np.ndarray:
        """Patches first..last - 1 of an array that is one run of bytes.

        Raises:
            OSError: if the file ends before them.
        """
        assert self.offset is not None
        values = np.empty((last - first, *self.shape[1:]), dtype=self.dtype)
        room = values.reshape(-1).view(np.uint8).data
        position = self.offset + first * (values.nbytes // max(last - first, 1))
        while room:
            got = os.preadv(descriptor, [room], position)
            if not got:
                raise OSError("end of file")
            room, position = room[got:], position + got
        return values


class SplitReader:
    """One open split whose form was checked. `open_split` makes it.

    Attributes:
        path: the HDF5 file.
        count: number of patches N.
        has_labels: whether the file holds ``label``.
        arrays: how sen1, sen2 and label (if there is one) are stored.
        channels: names of the channels in stored order.
        source: provenance that the file states, or None.
        level: processing level of Sentinel-2 that the file states, or None.
    """

    def __init__(self, path: Path, file: h5py.File, descriptor: int, needs_labels: bool = True) -> None:
        self.path = path
        self.has_labels = needs_labels or "label" in file
        needed = KEYS if needs_labels else KEYS[:2]
        self._sen2 = _dataset(path, file, "sen2", needed)
        has_sen1 = file.get("sen1", getlink=True) is not None
        # Without channels there is nothing to store, and HDF5 does not allow an array of that shape.
        self._sen1: Any
        self._sen1 = _dataset(path, file, "sen1", needed) if has_sen1 else np.empty((*self._sen2.shape[:3], 0), "f4")
        self._label = _dataset(path, file, "label", needed) if self.has_labels else None
        counted = self._label if self._label is not None else self._sen1 if has_sen1 else self._sen2
        images = (self._sen1, self._sen2)
        self._datasets = images if self._label is None else (*images, self._label)
        self.arrays = tuple(
            _array(path, key, dataset, descriptor) for key, dataset in zip(KEYS, self._datasets, strict=False)
        )
        self._descriptor = descriptor
        self.count: int = counted.shape[0]
        self.channels = Channels(_bands(path, "sen1", self._sen1) if has_sen1 else (), _bands(path, "sen2", self._sen2))
        source = attribute(path, counted, "source")
        self.source: str | None = None if source is None else text(source)
        self.level = _level(path, self._sen2)
        for array in self.arrays[:2]:
            if array.shape[0] != self.count:
                name = "sen1" if self._label is None else "label"
                raise UserError(path, f"{array.key} has {array.shape[0]} patches but {name} has {self.count}")

    def labels(self) -> Num[np.ndarray, "patch 17"]:
        """All labels as stored."""
        assert self._label is not None
        with readable(self.path, self._label):
            return np.asarray(self._label[:])

    def mapped(self) -> tuple[np.memmap, np.memmap]:
        """sen1 and sen2 of the file, mapped into memory.

        Raises:
            UserError: if one of them is not one run of bytes of this file.
        """
        sen1, sen2 = (self._map(array) for array in self.arrays[:2])
        return sen1, sen2

    def _map(self, array: StoredArray) -> np.memmap:
        if array.offset is None:
            raise UserError(
                self.path,
                f"{array.key} is no plain run of bytes in this file (chunks, links), which cannot be mapped in place; "
                "set store to packed or auto",
            )
        return np.memmap(self.path, array.dtype, "r", array.offset, array.shape)

    def check_unpacked(self) -> None:
        """Refuse compressed arrays with incomplete parts. This takes as long as reading all of them."""
        for dataset in self._datasets:
            if isinstance(dataset, h5py.Dataset):
                check_unpacked(self.path, dataset)

    def chunks(self, rows: int) -> Iterator[Slab]:
        """All patches in stored order and type, in slabs of at most `rows` patches.

        Yields:
            Index of the first patch, sen1, sen2 and label of the slab.

        Raises:
            UserError: if the file cannot be read to its end.
        """
        assert self._label is not None
        for start, (sen1, sen2, label) in self._slabs(rows, 3):
            yield start, sen1, sen2, label

    def images(
        self, rows: int
    ) -> Iterator[tuple[int, Float[np.ndarray, "patch 32 32 c1"], Float[np.ndarray, "patch 32 32 c2"]]]:
        """Like `chunks`, but without labels, which the file need not have."""
        for start, (sen1, sen2) in self._slabs(rows, 2):
            yield start, sen1, sen2

    def _slabs(self, rows: int, count: int) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Slabs of the first `count` of sen1, sen2 and label."""
        if all(array.offset is not None for array in self.arrays[:count]):
            for first in range(0, self.count, rows):
                yield first, self._contiguous(first, min(first + rows, self.count), count)
            return
        # A chunk is decompressed as a whole, so this reads whole chunks and yields them in pieces.
        step = max([rows] + [_chunks(dataset)[0] for dataset in (self._sen1, self._sen2) if _chunks(dataset)])
        patch_bytes = sum(int(np.prod(d.shape[1:])) * d.dtype.itemsize for d in (self._sen1, self._sen2))
        step = max(rows, min(step, _SLAB_BYTES // patch_bytes))
        for first in range(0, self.count, step):
            last = min(first + step, self.count)
            with readable(self.path, *self._datasets[:count]):
                arrays = [dataset[first:last] for dataset in self._datasets[:count]]
            for start in range(0, last - first, rows):
                yield first + start, [array[start : start + rows] for array in arrays]

    def sen1_chunks(self, rows: int) -> Iterator[Float[np.ndarray, "patch 32 32 c1"]]:
        """Only Sentinel-1 of all patches in stored order, in slabs of at most `rows` patches.

        Raises:
            UserError: if the file cannot be read to its end.
        """
        for _, (sen1,) in self._slabs(rows, 1):
            yield sen1

    def pick(
        self, indices: Int[np.ndarray, " index"]
    ) -> Iterator[tuple[int, Float[np.ndarray, "32 32 c1"], Float[np.ndarray, "32 32 c2"]]]:
        """Single patches, without reading the others of a contiguous file.

        Args:
            indices: ascending indices of the patches.

        Yields:
            Index, sen1 and sen2 of a patch.

        Raises:
            UserError: if the file cannot be read at one of these patches.
        """
        images = (self._sen1, self._sen2)
        is_plain = all(array.offset is not None for array in self.arrays[:2])
        # A chunk is decompressed as a whole, so wanted patches of one chunk are read together.
        shared = 1 if is_plain else max((_chunks(dataset) or (1,))[0] for dataset in images)
        for _, group in groupby(indices.tolist(), lambda index: index // shared):
            members = list(group)
            first, last = members[0], members[-1] + 1
            with readable(self.path, *images):
                sen1, sen2 = (
                    self._contiguous(first, last, 2) if is_plain else [dataset[first:last] for dataset in images]
                )
            for index in members:
                yield index, sen1[index - first], sen2[index - first]

    def map(self, function: Callable[..., T], rows: int, workers: int = WORKERS) -> Iterator[T]:
        """`function(start, sen1, sen2, label)` of each slab of `chunks(rows)`, in stored order.

        Several threads read contiguous files and run the function, which should spend its time in NumPy. Their number
        does not change the results.

        Raises:
            UserError: if the file cannot be read to its end.
        """
        if all(array.offset is not None for array in self.arrays):
            tasks: Iterator[Callable[[], T]] = (
                lambda first=first: function(first, *self._contiguous(first, min(first + rows, self.count), 3))
                for first in range(0, self.count, rows)
            )
        else:
            # HDF5 decompresses under a global lock, so this thread reads and other threads compute.
            tasks = (lambda slab=slab: function(*slab) for slab in self.chunks(rows))
        with ThreadPoolExecutor(workers) as pool:
            waiting: deque[Future[T]] = deque()
            try:
                for task in tasks:
                    waiting.append(pool.submit(task))
                    if len(waiting) >= _AHEAD * workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _contiguous(self, first: int, last: int, count: int) -> list[np.ndarray]:
        """Patches first..last - 1 of the first `count` arrays, read from the file without HDF5 and its lock.

        If the file were mapped into memory, its pages would count as memory of this process.
        """
        with readable(self.path):
            return [array.read(self._descriptor, first, last) for array in self.arrays[:count]]


@contextmanager
def open_split(root: Path, split: Split) -> Iterator[SplitReader]:
    """Open one split read-only and check its form.

    Args:
        root: folder of the data set.
        split: ``training``, ``validation`` or ``testing``.

    Raises:
        UserError: if the file is missing, not a readable HDF5 file, or not in So2Sat's form. The text names the file,
            the key and the cause.

    Example:
        >>> with open_split(Path("data/demo"), "testing") as reader:
        ...     for start, sen1, sen2, label in reader.chunks(rows=10):
        ...         print(start, sen1.shape, sen2.shape, label.shape)
        0 (10, 32, 32, 8) (10, 32, 32, 10) (10, 17)
        10 (7, 32, 32, 8) (7, 32, 32, 10) (7, 17)
    """
    path = root / f"{split}.h5"
    if not root.is_dir():
        raise UserError(root, "no such folder; dataset.root must name a folder with So2Sat files")
    if not path.exists():
        raise UserError(path, f"not found; a data set needs {', '.join(f'{s}.h5' for s in SPLITS)}")
    with open_patches(path) as reader:
        yield reader


@contextmanager
def open_patches(path: Path, needs_labels: bool = True) -> Iterator[SplitReader]:
    """Open one file of any name read-only, without labels if they are not needed; errors are those of `open_split`."""
    with opened(path) as file, path.open("rb") as raw:
        with readable(path):
            reader = SplitReader(path, file, raw.fileno(), needs_labels)
        yield reader


def check_dataset(root: Path) -> Channels:
    """Check the form of all three splits and of their geo files without reading a pixel.

    Returns:
        The channels, the same in all splits.

    Raises:
        UserError: for the reasons of `open_split` and `read_geo`, or if splits have different channels or levels.
    """
    channels: Channels | None = None
    stated: tuple[Path, Level] | None = None
    for split in SPLITS:
        with open_split(root, split) as reader:
            channels = channels or reader.channels
            for key in ("sen1", "sen2"):
                here, first = getattr(reader.channels, key), getattr(channels, key)
                if here != first:
                    found, expected = (", ".join(names) or "none" for names in (here, first))
                    raise UserError(reader.path, f"{key} has the channels {found} but {SPLITS[0]}.h5 has {expected}")
            if reader.level is not None:
                stated = stated or (reader.path, reader.level)
                if reader.level != stated[1]:
                    raise UserError(
                        reader.path, f"sen2 is of level {reader.level}, but that of {stated[0].name} of {stated[1]}"
                    )
            read_geo(root, split, reader.count)
    assert channels is not None
    return channels


def dataset_name(root: Path) -> str:
    """Name of the data set, which is the name of its folder."""
    return root.name if root.name not in ("", "..") else root.resolve().name


def _dataset(path: Path, file: h5py.File, key: str, needed: tuple[str, ...]) -> h5py.Dataset:
    """One HDF5 dataset, whose form is checked."""
    dataset = dataset_of(path, file, key)
    if dataset is None:
        raise UserError(path, f"key {key} is missing; expected {', '.join(needed)}")
    patch = "(patches, 17)" if key == "label" else f"(patches, {PATCH_SIDE}, {PATCH_SIDE}, channels)"
    fits = (
        dataset.ndim == 2 and dataset.shape[1] == CLASS_COUNT
        if key == "label"
        else dataset.ndim == 4 and dataset.shape[1:3] == (PATCH_SIDE, PATCH_SIDE)
    )
    if not fits:
        raise UserError(path, f"{key} has shape {dataset.shape}; expected {patch}")
    if dataset.dtype.kind not in ("fiub" if key == "label" else "f"):
        raise UserError(path, f"{key} holds {dataset.dtype}; expected floating-point numbers")
    return dataset


def _level(path: Path, dataset: h5py.Dataset) -> Level | None:
    """The level that a file states. A file need not state one, and So2Sat's own files do not."""
    stated = attribute(path, dataset, "level")
    if stated is None:
        return None
    for level in get_args(Level):
        if text(stated) == level:
            return level
    raise UserError(path, f"level of sen2 is {text(stated)[:40]!r}; expected {' or '.join(get_args(Level))}")


def _chunks(dataset: h5py.Dataset | np.ndarray) -> tuple[int, ...]:
    return (isinstance(dataset, h5py.Dataset) and dataset.chunks) or ()


def _array(path: Path, key: str, dataset: h5py.Dataset | np.ndarray, descriptor: int) -> StoredArray:
    offset = 0 if isinstance(dataset, np.ndarray) else offset_in(descriptor, dataset)
    if offset is not None and offset + dataset.nbytes > path.stat().st_size:
        raise UserError(path, f"{key} extends past the end of the file (truncated?)")
    return StoredArray(key, dataset.shape, dataset.dtype, offset)


def _bands(path: Path, key: str, dataset: h5py.Dataset) -> tuple[str, ...]:
    named = attribute(path, dataset, "bands")
    names = None if named is None else [text(name) for name in np.atleast_1d(named)]
    return resolve_bands(key, dataset.shape[3], names, str(path))
