"""Opens HDF5 files of all kinds: on mounts without locks, with parts in other files, damaged or unreadable."""

import os
import re
import resource
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bp_lcz.errors import UserError, one_line
from bp_lcz.files import NO_LOCKS

_SECONDS = 4
_SOUND = set[tuple[int, int, int, int, str]]()
"""Texts that a child of this process has read: file, its size and time of change, place in the file."""
_ZLIB = h5py.h5z.FILTER_DEFLATE
_SHORT = "holds parts of less than their size: the file is damaged"


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file read-only.

    Raises:
        UserError: if it does not exist or cannot be opened. The text gives HDF5's reason.
    """
    if not path.exists():
        raise UserError(path, "not found")
    with readable(path):
        file = _open(path)
    with file:
        yield file


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, mode="r")  # files linked from DVC's cache are read-only
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return h5py.File(path, mode="r", locking=False)  # a mount without locks cannot have a lock holder


@contextmanager
def readable(path: Path, *datasets: object) -> Iterator[None]:
    """Turn HDF5's errors of several lines into one line with the reason, such as a missing filter of the arrays."""
    try:
        yield
    except PermissionError:
        raise UserError(path, "permission denied") from None
    except BlockingIOError:
        raise UserError(path, "locked by a program that writes it") from None
    except (OSError, RuntimeError, ValueError, TypeError) as error:  # the last two: types that NumPy does not have
        stored = [dataset for dataset in datasets if isinstance(dataset, h5py.Dataset)]
        if missing := ", ".join(sorted({name for dataset in stored for name in _missing_filters(dataset)})):
            raise UserError(
                path,
                f"HDF5 lacks the filter {missing} here (HDF5_PLUGIN_PATH names a folder of filters); "
                "on a machine with the filter, `h5repack -f GZIP=1 IN OUT` makes a file that all can read",
            ) from None
        raise UserError(path, f"HDF5 cannot read it ({reason_of(error)})") from None


def _missing_filters(dataset: h5py.Dataset) -> Iterator[str]:
    plan = dataset.id.get_create_plist()
    for number in range(plan.get_nfilters()):
        code, _, _, name = plan.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            yield f"{code} ({name.decode(errors='replace')})"


def reason_of(error: Exception) -> str:
    """HDF5's own message, which h5py puts in brackets after the failed call."""
    text = one_line(error, most=1000).strip("\"'")
    system = re.search(r"error message = '([^']*)'", text)
    inner = re.search(r"\((.*)\)", text)
    return (system or inner or re.fullmatch("(.*)", text))[1][:200]  # type: ignore[index]


def dataset_of(path: Path, file: h5py.File, key: str) -> h5py.Dataset | None:
    """The array under a key, also through links; None if there is no array of that name.

    Raises:
        UserError: if the array cannot be opened.
    """
    link = None
    try:
        link = file.get(key, getlink=True)
        if link is None:
            return None
        item = file[key]
        lack = _lack_of(path, item) if isinstance(item, h5py.Dataset) else None
    except (KeyError, OSError, RuntimeError) as error:
        target = f", a link to {link.filename}," if isinstance(link, h5py.ExternalLink) else ""
        raise UserError(path, f"{key}{target} cannot be opened ({reason_of(error)})") from None
    if lack is not None:
        raise UserError(path, f"{key} {lack}")
    return item if isinstance(item, h5py.Dataset) else None


