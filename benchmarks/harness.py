"""What a row of the benchmark is, how two ways of doing a thing are timed side by side, and when a row passes.

Both sides of a row run in one process, in turns, so that a slow minute of the machine hits both. A row is judged by the
interval of the ratio, never by one number, and how long it is measured never depends on the verdict.
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
"""Of the intervals."""

REPEATS = 30
MOST_REPEATS = 90
"""So many pairs where `REPEATS` leave too wide an interval."""

WIDE = 0.1
"""Too wide, as a share of the ratio, if a row does not say otherwise."""

QUICK_REPEATS = 6
"""Of ``--quick``: the fewest whose smallest and largest ratio enclose the median with a probability of `LEVEL`."""

Cache = Literal["warm", "cold"]


@dataclass(frozen=True)
class Setup:
    """Where and how thoroughly rows are measured.

    Attributes:
        folder: scratch for the data that rows make; shared by all rows, removed after the last.
        quick: tiny sizes and `QUICK_REPEATS`: shows that a row runs, says nothing of speed.
        large: rows that need more disk than memory, too.
        device: ``cpu`` or ``cuda``.
        threads: of torch.
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
    """What a row found; entry i of both sides was measured back to back.

    Attributes:
        ours: values in the row's unit, one for each repeat; a single one is an exact count and its own interval.
        theirs: likewise.
        cache: whether the files were in the page cache, None without files.
        beside: further figures that belong next to the row, by their label.
        note: one sentence that a reader needs to judge the row.
    """

    ours: Float[np.ndarray, " repeat"]
    theirs: Float[np.ndarray, " repeat"]
    cache: Cache | None = None
    beside: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


class NotMeasuredError(Exception):
    """Raised by a row that cannot run here; its text says why, and stands in the table."""


@dataclass(frozen=True)
class Row:
    """One line of the table. A module of `benchmarks.rows` holds some of them in the tuple ``ROWS``.

    Attributes:
        name: for ``--rows``.
        what: what is measured.
        against: what it is set against.
        unit: of both sides, e.g. ``patches/s`` or ``MiB``.
        goal: bound of ours / theirs, None for a row that informs.
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
    """One way of doing the thing.

    Attributes:
        work: called with the number of the repeat; one call is timed.
        amount: units of work in one call; both sides may differ in it.
        before: called untimed ahead of each call, for example to empty a cache.
    """

    work: Callable[[int], object]
    amount: float = 1.0
    before: Callable[[int], object] | None = None


def rates(setup: Setup, ours: Side, theirs: Side, wide: float = WIDE) -> tuple[np.ndarray, np.ndarray]:
    """Units of work per second of both sides, measured in turns after one call of each to warm up.

    Args:
        setup: where and how thoroughly.
        ours: one side.
        theirs: the other.
        wide: width of the interval, as a share of the ratio, above which there are more repeats. A goal near 1 needs a
            narrow one.

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
            # Who comes second finds the caches that the first has left: take turns in that, too.
            for position in (0, 1) if repeat % 2 == 0 else (1, 0):
                found[position].append(value(sides[position], timed(setup, sides[position], repeat)))
        ratio = ratio_of(np.array(found[0]), np.array(found[1]))
        if ratio.high - ratio.low <= wide * ratio.median:
            break
    return np.array(found[0]), np.array(found[1])


def timed(setup: Setup, side: Side, repeat: int) -> float:
    """Seconds of one call, the device's queue included, without the garbage collector."""
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
    """Median of the ratios of pairs, with the interval between two order statistics.

    That interval holds the median of the distribution, whatever it is, with a probability of at least `LEVEL`: that k
    or fewer of n values lie below their median is binomial. One pair is an exact count.

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
    """``met`` if the whole interval reaches the goal, ``missed`` if none of it does, else ``open``; "" without goal."""
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
