"""How rows are timed, when an interval covers, and what a verdict says."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import harness
from benchmarks.harness import Goal, Ratio, Setup, Side, find_rows, rates, ratio_of, seconds, verdict
from tests.refusals import refuses

QUICK = Setup(Path(), quick=True)


@pytest.mark.parametrize("count", [6, 7, 30, 90])
def test_the_interval_covers_the_median_of_skewed_ratios_as_often_as_it_says(count: int) -> None:
    rng = np.random.default_rng(count)
    trials = 4000
    hits = 0
    for _ in range(trials):
        ratio = ratio_of(rng.lognormal(0, 1, count), np.ones(count))
        hits += ratio.low <= 1 <= ratio.high
    # The law is "at least 95 %"; 4000 trials scatter by 0.35 %.
    assert hits / trials > 0.94


def test_the_interval_is_not_wider_than_the_order_statistics_of_the_sign_test() -> None:
    ratios = np.arange(1.0, 31.0)
    # Known from tables of the sign test: n = 30 leaves out nine on either side.
    assert ratio_of(ratios, np.ones(30)) == Ratio(15.5, 10.0, 21.0)
    assert ratio_of(ratios[:6], np.ones(6)) == Ratio(3.5, 1.0, 6.0)


@given(st.lists(st.floats(0.1, 10), min_size=6, max_size=60), st.floats(0.5, 2))
def test_a_faster_side_scales_the_ratio_and_its_interval(values: list[float], factor: float) -> None:
    theirs = np.ones(len(values))
    once, scaled = ratio_of(np.array(values), theirs), ratio_of(np.array(values) * factor, theirs)
    for name in ("median", "low", "high"):
        assert getattr(scaled, name) == pytest.approx(factor * getattr(once, name))
    assert once.low <= once.median <= once.high


def test_ratios_are_those_of_pairs_so_that_drift_cancels() -> None:
    drift = np.linspace(1, 10, 30)
    assert ratio_of(3 * drift, drift) == Ratio(3.0, 3.0, 3.0)


def test_a_single_count_is_exact() -> None:
    assert ratio_of(np.array([0.0]), np.array([1792.0])) == Ratio(0.0, 0.0, 0.0)


@pytest.mark.parametrize("count", [0, 2, 5])
def test_too_few_pairs_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="pairs"):
        ratio_of(np.ones(count), np.ones(count))


@pytest.mark.parametrize(
    ("low", "high", "goal", "expected"),
    [
        (2.0, 3.0, Goal(2.0), "met"),
        (1.9, 3.0, Goal(2.0), "open"),
        (1.0, 1.9, Goal(2.0), "missed"),
        (0.5, 1.15, Goal(1.15, "at most"), "met"),
        (0.5, 1.2, Goal(1.15, "at most"), "open"),
        (1.2, 1.3, Goal(1.15, "at most"), "missed"),
        (1.0, 2.0, None, ""),
    ],
)
def test_a_row_passes_when_its_whole_interval_does(low: float, high: float, goal: Goal | None, expected: str) -> None:
    assert verdict(Ratio((low + high) / 2, low, high), goal) == expected


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only the work moves."""
    now = [0.0]
    monkeypatch.setattr(harness.time, "perf_counter", lambda: now[0])
    return now


def test_sides_run_in_turns_and_swap_who_is_first(clock: list[float]) -> None:
    calls: list[str] = []
    sides = [Side(lambda repeat, name=name: calls.append(f"{name}{repeat}")) for name in "ab"]
    for side in sides:
        side.work(0)
    calls.clear()

    def work(name: str, cost: float):
        def call(repeat: int) -> None:
            calls.append(f"{name}{repeat}")
            clock[0] += cost

        return call

    ours, theirs = rates(QUICK, Side(work("a", 0.5), amount=10), Side(work("b", 4.0), amount=2))
    assert calls == ["a0", "b0", "a0", "b0", "b1", "a1", "a2", "b2", "b3", "a3", "a4", "b4", "b5", "a5"]
    assert ours.tolist() == [20.0] * 6
    assert theirs.tolist() == [0.5] * 6


def test_seconds_are_per_unit_of_work_and_leave_out_the_preparation(clock: list[float]) -> None:
    def spend(cost: float):
        def call(_: int) -> None:
            clock[0] += cost

        return call

    ours, theirs = seconds(QUICK, Side(spend(1.0), 4, before=spend(50.0)), Side(spend(2.0)))
    assert ours.tolist() == [0.25] * 6
    assert theirs.tolist() == [2.0] * 6


@pytest.mark.parametrize(("spread", "repeats"), [(0.0, 30), (1.0, 90)])
def test_a_wide_interval_is_measured_longer(clock: list[float], spread: float, repeats: int) -> None:
    rng = np.random.default_rng(0)

    def noisy(_: int) -> None:
        clock[0] += float(np.exp(spread * rng.normal()))

    ours, _ = seconds(Setup(Path()), Side(noisy), Side(noisy))
    assert len(ours) == repeats


def test_rows_are_found_by_name_and_have_different_names() -> None:
    names = [row.name for row in find_rows()]
    assert "gather" in names
    assert len(set(names)) == len(names)
    assert [row.name for row in find_rows(["gather"])] == ["gather"]


def test_an_unknown_row_is_named_with_those_that_exist() -> None:
    with refuses("bench", "'speed'", "gather"):
        find_rows(["speed"])
