"""Growth of cost with size: measured points, the exponent of a power law through them, and a figure for each curve."""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib.figure
import numpy as np
from jaxtyping import Float
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator
from scipy import stats
from tqdm import tqdm

from benchmarks.harness import LEVEL, NotMeasuredError, Ratio, Setup
from benchmarks.machine import ended, file_stem, measuring
from benchmarks.speed import BENCHMARKS, Machine
from bp_lcz.errors import UserError
from bp_lcz.files import staged_file
from bp_lcz.records import Part, Record

FIGURES = Path("docs/images/growth")


@dataclass(frozen=True)
class Series:
    """Cost at some sizes.

    Attributes:
        label: label of the line.
        predicted: exponent that was expected before the measurement.
        sizes: ascending positive sizes.
        cost: positive samples at each size.
    """

    label: str
    predicted: float
    sizes: Sequence[float]
    cost: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Curve:
    """One figure of growth. A module of `benchmarks.rows` holds some of them in the tuple ``CURVES``.

    Attributes:
        name: name of the figure's file.
        title: what is measured.
        size: name of the variable.
        unit: unit of the cost.
        measure: measures its series; may raise `NotMeasuredError`.
    """

    name: str
    title: str
    size: str
    unit: str
    measure: Callable[[Setup], Sequence[Series]]


class Line(Part):
    """Results of a series, with `quartiles` of the samples at each size."""

    label: str
    sizes: tuple[float, ...]
    quartiles: tuple[tuple[float, float, float], ...]
    exponent: float
    interval: tuple[float, float]
    predicted: float

    @property
    def text(self) -> str:
        """The label with the exponent."""
        return f"{self.label}: exponent {self.exponent:.2f} [{self.interval[0]:.2f}, {self.interval[1]:.2f}]"


class CurveResult(Part):
    """What was found of a curve; `note` says why there is no series."""

    name: str
    title: str
    size: str
    unit: str
    series: tuple[Line, ...]
    note: str


class GrowthResults(Record):
    """``<machine>.growth.json``."""

    format: Literal[1] = 1
    quick: bool
    machine: Machine
    curves: tuple[CurveResult, ...]


def exponent(sizes: Sequence[float], cost: Sequence[float]) -> Ratio:
    """Exponent b of cost = a size^b by least squares in logarithms, with Student's interval.

    The interval comes from how far the points lie from the line, so a curve that is no power law has a wide one.

    Raises:
        ValueError: below three points, or if a size or cost is not positive.
    """
    x, y = np.asarray(sizes, float), np.asarray(cost, float)
    if len(x) < 3 or len(x) != len(y) or not ((x > 0).all() and (y > 0).all()):
        raise ValueError("an exponent needs three or more points of positive size and cost")
    x, y = np.log(x) - np.log(x).mean(), np.log(y) - np.log(y).mean()
    slope = float(x @ y / (x @ x))
    error = float(np.sqrt(((y - slope * x) ** 2).sum() / (len(x) - 2) / (x @ x)))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(x) - 2)) * error
    return Ratio(slope, slope - reach, slope + reach)


def find_curves(names: Sequence[str] = ()) -> list[Curve]:
    """The curves of all modules of `benchmarks.rows`, or those of some names.

    Raises:
        UserError: if a name is of no curve.
    """
    package = importlib.import_module("benchmarks.rows")
    modules = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    curves = {
        curve.name: curve
        for module in modules
        for curve in getattr(importlib.import_module(f"benchmarks.rows.{module}"), "CURVES", ())
    }
    if unknown := [name for name in names if name not in curves]:
        raise UserError("bench", f"no curve '{unknown[0]}'; known: {', '.join(curves)}")
    return [curves[name] for name in names or curves]


