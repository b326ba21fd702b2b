"""The law for every reader: it reads what the library of the format reads, or refuses in one line; within limits, writing nothing.

    python -m tests.fuzz.run --count 2000 --seed 1       (make fuzz)
    python -m tests.fuzz.run hdf5 parquet --count 100

Each reader runs in a process of its own, so that one that brings its library down is found too. What breaks the law is
kept with its traceback in a folder that is named at the end.
"""

import argparse
import faulthandler
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from bp_lcz.errors import UserError
from tests.fuzz.mutants import mutant
from tests.fuzz.targets import TARGETS, Target

SECONDS = 10
"""Of processor time that one file may take."""
BYTES = 2**30
"""Of memory that one file may take."""
TOLD_EVERY = 60.0
"""Seconds from one line of counts to the next, so that a run that is stopped has told what it did."""


class SlowError(Exception):
    """A file took longer than it may."""


def run_target(name: str, count: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Read mutants of a target's good file.

    Args:
        name: of the target.
        count: of mutants.
        seed: of the changes.
        folder: for the files; those that break the law stay, with their tracebacks beside them.

    Returns:
        How many were ``read``, ``refused`` or broke the law (``found``), and a line for each of the last.
    """
    target, random = TARGETS[name], np.random.default_rng([seed, *name.encode()])
    folder.mkdir(parents=True)
    good = target.make(folder)
    content = good.read_bytes()
    outcome, report = _outcome(target, good, folder)
    assert outcome == "read", f"{name}: the file without changes is not read: {report}"
    counts, lines, told = Counter[str](), [], time.monotonic()
    for number in range(count):
        good.write_bytes(mutant(content, random, target.is_text))
        # Known even if the library brings this process down.
        (folder.parent / f"{name}.last").write_bytes(good.read_bytes())
        outcome, report = _outcome(target, good, folder)
        counts[outcome] += 1
        if outcome == "found":
            kept = folder.parent / f"{name}-{seed}-{number}{good.suffix}"
            kept.write_bytes(good.read_bytes())
            kept.with_name(f"{kept.name}.txt").write_text(report, errors="backslashreplace")
            lines.append(f"{kept.name}: {report.strip().splitlines()[-1][:200]}")
        if time.monotonic() > told + TOLD_EVERY:
            told = time.monotonic()
            print(_shown(name, counts), flush=True)
    return counts, lines


def _shown(name: str, counts: Counter[str]) -> str:
    each = ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("read", "refused", "found"))
    return f"{name:<13} {counts.total()} files: {each}"


def _outcome(target: Target, path: Path, folder: Path) -> tuple[str, str]:
    """``read``, ``refused`` or ``found``, and what is wrong."""
    before = _state(folder, path)
    try:
        with _limits():
            values = target.read(path)
    except UserError as error:
        values, refused = None, str(error)
        if "\n" in refused or len(refused) > 2000:
            return "found", f"a refusal of several or long lines: {refused}"
    except Exception:
        return "found", traceback.format_exc()
    else:
        refused = None
    if _state(folder, path) != before:
        return "found", "something was written"
    if refused is not None:
        return "refused", refused
    if target.reference is not None and values is not None:
        try:
            expected = target.reference(path)
        except Exception:
            return "found", f"read what the library refuses:\n{traceback.format_exc()}"
        same = [a.tobytes() == b.tobytes() for a, b in zip(values, expected, strict=True)]
        if not all(same):
            return "found", f"other values than the library's: {same}"
    return "read", ""


def _state(folder: Path, path: Path) -> list[tuple[str, int]]:
    # A description whose checksum the target sets has the same length before and after.
    return sorted((str(file), file.stat().st_size) for file in folder.rglob("*") if file != path)


@contextmanager
def _limits() -> Iterator[None]:
    def too_slow(*_: object) -> None:
        raise SlowError(f"more than {SECONDS} s")

    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGPROF, too_slow)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + BYTES, before[1]))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    faulthandler.dump_traceback_later(30 * SECONDS, exit=True)  # a library in circles lets no signal through
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGPROF, handler)


def main() -> None:
    """Read the command line; end with status 1 if anything broke the law."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.run", description="Mutants of files against every reader."
    )
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], help="default: all")
    parser.add_argument("--count", type=int, default=1000, help="mutants for each (default: 1000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder is not None:  # a process for one target
        (name,) = arguments.targets
        counts, lines = run_target(name, arguments.count, arguments.seed, arguments.folder / name)
        print(_shown(name, counts), *lines, sep="\n  ", flush=True)
        sys.exit(1 if lines else 0)
    folder, statuses = Path(tempfile.mkdtemp(prefix="bp-lcz-fuzz-")), []
    for name in arguments.targets or TARGETS:
        options = ["--count", str(arguments.count), "--seed", str(arguments.seed), "--folder", str(folder)]
        done = subprocess.run([sys.executable, "-W", "ignore", "-m", "tests.fuzz.run", name, *options], check=False)
        statuses.append(done.returncode)
        if done.returncode not in (0, 1):
            print(f"{name:<13} ended with status {done.returncode}: {folder / f'{name}.last'}")
    if any(statuses):
        sys.exit(f"error: {folder}: files that break the law, with their tracebacks")


if __name__ == "__main__":
    main()
