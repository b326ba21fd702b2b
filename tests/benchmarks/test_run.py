"""The command: every row runs in tiny sizes, the results have their form, the table says what they say."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import run
from benchmarks.harness import Goal, Measured, NotMeasuredError, Row, Setup, find_rows
from benchmarks.run import measure_rows, result_of, table
from benchmarks.speed import RowResult, SpeedResults


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def row(measured: Measured, goal: Goal | None = None) -> Row:
    return Row("name", "this", "that", "patches/s", goal, lambda _: measured)


@pytest.mark.parametrize("name", [row.name for row in find_rows()])
def test_every_row_runs_in_tiny_sizes_and_is_written_as_json(name: str) -> None:
    out = measure_rows([name], quick=True, threads=1, out=Path("results.json"))
    assert out is not None
    content = SpeedResults.read(out)
    assert content.quick is True
    (result,) = content.rows
    if not isinstance(result, RowResult):
        assert result.note
        return
    assert result.interval[0] <= result.ratio <= result.interval[1]
    assert not [path for path in Path(".scratch").iterdir() if path.name.startswith("bench-")]


def test_some_rows_or_a_quick_run_are_not_kept_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    assert measure_rows(["gather"], quick=True, threads=1) is None
    assert not run.BENCHMARKS.exists()
    assert "are not kept" in capsys.readouterr().out


def test_the_table_shows_both_sides_the_ratio_the_goal_and_the_verdict() -> None:
    measured = Measured(
        np.full(6, 50_000.0), np.full(6, 2_000.0), cache="cold", beside={"two workers": "3,000 patches/s"}, note="Slow."
    )
    result = result_of(row(measured, Goal(15)), Setup(Path()))
    lines = table([result]).splitlines()
    assert [part.strip() for part in lines[2].split("  ") if part.strip()] == [
        *("name", "this (cold)", "50,000 patches/s", "that", "2,000 patches/s", "25 [25, 25]", "≥ 15", "met"),
    ]
    assert lines[3] == "name: two workers: 3,000 patches/s; Slow."


def test_a_row_that_cannot_run_says_why() -> None:
    def measure(_: Setup) -> Measured:
        raise NotMeasuredError("no GPU on this machine")

    result = result_of(Row("gpu", "this", "that", "s", Goal(3, "at most"), measure), Setup(Path()))
    text = table([result])
    assert "≤ 3" in text
    assert "not measured" in text
    assert text.endswith("gpu: no GPU on this machine")