def measure_growth(
    names: Sequence[str] = (),
    *,
    quick: bool = False,
    threads: int | None = None,
    out: Path | None = None,
    figures: Path | None = None,
) -> Path | None:
    """Measure curves, draw them, print the exponents, write the points.

    Args:
        names: of the curves; all without.
        quick: tiny sizes; points and figures are then written only where `out` and `figures` say.
        threads: of torch; all cores without.
        out: file of the points. Without it a full run of all curves goes to that of this machine in
            ``benchmarks/results``, and any other run nowhere.
        figures: folder of the figures, else ``docs/images/growth``.

    Returns:
        The file of the points, None if it was not written.

    Raises:
        UserError: if a curve is unknown.
    """
    curves = find_curves(names)
    results: list[CurveResult] = []
    with measuring(quick=quick, threads=threads) as (setup, machine):
        for curve in (progress := tqdm(curves, unit="curve")):
            progress.set_description(f"growth {curve.name}")
            results.append(result_of(curve, setup))
    for result in results:
        for line in result.series:
            print(f"{result.name}, {line.text}")
        if result.note:
            print(f"{result.name}: {result.note}")
    if out is None and (quick or names):
        print("results of a quick run, or of some curves only, are not kept; --out FILE writes them")
        return None
    out = out or BENCHMARKS / f"{file_stem(machine)}.growth.json"
    if not quick or figures is not None:
        for result in results:
            if result.series:
                with staged_file((figures or FIGURES) / f"{result.name}.png") as file:
                    draw(result, machine).savefig(file, dpi=110)
    GrowthResults(quick=quick, machine=ended(machine), curves=tuple(results)).write(out)
    print(f"-> {out}")
    return out


def result_of(curve: Curve, setup: Setup) -> CurveResult:
    """Measure a curve and fit its series."""
    try:
        measured, note = curve.measure(setup), ""
    except NotMeasuredError as reason:
        measured, note = (), str(reason)
    lines = []
    for series in measured:
        fit = exponent(series.sizes, [float(np.median(samples)) for samples in series.cost])
        quartiles = (np.quantile(samples, [0.25, 0.5, 0.75]).tolist() for samples in series.cost)
        lines.append(
            Line(
                label=series.label,
                sizes=tuple(series.sizes),
                quartiles=tuple((low, median, high) for low, median, high in quartiles),
                exponent=fit.median,
                interval=(fit.low, fit.high),
                predicted=series.predicted,
            )
        )
    return CurveResult(
        name=curve.name, title=curve.title, size=curve.size, unit=curve.unit, series=tuple(lines), note=note
    )


def draw(result: CurveResult, machine: Machine) -> matplotlib.figure.Figure:
    """Medians and quartiles on logarithmic axes, and the fitted power laws."""
    figure = matplotlib.figure.Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    for number, line in enumerate(result.series):
        sizes: Float[np.ndarray, " size"] = np.asarray(line.sizes, float)
        low, median, high = np.asarray(line.quartiles).T
        label = f"{line.text}, predicted {line.predicted:g}"
        color = f"C{number}"
        axes.errorbar(sizes, median, [median - low, high - median], fmt="o", capsize=3, color=color, label=label)
        level = np.exp(np.mean(np.log(median)) - line.exponent * np.mean(np.log(sizes)))
        axes.plot(sizes, level * sizes**line.exponent, color=color, linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel=result.size, ylabel=result.unit, title=result.title)
    low, high = axes.get_ylim()
    if high < 10 * low:  # a flat curve should look flat
        middle = np.sqrt(low * high)
        axes.set_ylim(middle / np.sqrt(10), middle * np.sqrt(10))
    marks = sorted({size for line in result.series for size in line.sizes})
    axes.set_xticks(marks, [f"{size:,.0f}" for size in marks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(which="both", alpha=0.2)
    figure.legend(loc="outside lower center", fontsize="small", frameon=False)
    figure.suptitle(
        f"{machine.cpu}, {machine.cores} cores, {machine.threads} threads, commit {machine.commit}; "
        "medians and quartiles",
        fontsize=7,
    )
    return figure
