"""Rows of the benchmark: how two ways of doing a thing are timed side by side, and when a row passes.

Both sides of a row run in one process, in turns, so that a slow minute of the machine affects both. The interval of the
ratio decides a row, never one number. The duration of a measurement never depends on the verdict.
"""

import gc
import importlib
import pkgutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import binom

from bp_lcz.errors import UserError

LEVEL = 0.95
"""Confidence level of the intervals."""

REPEATS = 30
MOST_REPEATS = 90
"""Number of pairs if the interval of `REPEATS` pairs is too wide."""

WIDE = 0.1
"""Default width of an interval, as a share of the ratio, above which it is too wide."""

QUICK_REPEATS = 6
"""Repeats of ``--quick``: the smallest number whose extreme ratios enclose the median with probability `LEVEL`."""

Cache = Literal["warm", "cold"]


@dataclass(frozen=True)
class Setup:
    """Where and how thoroughly rows are measured.

    Attributes:
        folder: scratch folder for data of rows. All rows share it, and it is removed after the last one.
        quick: tiny sizes and `QUICK_REPEATS`, which show only that a row runs.
        large: whether to measure rows that need more disk than memory, too.
        device: ``cpu`` or ``cuda``.
        threads: threads of torch.
    """

    folder: Path
    quick: bool = False
    large: bool = False
    device: str = "cpu"
    threads: int = 1


@dataclass(frozen=True)
class Goal:
    """A bound for the ratio of ours to theirs."""

    bound: float
    direction: Literal["at least", "at most"] = "at least"


@dataclass(frozen=True)
class Ratio:
    """Median ratio of ours to theirs and its interval."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Measured:
    """Results of a row. Entries i of both sides were measured back to back.

    Attributes:
        ours: values in the row's unit, one for each repeat; a single value is an exact count and its own interval.
        theirs: values of the other side, in the same form.
        cache: whether the files were in the page cache; None without files.
        beside: further figures of the row, by label.
        note: one sentence that a reader needs to judge the row.
    """

    ours: Float[np.ndarray, " repeat"]
    theirs: Float[np.ndarray, " repeat"]
    cache: Cache | None = None
    beside: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


class NotMeasuredError(Exception):
    """Raised by a row that cannot run here. Its text gives the reason in the table."""


@dataclass(frozen=True)
class Row:
    """One line of the table. A module of `benchmarks.rows` holds some of them in the tuple ``ROWS``.

    Attributes:
        name: name for ``--rows``.
        what: what is measured.
        against: what it is compared with.
        unit: unit of both sides, e.g. ``patches/s`` or ``MiB``.
        goal: bound of ours / theirs; None for a row that only informs.
        measure: measures both sides; may raise `NotMeasuredError`.
    """

    name: str
    what: str
    against: str
    unit: str
    goal: Goal | None
    measure: Callable[[Setup], Measured]


@dataclass(frozen=True)
class Side:
    """One of the two ways that a row compares.

    Attributes:
        work: called with the number of the repeat; one call is timed.
        amount: units of work in one call; both sides may differ in it.
        before: called before each call without being timed, for example to empty a cache.
    """

    work: Callable[[int], object]
    amount: float = 1.0
    before: Callable[[int], object] | None = None


def rates(setup: Setup, ours: Side, theirs: Side, wide: float = WIDE) -> tuple[np.ndarray, np.ndarray]:
    """Units of work per second of both sides, measured in turns after one call of each to warm up.

    Args:
        setup: where and how thoroughly to measure.
        ours: one side.
        theirs: the other side.
        wide: width of the interval, as a share of the ratio, above which there are more repeats. A goal near 1 needs a
            narrow interval.

    Returns:
        Two arrays of equal length: `QUICK_REPEATS`, `REPEATS` or `MOST_REPEATS`.
    """
    return _in_turns(setup, ours, theirs, lambda side, seconds: side.amount / seconds, wide)


def seconds(setup: Setup, ours: Side, theirs: Side) -> tuple[np.ndarray, np.ndarray]:
    """Seconds per unit of work of both sides; otherwise as `rates`."""
    return _in_turns(setup, ours, theirs, lambda side, seconds: seconds / side.amount)


def _in_turns(
    setup: Setup, ours: Side, theirs: Side, value: Callable[[Side, float], float], wide: float = WIDE
) -> tuple[np.ndarray, np.ndarray]:
    sides = (ours, theirs)
    for side in sides:
        timed(setup, side, 0)
    found: tuple[list[float], list[float]] = ([], [])
    for limit in (QUICK_REPEATS,) if setup.quick else (REPEATS, MOST_REPEATS):
        while len(found[0]) < limit:
            repeat = len(found[0])
            # The second side finds the caches of the first, so the order alternates.
            for position in (0, 1) if repeat % 2 == 0 else (1, 0):
                found[position].append(value(sides[position], timed(setup, sides[position], repeat)))
        ratio = ratio_of(np.array(found[0]), np.array(found[1]))
        if ratio.high - ratio.low <= wide * ratio.median:
            break
    return np.array(found[0]), np.array(found[1])


def timed(setup: Setup, side: Side, repeat: int) -> float:
    """Seconds of one call, including the device's queue, without the garbage collector."""
    if side.before is not None:
        side.before(repeat)
    gc.collect(0)
    gc.disable()
    try:
        finish(setup)
        start = time.perf_counter()
        side.work(repeat)
        finish(setup)
        return time.perf_counter() - start
    finally:
        gc.enable()


