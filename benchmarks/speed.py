"""Records and texts of the results of `bp-lcz bench`."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from benchmarks.harness import LEVEL, Cache, Goal
from bp_lcz.records import Part, Record

BENCHMARKS = Path("benchmarks/results")
"""Folder of the results, with one file for each machine."""

HEADER = ("what", "measured", "against", "measured there", f"ratio [{LEVEL:.0%}]", "goal", "verdict")


class Machine(Part):
    """Processor, memory, versions, commit and load, without which figures mean nothing."""

    cpu: str
    cores: int
    memory_gib: float
    gpu: str | None
    system: str
    python: str
    torch: str
    numpy: str
    threads: int
    commit: str | None
    date: str
    load_before: float
    load_after: float | None = None


class RowHead(Part):
    """The head of a row, and everything of a row that was not measured."""

    name: str
    what: str
    against: str
    unit: str
    goal: Goal | None
    verdict: Literal["met", "missed", "open", "", "not measured"]
    note: str


class RowResult(RowHead):
    """A measured row; `seconds` is the duration of the measurement."""

    ours: float
    theirs: float
    ratio: float
    interval: tuple[float, float]
    repeats: int
    cache: Cache | None
    beside: dict[str, str]
    seconds: float


class SpeedResults(Record):
    """Results of `bp-lcz bench` on a machine."""

    remedy: ClassVar[str] = "measure with `bp-lcz bench` again, or remove it"
    format: Literal[1] = 1
    quick: bool
    machine: Machine
    rows: tuple[RowResult | RowHead, ...] = Field(min_length=1)


def read_latest(folder: Path) -> SpeedResults | None:
    """The results that were measured last, on any machine; None if there are none.

    Raises:
        UserError: if a file is not in form.
    """
    found = [SpeedResults.read(path) for path in sorted(folder.glob("*.json")) if len(path.suffixes) == 1]
    return max(found, key=lambda content: content.machine.date, default=None)


def entries(row: RowHead) -> tuple[str, ...]:
    """The entries of a row in the table, in the columns of `HEADER`."""
    goal = row.goal
    bound = "" if goal is None else f"{'≥' if goal.direction == 'at least' else '≤'} {goal.bound:g}"
    if not isinstance(row, RowResult):
        return row.what, "", row.against, "", "", bound, row.verdict
    low, high = row.interval
    ours, theirs = (f"{figure(side)} {row.unit}" for side in (row.ours, row.theirs))
    what = f"{row.what} ({row.cache})" if row.cache else row.what
    ratio = f"{figure(row.ratio)} [{figure(low)}, {figure(high)}]"
    return what, ours, row.against, theirs, ratio, bound, row.verdict


def remarks(row: RowHead) -> str:
    """Further figures and the note of a row as text."""
    beside = row.beside if isinstance(row, RowResult) else {}
    return "; ".join([*(f"{label}: {value}" for label, value in beside.items()), *([row.note] if row.note else [])])


def figure(value: float) -> str:
    """Three significant digits, thousands with commas."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine_line(machine: Machine) -> str:
    """The machine in one line."""
    gpu = f", {machine.gpu}" if machine.gpu else ""
    return (
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_gib} GiB{gpu}; {machine.threads} threads, "
        f"torch {machine.torch}, numpy {machine.numpy}; commit {machine.commit}, {machine.date}, "
        f"load {machine.load_before} before and {machine.load_after} after"
    )