def _lack_of(path: Path, dataset: h5py.Dataset) -> str | None:
    """What an array lacks, since HDF5 returns fill values or random memory for missing values."""
    plan = dataset.id.get_create_plist()
    if dataset.is_virtual:
        return _lack_of_sources(path, dataset)
    if plan.get_external_count():
        return _lack_of_external(path, dataset, plan)
    if dataset.chunks:
        if _has_short_part(dataset, plan):
            return _SHORT
        parts = int(np.prod([-(-side // chunk) for side, chunk in zip(dataset.shape, dataset.chunks, strict=True)]))
        unwritten = parts - dataset.id.get_num_chunks()
        return f"was not written to its end: {unwritten} of its {parts} parts are missing" if unwritten > 0 else None
    return "was never written" if dataset.size and not dataset.id.get_storage_size() else None


def _has_short_part(dataset: h5py.Dataset, plan: Any) -> bool:
    """Whether a part without a compressing filter has fewer bytes than its values need.

    HDF5 would return old memory for the rest. The part's own mask tells which filters were not applied to it.
    """
    codes = [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]
    size = int(np.prod(dataset.chunks)) * _item_size(dataset)

    def is_short(part: Any) -> bool | None:
        applied = {code for number, code in enumerate(codes) if not part.filter_mask >> number & 1}
        is_plain = applied <= {h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
        return True if is_plain and part.size < size else None  # None goes on to the next part

    return bool(dataset.id.chunk_iter(is_short))


def check_unpacked(path: Path, dataset: h5py.Dataset) -> None:
    """Unpack all parts that zlib compressed, which takes as long as reading them.

    Raises:
        UserError: if a part has fewer bytes than its values need. HDF5 would return old memory for the rest.
    """
    plan = dataset.id.get_create_plist()
    codes = [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]
    if not dataset.chunks or [code for code in codes if code != h5py.h5z.FILTER_FLETCHER32][-1:] != [_ZLIB]:
        return
    size = int(np.prod(dataset.chunks)) * _item_size(dataset)
    parts: list[Any] = []
    dataset.id.chunk_iter(parts.append)
    for part in parts:
        if not part.filter_mask >> codes.index(_ZLIB) & 1:
            with readable(path, dataset):
                _, packed = dataset.id.read_direct_chunk(part.chunk_offset)
            with suppress(zlib.error):  # HDF5 finds these errors, too
                if len(zlib.decompressobj().decompress(packed, size)) < size:
                    raise UserError(path, f"{dataset.name[1:]} {_SHORT}")


def _item_size(dataset: h5py.Dataset) -> int:
    size: int = dataset.id.get_type().get_size()
    return size


def _lack_of_sources(path: Path, dataset: h5py.Dataset) -> str | None:
    """What a virtual array lacks, since HDF5 returns fill values if a file or its array is not found."""
    sources = dataset.virtual_sources()
    for name, key in {(source.file_name, source.dset_name) for source in sources if "%b" not in source.file_name}:
        places = [path] if name == "." else [place for place in _places(path, name) if place.is_file()]
        if not places:
            return f"has values in {name}, which is not found"
        with _open(places[0]) as file:
            inner = file.get(key)
            if not isinstance(inner, h5py.Dataset):
                return f"has values in {name}, which has no array {key}"
            if lack := _lack_of(places[0], inner):
                return f"has values in {name}, whose array {key} {lack}"
    is_fixed = None not in dataset.maxshape  # one that grows ends where its sources do
    if is_fixed and sum(source.vspace.get_select_npoints() for source in sources) < dataset.size:
        return "is virtual, and no file has a part of it"
    return None


def _places(path: Path, name: str) -> list[Path]:
    """Paths at which HDF5 looks for a source of a virtual array, in its order."""
    prefix = os.environ.get("HDF5_VDS_PREFIX", "").replace("${ORIGIN}", str(path.parent))
    names = [name, Path(name).name] if Path(name).is_absolute() else [name]
    folders = [*([Path(prefix)] if prefix else []), path.parent, Path(), path.resolve().parent]
    return [folder / each for each in names for folder in folders]


def _lack_of_external(path: Path, dataset: h5py.Dataset, plan: Any) -> str | None:
    """What external raw files lack: HDF5 returns zeros if they end early. It reports missing files itself."""
    prefix = os.environ.get("HDF5_EXTFILE_PREFIX", "").replace("${ORIGIN}", str(path.parent))
    rest = dataset.size * _item_size(dataset)
    for number in range(plan.get_external_count()):
        name, offset, size = plan.get_external(number)
        file = Path(prefix, os.fsdecode(name))
        needed = min(rest, size)
        rest -= needed
        if file.exists() and file.stat().st_size < offset + needed:
            return f"has values in {file}, which ends before them"
    return None


def attribute(path: Path, dataset: h5py.Dataset, name: str) -> Any:
    """An attribute, or None if there is none of that name.

    Raises:
        UserError: if HDF5 hangs or crashes at its texts.
    """
    if name in dataset.attrs:
        place = f"{dataset.name} {name}"
        check_texts(path, place, dataset.attrs.get_id(name).dtype, lambda: dataset.attrs[name])
    return dataset.attrs.get(name)


def check_texts(path: Path, place: str, dtype: np.dtype, read: Callable[[], object]) -> None:
    """Read texts of variable length in a child process first, since HDF5 loops for ever if their heap is damaged.

    A child takes 50 ms, so the same texts (``place`` in the file) of an unchanged file are read only once.

    Raises:
        UserError: if the child takes more than `_SECONDS` of processor time, or HDF5 crashes it.
    """
    now = path.stat()
    key = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, place)
    if dtype.kind != "O" or key in _SOUND:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: h5py holds its lock over a fork
        child = os.fork()
    if not child:
        with suppress(BaseException):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
            read()
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise UserError(path, "HDF5 cannot read its texts to the end: the file is damaged")
    _SOUND.add(key)


def offset_in(descriptor: int, dataset: h5py.Dataset) -> int | None:
    """Byte of an open file at which the values of an array begin, as NumPy stores its type.

    None if they are not one plain run of bytes in this file. This is so for arrays that are chunked, compressed,
    compact, virtual, empty, in external storage or behind a link to another file, and for another driver than that of
    plain files or a type that HDF5 converts.
    """
    file = dataset.file
    if file.driver != "sec2" or not os.path.samestat(os.fstat(file.id.get_vfd_handle()), os.fstat(descriptor)):
        return None
    if h5py.h5t.py_create(dataset.dtype) != dataset.id.get_type():
        return None
    offset: int | None = dataset.id.get_offset()
    return offset


def text(value: object) -> str:
    """A string of HDF5, given as bytes or text."""
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
