"""Releases from a mirror to disk, over connections that break.

A file grows as ``NAME.part`` beside its target and takes the final name in one step, when its size and md5 are
those of the release. The md5 is made of the bytes as they come; what an earlier run left is hashed once. A gzipped
file is unpacked on the way. A transfer that goes on asks for the end of what is here once more and compares it: a page
in place of the file, or a file that has changed, is found at once. So nothing wrong ever bears the final name.
"""

import errno
import hashlib
import os
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from bp_lcz.errors import BusyError, UserError
from bp_lcz.files import try_lock
from bp_lcz.so2sat.mirrors import BLOCK, AbsentError, BrokenError, RefusedError, open_at
from bp_lcz.so2sat.releases import Release, ReleaseFile, gigabytes, releases_of

RETRIES = 6
"""Attempts in a row that may bring no new byte before a mirror is given up."""

OVERLAP = 2**16
"""Bytes that are asked for again, to see that the mirror goes on with the same file."""

_LONGEST_PAUSE = 60.0
_md5 = partial(hashlib.md5, usedforsecurity=False)
_bar = partial(tqdm, unit="B", unit_scale=True)
_HDF5 = b"\x89HDF\r\n\x1a\n"


def download_release(
    release: Release,
    folder: Path,
    mirrors: Sequence[str] = (),
    replace: bool = False,
    retries: int = RETRIES,
    pause: float = 1.0,
) -> None:
    """Bring a release into a folder; files that are there already are verified and left alone.

    Args:
        release: what to download.
        folder: where to; made if need be.
        mirrors: folders on servers, tried in this order; those of the release if empty.
        replace: remove files of the folder that are not those of the release.
        retries: attempts in a row that may bring no new byte.
        pause: seconds before the second attempt; doubles with each.

    Raises:
        UserError: if the folder cannot be written or is too small, holds other files under the same names, or no
            mirror delivers what the release promises. What was received is kept for the next run, unless its
            checksum is wrong.
    """
    mirrors = mirrors or release.mirrors
    if not mirrors:
        raise UserError(release.name, "the release names no mirror; give one with --mirror")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(folder, f"cannot be made: {error.strerror}") from None
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(folder, f"cannot be written: {error.strerror}") from None

    wanted, faults = [], {}
    for file in release.files:
        if not (folder / file.name).exists():
            wanted.append(file)
        elif fault := _fault(folder / file.name, file):
            faults[file.name] = fault
            wanted.append(file)
        else:
            _say_verified(file, "there already, ")
    if faults and not replace:
        raise UserError(
            folder,
            f"not {release.name}: {'; '.join(f'{name} {fault}' for name, fault in faults.items())}; "
            "choose another folder, or replace with --replace",
        )
    if not wanted:
        return
    for name in faults:
        try:
            (folder / name).unlink()
        except OSError as error:
            raise UserError(folder / name, f"cannot be removed: {error.strerror}") from None
    _check_space(release, folder, wanted, mirrors)
    for file in wanted:
        _bring(file, folder, mirrors, retries, pause)


def verify_release(release: Release, folder: Path) -> None:
    """Compare every file of a folder with a release, by size and checksum; changes nothing.

    Raises:
        UserError: naming each file that is missing or another, and of which release that one is.
    """
    faults = []
    for file in release.files:
        path = folder / file.name
        fault = _fault(path, file) if path.is_file() else "is missing"
        if fault:
            faults.append(f"{file.name} {fault}")
        else:
            _say_verified(file)
    if faults:
        raise UserError(folder, f"not {release.name}: {'; '.join(faults)}")


def _fault(path: Path, file: ReleaseFile) -> str | None:
    """What is wrong with a file, or None."""
    try:
        size = path.stat().st_size
        if file.size is not None and size != file.size:
            others = releases_of(file.name, size)
            return f"has {size:,} bytes, not {file.size:,}{_is_of(others)}"
        if file.md5 is None:
            return None
        with path.open("rb") as content, _bar(desc=f"checking {file.name}", total=size) as bar:
            digest = _md5()
            while block := content.read(BLOCK):
                digest.update(block)
                bar.update(len(block))
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    found = digest.hexdigest()
    if found == file.md5:
        return None
    return f"has md5 {found}, not {file.md5}{_is_of(releases_of(file.name, size, found))}"


def _is_of(releases: list[str]) -> str:
    return f" (it is that of {' or '.join(releases)})" if releases else ""


def _say_verified(file: ReleaseFile, prefix: str = "") -> None:
    if file.md5:
        _say(f"{file.name}: {prefix}verified, md5 {file.md5}")
    else:
        _say(f"{file.name}: {prefix}not verified, no checksum is published")


