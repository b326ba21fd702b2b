"""Files and folders that appear whole or not at all, and the lock that tells a living writer from a dead one."""

import errno
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bp_lcz.errors import UserError


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside ``target`` that takes its place when the block ends without an exception.

    After an exception nothing of it is left and ``target`` is as it was. What a killed process left is removed
    by the next one that writes ``target``.

    Raises:
        UserError: before the block begins, if ``target`` cannot be a folder: a file has its name, or that of a folder
            above it, or there can be no folder in that place.
    """
    with _staging(target, is_folder=True) as scratch:
        new = scratch / "new"
        new.mkdir()
        yield new
        if target.exists():
            target.rename(scratch / _OLD)
        new.rename(target)


@contextmanager
def staged_file(target: Path) -> Iterator[Path]:
    """A path beside ``target`` whose file takes its place when the block ends without an exception.

    After an exception nothing of it is left and ``target`` is as it was. What a killed process left is removed
    by the next one that writes ``target``.

    Raises:
        UserError: before the block begins, if ``target`` cannot be a file: it is a folder, or there can be none in
            that place.
    """
    with _staging(target, is_folder=False) as scratch:
        new = scratch / target.name
        yield new
        new.replace(target)


_OLD, _SUFFIX = "old", ".part"
_NO_PLACE = {errno.EEXIST, errno.ENOTDIR, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}
"""Of a path under which nothing can be made, as opposed to one that the system refuses or has no space for."""


@contextmanager
def _staging(target: Path, is_folder: bool) -> Iterator[Path]:
    """A scratch folder beside ``target``, locked as long as this process lives, however it ends."""
    try:
        scratch, lock = _make_scratch(target, is_folder)
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            target, f"cannot be written: {target.parent} is no folder, nor can it be made one ({reason})"
        ) from None
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(lock)


def _make_scratch(target: Path, is_folder: bool) -> tuple[Path, int]:
    """A scratch folder beside ``target``, and the descriptor that locks it."""
    if target.is_file() if is_folder else target.is_dir():
        found, expected = ("file", "folder") if is_folder else ("folder", "file")
        raise UserError(target, f"is a {found}; expected the name of a {expected}")
    target.parent.mkdir(parents=True, exist_ok=True)
    for orphan in target.parent.glob(f".{glob.escape(target.name)}-*{_SUFFIX}"):
        _remove_orphan(orphan, target)
    while True:
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-", suffix=_SUFFIX))
        lock = try_lock(scratch)
        if lock is not None:  # else another process took it for an orphan in this very moment
            return scratch, lock


def _remove_orphan(orphan: Path, target: Path) -> None:
    lock = try_lock(orphan)
    if lock is None:
        return
    if (orphan / _OLD).exists() and not target.exists():  # killed between the two renames
        (orphan / _OLD).rename(target)
    shutil.rmtree(orphan, ignore_errors=True)
    os.close(lock)


def try_lock(folder: Path) -> int | None:
    """Descriptor that holds a folder until it is closed or this process ends, however it ends.

    Returns:
        None if another process holds the folder, or has removed it.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if not folder.is_dir() or not os.path.samestat(os.fstat(descriptor), folder.stat()):
        os.close(descriptor)
        return None
    return descriptor
