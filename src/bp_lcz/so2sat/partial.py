"""The partial file of a download, and the bytes of a mirror that go into it."""

import errno
import hashlib
import os
import sys
import zlib
from functools import partial
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from bp_lcz.errors import BusyError, UserError
from bp_lcz.files import try_lock
from bp_lcz.so2sat.mirrors import BLOCK, RefusedError
from bp_lcz.so2sat.releases import ReleaseFile, gigabytes, releases_of

OVERLAP = 2**16
"""Number of bytes that are requested again, to check that the mirror continues the same file."""

md5 = partial(hashlib.md5, usedforsecurity=False)
bar_of = partial(tqdm, unit="B", unit_scale=True)
_HDF5 = b"\x89HDF\r\n\x1a\n"


def say(text: str) -> None:
    """Print a line on standard error without breaking a progress bar."""
    tqdm.write(text, file=sys.stderr)


def is_of(releases: list[str]) -> str:
    """The releases to which a file belongs, for a message; empty if there are none."""
    return f" (it is that of {' or '.join(releases)})" if releases else ""


class OtherBytesError(RefusedError):
    """A mirror sends bytes that differ from those on disk."""


class Part:
    """``NAME.part``: the bytes so far, their md5, and a lock against a second download of the same file."""

    def __init__(self, path: Path, file: ReleaseFile) -> None:
        self.path, self.file = path, file
        self.size = 0
        self.is_other = False
        self._digest = md5()

    def __enter__(self) -> "Part":
        try:
            self.raw = self.path.open("a+b", buffering=0)
        except OSError as error:
            raise UserError(self.path, f"cannot be written: {error.strerror}") from None
        try:
            if not try_lock(self.raw.fileno(), self.path):
                raise BusyError(self.path, "another download is writing it")
            self._read()
        except BaseException:
            self.raw.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.size == 0:
            self.path.unlink(missing_ok=True)
        self.raw.close()

    @property
    def has_right_md5(self) -> bool:
        return self.file.md5 is None or self._digest.hexdigest() == self.file.md5

    def append(self, block: bytes, stored: bool = False) -> None:
        """Add bytes; with `stored`, they are in the file already."""
        expected = _HDF5[self.size : self.size + len(block)] if self.file.name.endswith(".h5") else b""
        if not block.startswith(expected):
            self.restart()
            raise RefusedError("the mirror sends no HDF5 file, perhaps a page of text")
        if self.file.size is not None and self.size + len(block) > self.file.size:
            raise RefusedError("the mirror sends more bytes than the release has")
        if not stored:
            rest = memoryview(block)
            while rest:
                try:
                    written = self.raw.write(rest)
                except OSError as error:
                    raise self.cannot_write(error) from None
                rest = rest[written:]
        self._digest.update(block)
        self.size += len(block)

    def compare(self, offset: int, block: bytes) -> None:
        """Compare bytes that were sent again with those on disk, which stay unchanged.

        Raises:
            OtherBytesError: if they differ.
        """
        if os.pread(self.raw.fileno(), len(block), offset) != block:
            self.is_other = True
            raise OtherBytesError("the mirror sends other bytes than those that are here, perhaps a page of text")

    def cannot_write(self, error: OSError) -> UserError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            missing = "" if self.file.size is None else f" {gigabytes(self.file.size - self.size)}"
            return UserError(
                self.path,
                f"{(error.strerror or 'disk full').lower()} after {gigabytes(self.size)}, which are kept; "
                f"free{missing or ' space'} and run again",
            )
        return UserError(self.path, f"cannot be written: {error.strerror}")

    def check(self) -> None:
        """Remove the bytes if they are not those of the release.

        Raises:
            RefusedError: if they were removed.
        """
        found = self._digest.hexdigest()
        if self.size != (self.file.size or self.size) or not self.has_right_md5:
            others = is_of(releases_of(self.file.name, self.size, found))
            right = f"{self.file.size or self.size:,} bytes" + (f" with md5 {self.file.md5}" if self.file.md5 else "")
            size = self.size
            self.restart()
            raise RefusedError(f"received {size:,} bytes with md5 {found}, not {right}{others}; removed")

    def finish(self, target: Path) -> None:
        """Give the file its final name."""
        try:
            os.fsync(self.raw.fileno())
            self.path.replace(target)
        except OSError as error:
            raise self.cannot_write(error) from None

    def restart(self) -> None:
        """Forget the bytes so far."""
        self.raw.truncate(0)
        self.size, self._digest = 0, md5()

    def trim(self) -> None:
        """Cut off bytes that a broken attempt wrote and that were not counted."""
        self.raw.truncate(self.size)

    def cut(self, size: int) -> None:
        """Remove all bytes after the first ``size`` ones."""
        self.raw.truncate(size)
        self.size, self._digest = 0, md5()
        self._read()

    def _read(self) -> None:
        """Hash the bytes of an earlier run."""
        size = os.fstat(self.raw.fileno()).st_size
        if self.file.size is not None and size > self.file.size:
            say(f"{self.path}: longer than the file that it is part of; starting from 0")
            self.restart()
            return
        self.raw.seek(0)
        if size:
            with bar_of(desc=f"checking {self.path.name}", total=size) as bar:
                while block := self.raw.read(BLOCK):
                    self._digest.update(block)
                    self.size += len(block)
                    bar.update(len(block))
        if size == self.file.size and not self.has_right_md5:
            say(f"{self.path}: of full length with a wrong checksum; starting from 0")
            self.restart()