def _check_space(release: Release, folder: Path, wanted: Sequence[ReleaseFile], mirrors: Sequence[str]) -> None:
    needed, unknown = 0, []
    for file in wanted:
        part = _part_path(folder, file)
        held = part.stat().st_size if part.exists() else 0
        size = file.size or _offered(file, mirrors)
        if size is None:
            unknown.append(file.name)
        else:
            needed += max(0, size - held)
    free = shutil.disk_usage(folder).free
    more = f" and what {', '.join(unknown)} need" if unknown else ""
    _say(f"{release.name} into {folder}: {gigabytes(needed)}{more} to write, {gigabytes(free)} free")
    if needed > free:
        raise UserError(
            folder,
            f"{gigabytes(needed)} needed, {gigabytes(free)} free; free {gigabytes(needed - free)}, "
            "or name a larger disk with --out",
        )


def _offered(file: ReleaseFile, mirrors: Sequence[str]) -> int | None:
    """Bytes of a file as the first mirror that has it tells; None if none does."""
    for mirror in mirrors:
        if mirror.startswith("rsync:"):
            continue
        with (
            suppress(BrokenError, RefusedError),
            Path(os.devnull).open("wb") as nowhere,
            open_at(_address(mirror, file.name), 0, nowhere) as stream,
        ):
            return stream.total
    return None


def _bring(file: ReleaseFile, folder: Path, mirrors: Sequence[str], retries: int, pause: float) -> None:
    """One file from the first mirror that delivers it, verified under its final name."""
    with _Part(_part_path(folder, file), file) as part:
        causes: list[str] = []

        def is_brought_from(mirror: str) -> bool:
            try:
                _bring_from(mirror, part, file, retries, pause)
                part.check()
            except RefusedError as error:
                _say(f"{file.name}: {error}")
                causes.append(str(error))
                return False
            return True

        is_complete = part.size == file.size and part.has_right_md5
        for mirror in mirrors:
            if is_complete:
                break
            had_bytes = part.size > 0
            is_complete = is_brought_from(mirror)
            if not is_complete and had_bytes and part.size == 0:
                is_complete = is_brought_from(mirror)  # what was here before is to blame, and removed
        if not is_complete:
            advice = "run again to go on" + ", or remove it to start anew" * part.is_other
            kept = f"; {gigabytes(part.size)} are kept in {part.path}, {advice}" if part.size else ""
            raise UserError(folder / file.name, f"no mirror delivers it: {'; '.join(causes)}{kept}")
        part.finish(folder / file.name)
    _say_verified(file)


def _bring_from(mirror: str, part: "_Part", file: ReleaseFile, retries: int, pause: float) -> None:
    """One file from one mirror, which may hold it gzipped."""
    url = _address(mirror, file.name)
    try:
        _transfer(url, _Sink(part), file, retries, pause)
    except AbsentError:
        if mirror.startswith("rsync:"):  # it would write the packed file to disk
            raise
        _transfer(f"{url}.gz", _GzipSink(part), file, retries, pause)


def _transfer(url: str, sink: "_Sink", file: ReleaseFile, retries: int, pause: float) -> None:
    """All bytes of one address, over as many connections as it takes.

    Raises:
        RefusedError: if the mirror refuses, or breaks off too often without a new byte.
    """
    failures = 0
    farthest = sink.position
    while True:
        sink.part.trim()
        is_middle = False
        try:
            # rsync goes on behind what is there, whatever it is asked for.
            wanted = sink.position if url.startswith("rsync:") else sink.next_wanted
            with open_at(url, wanted, sink.part.raw) as stream:
                if stream.total is not None:
                    sink.check_offer(stream.total)
                elif file.size is None and file.md5 is None and not stream.stored:
                    raise RefusedError(
                        "the mirror does not say how long the file is, and nothing is published about it"
                    )
                is_middle = stream.start > 0
                if sink.position and not is_middle and sink.position > OVERLAP:
                    _say(f"{file.name}: the server cannot go on in the middle, so the transfer starts from 0 again")
                sink.go_to(stream.start)
                size = file.size or (None if sink.is_packed else stream.total)
                with _bar(desc=file.name, initial=sink.offset, total=size) as bar:
                    for block in stream.blocks:
                        bar.update(sink.feed(block, stored=stream.stored))
                        if sink.position > farthest:
                            failures, farthest = 0, sink.position
            if not sink.is_complete(stream.total):
                raise BrokenError("the connection closed too early")
        except BrokenError as error:
            failures += 1
            if failures > retries:
                raise RefusedError(f"{error}, {failures} times in a row") from None
            wait = min(pause * 2 ** (failures - 1), _LONGEST_PAUSE)
            _say(f"{file.name}: {error}; {gigabytes(sink.part.size)} are here, next attempt in {wait:.0f} s")
            time.sleep(wait)
        except OtherBytesError:
            if not is_middle or file.md5 is not None:
                raise
            # It honours ranges and sends other bytes: the file has changed, and no checksum tells which is right.
            _say(f"{file.name}: has changed on the mirror, so the transfer starts from 0 again")
            sink.part.restart()
            sink.go_to(0)
        except OSError as error:  # rsync writes by itself
            raise sink.part.cannot_write(error) from None
        else:
            return


