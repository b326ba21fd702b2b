"""Downloads releases from a mirror to disk, over connections that break.

A file grows as ``NAME.part`` beside its target. It takes the final name in one step, once its size and md5 are those of
the release. The md5 is computed while bytes arrive; bytes of an earlier run are hashed once. A gzipped file is unpacked
on the way. A resumed transfer asks for the last bytes again and compares them, so a web page in place of the file, or a
changed file, is found at once. So a wrong file never has the final name.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bp_lcz.errors import UserError
from bp_lcz.so2sat.mirrors import BLOCK, AbsentError, BrokenError, RefusedError, open_at
from bp_lcz.so2sat.partial import OVERLAP, GzipSink, OtherBytesError, Part, Sink, bar_of, is_of, md5, say
from bp_lcz.so2sat.releases import Release, ReleaseFile, gigabytes, releases_of

RETRIES = 6
"""Number of consecutive attempts without a new byte after which a mirror is given up."""

_LONGEST_PAUSE = 60.0


def download_release(
    release: Release,
    folder: Path,
    mirrors: Sequence[str] = (),
    replace: bool = False,
    retries: int = RETRIES,
    pause: float = 1.0,
) -> None:
    """Download a release into a folder. Files that are there already are verified and kept.

    Args:
        release: what to download.
        folder: target folder, which is created if needed.
        mirrors: folders on servers, tried in this order; by default those of the release.
        replace: remove files of the folder that are not those of the release.
        retries: number of consecutive attempts without a new byte.
        pause: seconds before the second attempt; it doubles with each attempt.

    Raises:
        UserError: if the folder cannot be written or is too small, or holds other files under the same names, or no
            mirror delivers the files of the release. Received bytes are kept for the next run, unless their checksum
            is wrong.
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
    """Compare every file of a folder with a release, by size and checksum, without changing anything.

    Raises:
        UserError: if files are missing or different. It names them, and the releases to which they belong.
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
            return f"has {size:,} bytes, not {file.size:,}{is_of(others)}"
        if file.md5 is None:
            return None
        with path.open("rb") as content, bar_of(desc=f"checking {file.name}", total=size) as bar:
            digest = md5()
            while block := content.read(BLOCK):
                digest.update(block)
                bar.update(len(block))
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    found = digest.hexdigest()
    if found == file.md5:
        return None
    return f"has md5 {found}, not {file.md5}{is_of(releases_of(file.name, size, found))}"


def _say_verified(file: ReleaseFile, prefix: str = "") -> None:
    if file.md5:
        say(f"{file.name}: {prefix}verified, md5 {file.md5}")
    else:
        say(f"{file.name}: {prefix}not verified, no checksum is published")


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
    more = f" and the unknown size of {', '.join(unknown)}" if unknown else ""
    say(f"{release.name} into {folder}: {gigabytes(needed)}{more} to write, {gigabytes(free)} free")
    if needed > free:
        raise UserError(
            folder,
            f"{gigabytes(needed)} needed, {gigabytes(free)} free; free {gigabytes(needed - free)}, "
            "or name a larger disk with --out",
        )


def _offered(file: ReleaseFile, mirrors: Sequence[str]) -> int | None:
    """Size of a file in bytes according to the first mirror that has it; None if none tells."""
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


def measured_rate(file: ReleaseFile, mirrors: Sequence[str], seconds: float = 3.0) -> float | None:
    """Rate in bytes a second of the first mirror with a file; None if there is none. The bytes are discarded.

    Args:
        file: file of the release.
        mirrors: folders on servers.
        seconds: duration of the measurement.
    """
    for mirror in mirrors:
        if mirror.startswith("rsync:"):
            continue
        for ending in ("", ".gz"):
            with (
                suppress(BrokenError, RefusedError),
                Path(os.devnull).open("wb") as nowhere,
                open_at(_address(mirror, file.name) + ending, 0, nowhere) as stream,
            ):
                start, received, spent = time.monotonic(), 0, 0.0
                for block in stream.blocks:
                    received, spent = received + len(block), time.monotonic() - start
                    if spent > seconds:
                        break
                if received:
                    return received / max(spent, 1e-3)
    return None


def _bring(file: ReleaseFile, folder: Path, mirrors: Sequence[str], retries: int, pause: float) -> None:
    """Download one file from the first mirror that delivers it, and verify it before it gets its final name."""
    with Part(_part_path(folder, file), file) as part:
        causes: list[str] = []

        def is_brought_from(mirror: str) -> bool:
            try:
                _bring_from(mirror, part, file, retries, pause)
                part.check()
            except RefusedError as error:
                say(f"{file.name}: {error}")
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
                is_complete = is_brought_from(mirror)  # the bytes from before were wrong, and are removed
        if not is_complete:
            advice = "run again to continue" + ", or remove it to start again" * part.is_other
            kept = f"; {gigabytes(part.size)} are kept in {part.path}, {advice}" if part.size else ""
            raise UserError(folder / file.name, f"no mirror delivers it: {'; '.join(causes)}{kept}")
        part.finish(folder / file.name)
    _say_verified(file)


def _bring_from(mirror: str, part: Part, file: ReleaseFile, retries: int, pause: float) -> None:
    """Download one file from one mirror, which may hold it gzipped."""
    url = _address(mirror, file.name)
    try:
        _transfer(url, Sink(part), file, retries, pause)
    except AbsentError:
        if mirror.startswith("rsync:"):  # it would write the packed file to disk
            raise
        _transfer(f"{url}.gz", GzipSink(part), file, retries, pause)


def _transfer(url: str, sink: Sink, file: ReleaseFile, retries: int, pause: float) -> None:
    """Transfer all bytes of one address, over as many connections as needed.

    Raises:
        RefusedError: if the mirror refuses, or breaks the connection too often without a new byte.
    """
    failures = 0
    farthest = sink.position
    while True:
        sink.part.trim()
        is_middle = False
        try:
            # rsync always continues after the bytes that are there.
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
                    say(f"{file.name}: the server cannot go on in the middle, so the transfer starts from 0 again")
                sink.go_to(stream.start)
                size = file.size or (None if sink.is_packed else stream.total)
                with bar_of(desc=file.name, initial=sink.offset, total=size) as bar:
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
            say(f"{file.name}: {error}; {gigabytes(sink.part.size)} are here, next attempt in {wait:.0f} s")
            time.sleep(wait)
        except OtherBytesError:
            if not is_middle or file.md5 is not None:
                raise
            # The mirror honours ranges but sends other bytes: the file has changed. No checksum tells which is right.
            say(f"{file.name}: has changed on the mirror, so the transfer starts from 0 again")
            sink.part.restart()
            sink.go_to(0)
        except OSError as error:  # rsync writes by itself
            raise sink.part.cannot_write(error) from None
        else:
            return


def _address(mirror: str, name: str) -> str:
    return f"{mirror.rstrip('/')}/{name}"


def _part_path(folder: Path, file: ReleaseFile) -> Path:
    return folder / f"{file.name}.part"
