"""So2Sat LCZ42's file layout: the only place that knows it, and the only place that checks it.

A data set is a folder::

    training.h5  validation.h5  testing.h5
        sen1   (N, 32, 32, C1)  Sentinel-1, linear; names of the channels in the attribute ``bands``
        sen2   (N, 32, 32, C2)  Sentinel-2, top-of-atmosphere reflectance; attribute ``bands`` likewise
        label  (N, 17)          one-hot; attribute ``source`` says where labels and pixels come from
    training_geo.h5  validation_geo.h5  testing_geo.h5      (optional, as in release v4)
        epsg (N, 1)   tfw (N, 6)   city (N,)

Without ``bands`` the channels are the official 8 and 10. The official files are contiguous float64 (52 GB
for training), own files are often float32 in gzip chunks; both are read in one sequential pass with memory
that does not grow with N.

Data: Zhu et al. 2020, doi 10.1109/MGRS.2020.2964708, CC BY 4.0.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float, Int, Num

from bp_lcz.bands import PATCH_SIDE, Channels, resolve_bands
from bp_lcz.errors import UserError
from bp_lcz.params import SPLITS, Split
from bp_lcz.scheme import CLASS_COUNT

KEYS = ("sen1", "sen2", "label")
PIXEL_M = 10.0

_SLAB_BYTES = 2**29
"""Most that one read holds of a chunked file, so that memory stays bounded for chunks of many patches."""

Slab = tuple[
    int,
    Float[np.ndarray, "patch 32 32 c1"],
    Float[np.ndarray, "patch 32 32 c2"],
    Num[np.ndarray, "patch 17"],
]


@dataclass(frozen=True)
class Geo:
    """Where the patches of a split lie.

    Attributes:
        city: name of the city of each patch.
        epsg: code of the projection, a local UTM zone.
        easting: of the upper left pixel, in m, as the world file states it.
        northing: of the upper left pixel, in m.
    """

    city: np.ndarray
    epsg: Int[np.ndarray, " patch"]
    easting: Float[np.ndarray, " patch"]
    northing: Float[np.ndarray, " patch"]


@dataclass(frozen=True)
class Piece:
    """Where an array lies in a file that holds it as one uncompressed piece.

    Attributes:
        offset: of its first byte.
        dtype: of its values, byte order included.
        patch: shape of one patch.
    """

    offset: int
    dtype: np.dtype[Any]
    patch: tuple[int, ...]


class SplitReader:
    """One open split whose form has been checked; `open_split` makes it.

    Attributes:
        path: the HDF5 file.
        count: number of patches N.
        channels: names of the channels in stored order.
        source: provenance as the file states it, or None.
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self._sen1, self._sen2, self._label = (_dataset(path, file, key) for key in KEYS)
        self.count: int = self._label.shape[0]
        self.channels = Channels(_bands(path, "sen1", self._sen1), _bands(path, "sen2", self._sen2))
        source = self._label.attrs.get("source")
        self.source: str | None = None if source is None else _text(source)
        for dataset in (self._sen1, self._sen2):
            if dataset.shape[0] != self.count:
                raise UserError(f"{path}: {_key(dataset)} has {dataset.shape[0]} patches but label has {self.count}")

    def labels(self) -> Num[np.ndarray, "patch 17"]:
        """All labels as stored."""
        with _readable(self.path):
            return np.asarray(self._label[:])

    def pieces(self) -> tuple[Piece, Piece]:
        """Where sen1 and sen2 lie in the file.

        Raises:
            UserError: if one of them is stored in chunks, which only HDF5 itself can read.
        """
        return _piece(self.path, self._sen1), _piece(self.path, self._sen2)

    def chunks(self, rows: int) -> Iterator[Slab]:
        """All patches in stored order and type, in slabs of at most `rows` patches.

        Yields:
            Index of the first patch, sen1, sen2 and label of the slab.

        Raises:
            UserError: if the file cannot be read to its end.
        """
        # A chunk is decompressed as a whole: read whole chunks and hand them out in pieces.
        step = max([rows] + [dataset.chunks[0] for dataset in (self._sen1, self._sen2) if dataset.chunks])
        patch_bytes = sum(int(np.prod(d.shape[1:])) * d.dtype.itemsize for d in (self._sen1, self._sen2))
        step = max(rows, min(step, _SLAB_BYTES // patch_bytes))
        for first in range(0, self.count, step):
            last = min(first + step, self.count)
            with _readable(self.path):
                sen1, sen2, label = (d[first:last] for d in (self._sen1, self._sen2, self._label))
            for start in range(0, last - first, rows):
                piece = slice(start, start + rows)
                yield first + start, sen1[piece], sen2[piece], label[piece]


@contextmanager
def open_split(root: Path, split: Split) -> Iterator[SplitReader]:
    """Open one split read-only and check its form.

    Args:
        root: folder of the data set.
        split: ``training``, ``validation`` or ``testing``.

    Raises:
        UserError: if the file is missing, no readable HDF5 file, or not in So2Sat's form; the text names the
            file, the key and the cause.

    Example:
        >>> with open_split(Path("data/demo"), "testing") as reader:
        ...     for start, sen1, sen2, label in reader.chunks(rows=256):
        ...         ...
    """
    path = root / f"{split}.h5"
    with _open(path) as file:
        yield SplitReader(path, file)


def check_dataset(root: Path) -> Channels:
    """Check the form of all three splits and of their geo files without reading a pixel.

    Returns:
        The channels, the same in all splits.

    Raises:
        UserError: as `open_split` and `read_geo`, or if two splits differ in their channels.
    """
    channels: Channels | None = None
    for split in SPLITS:
        with open_split(root, split) as reader:
            channels = channels or reader.channels
            for key in ("sen1", "sen2"):
                here, first = getattr(reader.channels, key), getattr(channels, key)
                if here != first:
                    raise UserError(
                        f"{reader.path}: {key} has the channels {', '.join(here)} "
                        f"but {SPLITS[0]}.h5 has {', '.join(first)}"
                    )
            read_geo(root, split, reader.count)
    assert channels is not None
    return channels


def read_geo(root: Path, split: Split, count: int | None = None) -> Geo | None:
    """Where the patches of a split lie, or None if there is no ``<split>_geo.h5``.

    Args:
        root: folder of the data set.
        split: ``training``, ``validation`` or ``testing``.
        count: number of patches of the split, checked when given.

    Raises:
        UserError: if the file is unreadable, lacks a key, has another number of patches, or its pixels are
            not 10 m wide (the first 2025 release of v4 had another order of ``tfw``).
    """
    path = root / f"{split}_geo.h5"
    if not path.exists():
        return None
    with _open(path) as file:
        for key in ("city", "epsg", "tfw"):
            if not isinstance(file.get(key), h5py.Dataset):
                raise UserError(f"{path}: key {key} is missing")
        with _readable(path):
            city, epsg, tfw = file["city"][:], file["epsg"][:], file["tfw"][:]
    expected = len(city) if count is None else count
    for key, values, shapes in (
        ("city", city, [(expected,), (expected, 1)]),
        ("epsg", epsg, [(expected,), (expected, 1)]),
        ("tfw", tfw, [(expected, 6)]),
    ):
        if values.shape not in shapes:
            raise UserError(f"{path}: {key} has shape {values.shape}; {split}.h5 needs {shapes[-1]}")
    # World-file order A, D, B, E, C, F.
    off = np.flatnonzero((np.abs(tfw[:, 0]) != PIXEL_M) | (np.abs(tfw[:, 3]) != PIXEL_M))
    if off.size:
        raise UserError(
            f"{path}: tfw[{off[0]}] is {tfw[off[0]].tolist()}; expected the order A, D, B, E, C, F "
            f"with pixels of {PIXEL_M:g} m"
        )
    return Geo(
        city=np.array([_text(name) for name in city.ravel()], dtype=str),
        epsg=epsg.ravel().astype(np.int64),
        easting=tfw[:, 4].astype(np.float64),
        northing=tfw[:, 5].astype(np.float64),
    )


def dataset_name(root: Path) -> str:
    """Name of the data set: that of its folder."""
    return root.name if root.name not in ("", "..") else root.resolve().name


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder; dataset.root must name a folder with So2Sat files")
    if not path.exists():
        raise UserError(f"{path}: not found; a data set needs {', '.join(f'{s}.h5' for s in SPLITS)}")
    with _readable(path):
        # Mode r: files linked from DVC's cache are read-only.
        file = h5py.File(path, mode="r")
    with file:
        yield file


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """HDF5's own multi-line errors as one clear line."""
    try:
        yield
    except PermissionError:
        raise UserError(f"{path}: permission denied") from None
    except BlockingIOError:
        raise UserError(f"{path}: locked by a program that writes it") from None
    except (OSError, RuntimeError):
        raise UserError(f"{path}: not a readable HDF5 file (truncated or corrupted?)") from None


def _dataset(path: Path, file: h5py.File, key: str) -> h5py.Dataset:
    """One dataset, its form checked."""
    dataset = file.get(key)
    if not isinstance(dataset, h5py.Dataset):
        raise UserError(f"{path}: key {key} is missing; expected {', '.join(KEYS)}")
    patch = "(patches, 17)" if key == "label" else f"(patches, {PATCH_SIDE}, {PATCH_SIDE}, channels)"
    fits = (
        dataset.ndim == 2 and dataset.shape[1] == CLASS_COUNT
        if key == "label"
        else dataset.ndim == 4 and dataset.shape[1:3] == (PATCH_SIDE, PATCH_SIDE)
    )
    if not fits:
        raise UserError(f"{path}: {key} has shape {dataset.shape}; expected {patch}")
    if dataset.dtype.kind not in ("fiub" if key == "label" else "f"):
        raise UserError(f"{path}: {key} holds {dataset.dtype}; expected floating-point numbers")
    offset = dataset.id.get_offset()
    if offset is not None and offset + dataset.nbytes > path.stat().st_size:
        raise UserError(f"{path}: {key} extends past the end of the file (truncated?)")
    return dataset


def _piece(path: Path, dataset: h5py.Dataset) -> Piece:
    offset = dataset.id.get_offset()
    if offset is None:
        raise UserError(
            f"{path}: {_key(dataset)} is stored in chunks, which cannot be mapped in place; set store to packed or auto"
        )
    return Piece(offset, dataset.dtype, dataset.shape[1:])


def _bands(path: Path, key: str, dataset: h5py.Dataset) -> tuple[str, ...]:
    named = dataset.attrs.get("bands")
    names = None if named is None else [_text(name) for name in np.atleast_1d(named)]
    return resolve_bands(key, dataset.shape[3], names, str(path))


def _key(dataset: h5py.Dataset) -> str:
    return str(dataset.name).lstrip("/")


def _text(value: object) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