class OtherBytesError(RefusedError):
    """A mirror sends other bytes than those that are here."""


class _Part:
    """``NAME.part``: the bytes so far, their md5, and a lock against a second download of the same file."""

    def __init__(self, path: Path, file: ReleaseFile) -> None:
        self.path, self.file = path, file
        self.size = 0
        self.is_other = False
        self._digest = _md5()

    def __enter__(self) -> "_Part":
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
        """Add bytes; `stored` ones are in the file already."""
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
        """Hold bytes that came again against those that are here, which stay as they are.

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
        """Remove the bytes if they are not what the release has.

        Raises:
            RefusedError: if they were removed.
        """
        found = self._digest.hexdigest()
        if self.size != (self.file.size or self.size) or not self.has_right_md5:
            others = _is_of(releases_of(self.file.name, self.size, found))
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
        self.size, self._digest = 0, _md5()

    def trim(self) -> None:
        """Cut off what a broken attempt wrote and nobody has seen."""
        self.raw.truncate(self.size)

    def cut(self, size: int) -> None:
        """Forget all bytes behind the first ones."""
        self.raw.truncate(size)
        self.size, self._digest = 0, _md5()
        self._read()

    def _read(self) -> None:
        """Hash what an earlier run left."""
        size = os.fstat(self.raw.fileno()).st_size
        if self.file.size is not None and size > self.file.size:
            _say(f"{self.path}: longer than the file that it is part of; starting from 0")
            self.restart()
            return
        self.raw.seek(0)
        if size:
            with _bar(desc=f"checking {self.path.name}", total=size) as bar:
                while block := self.raw.read(BLOCK):
                    self._digest.update(block)
                    self.size += len(block)
                    bar.update(len(block))
        if size == self.file.size and not self.has_right_md5:
            _say(f"{self.path}: of full length with a wrong checksum; starting from 0")
            self.restart()


class _Sink:
    """Bytes as a mirror holds them, into a part; those that the part has already are skipped.

    Attributes:
        position: bytes of the mirror's file that were received.
        offset: bytes of the target that these make.
    """

    is_packed = False

    def __init__(self, part: _Part) -> None:
        self.part = part
        self.position = self.offset = part.size

    @property
    def next_wanted(self) -> int:
        """Where the next transfer begins."""
        return max(0, self.position - OVERLAP)

    def check_offer(self, total: int) -> None:
        size = self.part.file.size
        if size is not None and size != total:
            others = _is_of(releases_of(self.part.file.name, total))
            raise RefusedError(f"the mirror offers {total:,} bytes, not {size:,}{others}")
        if size is None and self.part.size > total:
            self.part.is_other = True
            raise RefusedError(f"the mirror offers {total:,} bytes, fewer than the {self.part.size:,} that are here")

    def go_to(self, start: int) -> None:
        self.position = self.offset = start

    def feed(self, block: bytes, stored: bool) -> int:
        """Take a block; returns how many bytes of the target it makes."""
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


class _GzipSink(_Sink):
    """Bytes of a gzipped file, unpacked.

    The state of unpacking lives as long as the run: a broken connection goes on where it broke, a new run receives
    the file from its beginning, and keeps what is on disk.
    """

    is_packed = True

    def __init__(self, part: _Part) -> None:
        super().__init__(part)
        self._before = part.size
        self.go_to(0)

    @property
    def next_wanted(self) -> int:
        """Where the unpacker stands; what it has had cannot be compared, and gzip has checksums of its own."""
        return self.position

    def check_offer(self, total: int) -> None:
        """Nothing: the size is that of the packed file."""

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
                self.part.cut(self._before)  # what it gave before may be wrong too
                raise RefusedError("the mirror's gzip file is damaged") from None
            self._keep(unpacked, stored)
            block = self._unpacker.unused_data if self._unpacker.eof else self._unpacker.unconsumed_tail
            is_more = len(unpacked) == BLOCK and not self._unpacker.eof
        return self.offset - before

    def is_complete(self, total: int | None) -> bool:
        return self._unpacker.eof and (total is None or self.position == total)


def _address(mirror: str, name: str) -> str:
    return f"{mirror.rstrip('/')}/{name}"


def _part_path(folder: Path, file: ReleaseFile) -> Path:
    return folder / f"{file.name}.part"


def _say(text: str) -> None:
    tqdm.write(text, file=sys.stderr)
