"""The exponent of a power law, and the figure that shows it."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import growth
from benchmarks.growth import Curve, GrowthResults, Series, exponent, find_curves, measure_growth, result_of
from benchmarks.harness import Setup
from tests.refusals import refuses

SIZES = [10.0, 100.0, 1000.0, 10_000.0]


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
def test_the_exponent_of_a_power_law_is_found_exactly(power: float) -> None:
    fit = exponent(SIZES, [7 * size**power for size in SIZES])
    assert fit.median == pytest.approx(power, abs=1e-9)
    assert fit.low == pytest.approx(fit.high, abs=1e-6)


def test_the_interval_covers_the_exponent_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    x, hits = np.array(SIZES), 0
    for _ in range(2000):
        fit = exponent(SIZES, (x**1.5 * np.exp(0.1 * rng.normal(size=len(x)))).tolist())
        hits += fit.low <= 1.5 <= fit.high
    assert 0.93 < hits / 2000 < 0.97


@pytest.mark.parametrize(("sizes", "cost"), [([1, 2], [1, 2]), ([1, 2, 3], [1, 2, 0]), ([1, 2, 3], [1, 2])])
def test_points_that_have_no_exponent_are_refused(sizes: list[float], cost: list[float]) -> None:
    with pytest.raises(ValueError, match="points"):
        exponent(sizes, cost)


def test_a_curve_becomes_a_small_figure_and_its_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    series = Series("linear", 1, SIZES, [[size, 1.1 * size, 0.9 * size] for size in SIZES])
    curve = Curve("sizes", "cost of a thing", "size", "s", lambda _: [series])
    monkeypatch.setattr(growth, "find_curves", lambda _: [curve])
    out = measure_growth(quick=True, threads=1, out=tmp_path / "points.json", figures=tmp_path / "figures")
    assert out is not None
    (result,) = GrowthResults.read(out).curves
    assert result.series[0].exponent == pytest.approx(1.0)
    figure = tmp_path / "figures/sizes.png"
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert figure.stat().st_size < 2**18


@pytest.mark.parametrize(
    "curve",
    # Memory is measured in processes of its own, which take seconds to start.
    [
        pytest.param(curve, id=curve.name, marks=[pytest.mark.slow] if curve.name == "data-memory" else [])
        for curve in find_curves()
    ],
)
def test_every_curve_runs_in_tiny_sizes(curve: Curve, tmp_path: Path) -> None:
    result = result_of(curve, Setup(tmp_path, quick=True))
    assert result.series or result.note


def test_curves_are_chosen_by_name_and_unknown_ones_refused() -> None:
    assert [curve.name for curve in find_curves(["tiles", "batch"])] == ["tiles", "batch"]
    with refuses("bench", "'tile'"):
        find_curves(["tile"])


def test_no_two_curves_share_a_name_and_so_a_figure() -> None:
    names = [curve.name for curve in find_curves()]
    assert len(set(names)) == len(names)
