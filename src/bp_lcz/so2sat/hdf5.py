"""HDF5 files opened read-only, their errors as one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from bp_lcz.errors import UserError


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """A file, open read-only.

    Raises:
        UserError: if it is missing or no readable HDF5 file.
    """
    if not path.exists():
        raise UserError(path, "not found")
    with readable(path):
        # Mode r: files linked from DVC's cache are read-only.
        file = h5py.File(path, mode="r")
    with file:
        yield file


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """HDF5's own multi-line errors as one clear line."""
    try:
        yield
    except PermissionError:
        raise UserError(path, "permission denied") from None
    except BlockingIOError:
        raise UserError(path, "locked by a program that writes it") from None
    except (OSError, RuntimeError):
        raise UserError(path, "not a readable HDF5 file (truncated or corrupted?)") from None


def text(value: object) -> str:
    """A string as HDF5 gives it, of either kind."""
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