class Sink:
    """Writes the bytes of a mirror into a part. Bytes that the part has already are compared and skipped.

    Attributes:
        position: number of received bytes of the mirror's file.
        offset: number of bytes of the target that these give.
    """

    is_packed = False

    def __init__(self, part: Part) -> None:
        self.part = part
        self.position = self.offset = part.size

    @property
    def next_wanted(self) -> int:
        """Offset at which the next transfer begins."""
        return max(0, self.position - OVERLAP)

    def check_offer(self, total: int) -> None:
        size = self.part.file.size
        if size is not None and size != total:
            others = is_of(releases_of(self.part.file.name, total))
            raise RefusedError(f"the mirror offers {total:,} bytes, not {size:,}{others}")
        if size is None and self.part.size > total:
            self.part.is_other = True
            raise RefusedError(f"the mirror offers {total:,} bytes, fewer than the {self.part.size:,} that are here")

    def go_to(self, start: int) -> None:
        self.position = self.offset = start

    def feed(self, block: bytes, stored: bool) -> int:
        """Take a block, and return the number of bytes of the target that it gives."""
        self.position += len(block)
        self._keep(block, stored)
        return len(block)

    def is_complete(self, total: int | None) -> bool:
        size = total if self.part.file.size is None else self.part.file.size
        return size is None or self.part.size == size

    def _keep(self, block: bytes, stored: bool) -> None:
        known = max(0, self.part.size - self.offset)
        self.part.compare(self.offset, block[:known])
        new = block[known:]
        self.offset += len(block)
        if new:
            self.part.append(new, stored)


class GzipSink(Sink):
    """Unpacks the bytes of a gzipped file.

    The state of the unpacker lives as long as the run. A broken connection is resumed where it broke. A new run
    receives the file from its beginning and keeps the bytes on disk.
    """

    is_packed = True

    def __init__(self, part: Part) -> None:
        super().__init__(part)
        self._before = part.size
        self.go_to(0)

    @property
    def next_wanted(self) -> int:
        """Position of the unpacker. Earlier bytes cannot be compared, but gzip has its own checksums."""
        return self.position

    def check_offer(self, total: int) -> None:
        """Check nothing, since the size is that of the packed file."""

    def go_to(self, start: int) -> None:
        if start != self.position or start == 0:
            super().go_to(0)
            self._unpacker = zlib.decompressobj(wbits=31)

    def feed(self, block: bytes, stored: bool) -> int:
        before = self.offset
        self.position += len(block)
        is_more = True
        while block or is_more:
            if self._unpacker.eof:  # another member follows
                self._unpacker = zlib.decompressobj(wbits=31)
            try:
                unpacked = self._unpacker.decompress(block, BLOCK)
            except zlib.error:
                self.part.cut(self._before)  # earlier output may be wrong, too
                raise RefusedError("the mirror's gzip file is damaged") from None
            self._keep(unpacked, stored)
            block = self._unpacker.unused_data if self._unpacker.eof else self._unpacker.unconsumed_tail
            is_more = len(unpacked) == BLOCK and not self._unpacker.eof
        return self.offset - before

    def is_complete(self, total: int | None) -> bool:
        return self._unpacker.eof and (total is None or self.position == total)
