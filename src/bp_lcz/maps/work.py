"""Keeps the finished rows of a map on disk, so that a killed run can continue."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from bp_lcz.errors import UserError
from bp_lcz.files import locked
from bp_lcz.maps.cells import WITH_ZONE

_SECONDS = 5
"""Seconds after which rows are written. A killed run loses these, and rows that wait for their batch."""


class FinishedRows:
    """Rows of cells in a file that only grows. An incomplete row does not count.

    Attributes:
        count: number of finished rows.
    """

    def __init__(self, file: Path, kept: np.dtype, across: int) -> None:
        self._path, self._type, self._across = file, kept, across
        row = across * kept.itemsize
        self.count = file.stat().st_size // row if file.exists() else 0
        self._file = file.open("ab")
        self._file.truncate(self.count * row)
        self._waiting: list[bytes] = []
        self._since = time.monotonic()

    def add(self, cells: Shaped[np.ndarray, " cell"]) -> None:
        """Keep the next row."""
        self._waiting.append(cells.tobytes())
        self.count += 1
        if time.monotonic() - self._since > _SECONDS:
            self.keep()

    def keep(self) -> None:
        """Write added rows to the disk."""
        self._file.write(b"".join(self._waiting))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._waiting.clear()
        self._since = time.monotonic()

    def read(self) -> Shaped[np.ndarray, "row cell"]:
        """All finished rows, as a memory-mapped array."""
        self.keep()
        if not self.count:
            return np.empty((0, self._across), self._type)
        return np.memmap(self._path, self._type, "r", shape=(self.count, self._across))

    def predicted(self) -> int:
        """Number of their cells that a model has predicted."""
        return sum(int(np.isin(row["reason"], WITH_ZONE).sum()) for row in self.read())

    def close(self) -> None:
        """Write added rows and close the file."""
        self.keep()
        self._file.close()


@contextmanager
def finished_rows(out: Path, key: str, kept: np.dtype, across: int) -> Iterator[FinishedRows]:
    """The rows that earlier runs have finished for the same map, in a folder beside it that goes when the block ends.

    After an exception the folder stays, for the next run.

    Args:
        out: folder of the map.
        key: hash of everything that decides its bytes, from `key_of`.
        kept: type of the values that are kept for a cell.
        across: number of cells in a row.

    Raises:
        BusyError: if another process makes a map of that name.
        UserError: if the map exists.
    """
    folder = out.parent / f".{out.name}.work"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(out, f"cannot be written: {error.filename} is not a folder") from None
    with locked(folder / "lock", "another process makes this map", wait=False):
        refuse_existing(out)
        rows = FinishedRows(folder / f"{key}.rows", kept, across)
        try:
            yield rows
        finally:
            rows.close()
        shutil.rmtree(folder)


def refuse_existing(out: Path) -> None:
    """Refuse to overwrite a map.

    Raises:
        UserError: if there is a folder or file of that name.
    """
    try:
        is_there = out.exists()
    except OSError as error:  # a name that is too long
        raise UserError(out, f"cannot be made: {str(error.strerror).lower()}") from None
    if is_there:
        raise UserError(out, "exists already; name a new folder, or remove this one")


def key_of(facts: Any) -> str:
    """A short hash of facts, written as JSON, or by `str` where JSON has no form for them."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]