def finish(setup: Setup) -> None:
    """Wait for the device's queue."""
    if setup.device == "cuda":
        torch.cuda.synchronize()


def ratio_of(ours: Float[np.ndarray, " repeat"], theirs: Float[np.ndarray, " repeat"]) -> Ratio:
    """Median of the ratios of pairs, with an interval between two order statistics.

    For any distribution, this interval holds the median with a probability of at least `LEVEL`, since the number of
    values below the median is binomial. One pair is an exact count.

    Raises:
        ValueError: if the sides differ in length or 2 to 5 pairs are too few for an interval.
    """
    if ours.shape != theirs.shape or not len(ours):
        raise ValueError(f"{len(ours)} values of ours, {len(theirs)} of theirs; expected pairs")
    ratios = np.sort(ours / theirs)
    if len(ratios) == 1:
        return Ratio(*[float(ratios[0])] * 3)
    below = int(binom.ppf((1 - LEVEL) / 2, len(ratios), 0.5))
    outside = below if binom.cdf(below, len(ratios), 0.5) <= (1 - LEVEL) / 2 else below - 1
    if outside < 0:
        raise ValueError(f"{len(ratios)} pairs give no {LEVEL:.0%} interval; {QUICK_REPEATS} do")
    return Ratio(float(np.median(ratios)), float(ratios[outside]), float(ratios[-1 - outside]))


def verdict(ratio: Ratio, goal: Goal | None) -> Literal["met", "missed", "open", ""]:
    """``met`` if the whole interval reaches the goal, ``missed`` if no part does, else ``open``; "" without goal."""
    if goal is None:
        return ""
    at_least = goal.direction == "at least"
    reached = [value >= goal.bound if at_least else value <= goal.bound for value in (ratio.low, ratio.high)]
    return "met" if all(reached) else "open" if any(reached) else "missed"


def find_rows(names: Sequence[str] = ()) -> list[Row]:
    """The rows of all modules of `benchmarks.rows` in the order of the modules' names, or those named.

    Raises:
        UserError: if a name is unknown.
    """
    package = importlib.import_module("benchmarks.rows")
    modules = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    rows: list[Row] = [
        row for name in modules for row in getattr(importlib.import_module(f"benchmarks.rows.{name}"), "ROWS", ())
    ]
    known = [row.name for row in rows]
    for name in names:
        if name not in known:
            raise UserError("bench", f"no row '{name}'; known: {', '.join(known)}")
    return [row for row in rows if not names or row.name in names]
