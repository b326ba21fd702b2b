"""A few mutants of each kind; `make fuzz` tries thousands."""

from pathlib import Path

import numpy as np
import pytest

from tests.fuzz import run
from tests.fuzz.mutants import mutant
from tests.fuzz.run import run_target
from tests.fuzz.targets import TARGETS

COUNT = 25


@pytest.mark.parametrize("name", TARGETS)
def test_mutants_are_read_as_by_their_library_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    counts, lines = run_target(name, COUNT, seed=7, folder=tmp_path / name)
    assert not lines, "\n".join(lines)
    assert counts["read"] + counts["refused"] == COUNT
    assert counts["refused"] > 0


def test_a_run_tells_its_counts_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "TOLD_EVERY", 0.0)
    run_target("npz", 2, seed=7, folder=tmp_path / "npz")
    assert [line.split()[1] for line in capfd.readouterr().out.splitlines() if line.startswith("npz")] == ["1", "2"]


def test_equal_seeds_give_equal_mutants() -> None:
    first, second = (mutant(bytes(1000), np.random.default_rng(3), is_text=False) for _ in range(2))
    assert first == second != bytes(1000)
