"""Files and folders that appear whole or not at all, and the one lock of this project.

A lock is a file that the kernel holds for an open descriptor (flock, through `filelock`). It is free again when the
process ends for any reason, so it tells a living writer from a dead one.
"""

import errno
import glob
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import lock_descriptor

from bp_lcz.errors import BusyError, UserError

_OLD, _SUFFIX, _LOCK = "old", ".part", ".lock"
_NO_PLACE = {errno.EEXIST, errno.ENOTDIR, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}
"""Errors of a path under which nothing can be made, unlike refusals of the system or a full disk."""
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""Errors of a file system without locks."""
_PAUSE = 0.05


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside ``target`` that takes its place when the block ends without an exception.

    After an exception the folder is removed and ``target`` is unchanged. The next process that writes ``target``
    removes what a killed process left.

    Raises:
        UserError: before the block begins, if ``target`` cannot be a folder: it or a folder above it is a file, or the
            place cannot hold a folder, or its file system has no locks.
    """
    with _staging(target, is_folder=True) as scratch:
        new = scratch / "new"
        new.mkdir()
        yield new
        if target.exists():
            _put_away(target, scratch / _OLD)
        new.rename(target)


@contextmanager
def staged_file(target: Path) -> Iterator[Path]:
    """A path beside ``target`` whose file takes its place when the block ends without an exception.

    After an exception the file is removed and ``target`` is unchanged. The next process that writes ``target`` removes
    what a killed process left.

    Raises:
        UserError: before the block begins, if ``target`` cannot be a file: it is a folder, device or pipe, or the place
            cannot hold a file, or its file system has no locks.
    """
    with _staging(target, is_folder=False) as scratch:
        new = scratch / target.name
        yield new
        new.replace(target)


@contextmanager
def locked(
    file: Path, busy: str = "held", *, wait: bool = True, tell: Callable[[str], object] | None = None
) -> Iterator[None]:
    """Hold a lock file, with this process's id in it.

    Args:
        file: lock file, which is created if needed and stays.
        busy: message about the process that holds it.
        wait: whether to wait until that process ends or releases it.
        tell: receives the message before the wait; without it the wait is silent.

    Raises:
        BusyError: if another process holds it and `wait` is false.
        UserError: if the file system has no locks.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as opened:
        while True:
            content = opened.enter_context(file.open("a+", encoding="utf-8", errors="replace"))
            if try_lock(content.fileno(), file):
                break
            content.seek(0)
            line = f"{busy} (process {content.read().strip() or 'unknown'})"
            opened.close()
            if not wait:
                raise BusyError(file, line)
            if tell:
                tell(f"{line}; waiting until it ends")
                tell = None
            time.sleep(_PAUSE)
        content.truncate(0)
        content.write(str(os.getpid()))
        content.flush()
        yield


def try_lock(descriptor: int, file: Path) -> bool:
    """Try to lock an open file until it is closed.

    Args:
        descriptor: descriptor of the file, open for writing, since a network file system locks only such files.
        file: path of the file.

    Returns:
        Whether this process holds it; False if another process holds, removed or replaced it.

    Raises:
        UserError: if the file system has no locks.
    """
    try:
        return lock_descriptor(descriptor, blocking=False) and os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            file.parent.absolute(),
            f"its file system has no locks ({reason}); take a folder on a local disk, or mount it with locks "
            "(NFS: with its lock service, Lustre: -o flock)",
        ) from None


def refuse_missing(*files: Path) -> None:
    """Refuse a file or folder that is not there, at once, before slow imports.

    Raises:
        UserError: if one does not exist.
    """
    for file in files:
        if not os.path.exists(file):  # noqa: PTH110 - Path's own fails where a name is too long
            raise UserError(file, "not found")


def refuse_below_file(target: Path) -> None:
    """Refuse at once a target that `staged_folder` would refuse after the computation.

    Raises:
        UserError: if one of the folders in which ``target`` is to be made is a file.
    """
    above = next(place for place in target.absolute().parents if os.path.lexists(place))
    if not os.path.isdir(above):  # noqa: PTH112 - Path's own fails where a name is too long
        raise UserError(target, f"cannot be written: {above} is not a folder")


@contextmanager
def _staging(target: Path, is_folder: bool) -> Iterator[Path]:
    """A scratch folder beside ``target``, locked until this process ends for any reason."""
    expected = "folder" if is_folder else "file"
    with ExitStack() as held:
        try:
            found = _kind(target)
            scratch = _make_scratch(target, held) if found in (None, expected) else None
        except UserError as error:  # no locks: name the folder that the user knows
            raise UserError(target.parent.absolute(), error.what) from None
        except OSError as error:
            if error.errno not in _NO_PLACE:
                raise
            reason = (error.strerror or str(error)).lower()
            raise UserError(
                target, f"cannot be written: {target.parent} is not a folder, nor can it be made one ({reason})"
            ) from None
        if scratch is None:
            raise UserError(target, f"is a {found}; expected the name of a {expected}")
        yield scratch


def _kind(path: Path) -> str | None:
    """What a path is: file, folder, device; None if it does not exist."""
    if path.absolute().parent == Path("/dev"):  # links as /dev/stdout among them, which would be replaced
        return "device"
    if not path.exists():
        return None
    return "file" if path.is_file() else "folder" if path.is_dir() else "device or pipe"


def file_sha256(file: Path) -> str:
    """Digest of a file of any size."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _put_away(folder: Path, old: Path) -> None:
    try:
        folder.rename(old)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.move(folder, old)  # in a container a folder of the image cannot be renamed, only copied


def _make_scratch(target: Path, held: ExitStack) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    for orphan in target.parent.glob(f".{glob.escape(target.name)}-*{_SUFFIX}"):
        with suppress(BusyError, PermissionError), locked(_lock_in(orphan, target), wait=False):
            if (orphan / _OLD).exists() and not target.exists():  # killed between the two renames
                (orphan / _OLD).rename(target)
            shutil.rmtree(orphan, ignore_errors=True)
    while True:
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-", suffix=_SUFFIX))
        # This runs after the lock is released: on NFS a folder with an open file cannot be removed.
        held.callback(shutil.rmtree, scratch, ignore_errors=True)
        with suppress(BusyError):  # another process has just taken it for an orphan, and removes it
            held.enter_context(locked(_lock_in(scratch, target), wait=False))
            return scratch


def _lock_in(scratch: Path, target: Path) -> Path:
    return scratch / f"{target.name}{_LOCK}"
