"""A/A test of the intervals: how often they find a lead of a procedure over itself, and how often a true lead.

Measured data: seeds of one procedure are dealt at random to two sides. Pairs share seeds, so these rates are rough.
Simulated data: effects of seeds, cities and residuals are normal with the measured variances; counts are whole patches.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from bp_lcz.drawing import INK, MUTED, Note, titled_figure
from bp_lcz.errors import UserError, one_line
from bp_lcz.files import staged_file
from bp_lcz.params import Params
from bp_lcz.scoring.crossed import half_width, pseudovalues
from bp_lcz.scoring.results import Group, group_seeds, read_matrix
from bp_lcz.scoring.score import fraction, text_table
from bp_lcz.scoring.significance import LEVEL

SIDES = (3, 5, 8)
"""Numbers of seeds on each side for which the tables show rates."""
LEADS = (0.01, 0.02, 0.03)
"""True leads in accuracy (shares, 0..1) whose power is simulated."""
DEVIATION = 0.02
"""Standard deviation over cities of a lead that differs from city to city (accuracy, 0..1)."""

_COLORS = ("#56b4e9", "#0072b2", "#003554")
_COLUMNS = ["seed", "city", "correct", "total"]
_RESAMPLES = 400  # few, since the bootstraps are shown only for comparison


@dataclass(frozen=True)
class SeedTable:
    """How many patches of each city each seed of one procedure classifies correctly.

    Attributes:
        correct: patches that are classified correctly.
        total: patches of each city.
    """

    correct: Int[np.ndarray, "seed city"]
    total: Int[np.ndarray, "city"]

    @property
    def values(self) -> Float[np.ndarray, "seed city"]:
        """Contribution of each city to the accuracy of each seed."""
        right, total = self.correct.sum(axis=1), self.total.sum()
        return pseudovalues(right / total, (right[:, None] - self.correct) / (total - self.total))


@dataclass(frozen=True)
class Effects:
    """Standard deviations of accuracy (0..1) between seeds, between cities, and of the residual.

    Attributes:
        mean: mean accuracy.
        seed: deviation between seeds.
        city: deviation between cities.
        rest: residual deviation of one seed in one city.
        cities: number of cities.
        patches: patches of each city.
    """

    mean: float
    seed: float
    city: float
    rest: float
    cities: int
    patches: int

    @classmethod
    def of(cls, table: SeedTable) -> "Effects":
        """Estimate them from the mean squares of a balanced two-way table."""
        values = table.values
        by_seed, by_city = values.mean(axis=1), values.mean(axis=0)
        residual = values - by_seed[:, None] - by_city + values.mean()
        rest = (residual**2).sum() / ((len(by_seed) - 1) * (len(by_city) - 1))
        between = by_seed.var(ddof=1) - rest / len(by_city), by_city.var(ddof=1) - rest / len(by_seed)
        seed, city = (float(np.sqrt(max(variance, 0))) for variance in between)
        patches = round(float(table.total.mean()))
        return cls(float(values.mean()), seed, city, float(np.sqrt(rest)), len(by_city), patches)

    def draw(
        self, draws: int, seeds: int, lead: float, deviation: float, generator: np.random.Generator
    ) -> Float[np.ndarray, "draw side seed city"]:
        """Accuracies of two procedures. The first is better by ``lead`` in the mean of all cities."""
        sides = np.array([0.5, -0.5])[:, None, None]
        accuracy = (
            self.mean
            + sides * (lead + generator.normal(0, deviation, (draws, 1, 1, self.cities)))
            + generator.normal(0, self.city, (draws, 1, 1, self.cities))
            + generator.normal(0, self.seed, (draws, 2, seeds, 1))
            + generator.normal(0, self.rest, (draws, 2, seeds, self.cities))
        )
        return np.round(np.clip(accuracy, 0, 1) * self.patches) / self.patches


def read_table(path: Path) -> SeedTable:
    """Read a table as `write_table` writes it. Lines that begin with # tell its origin.

    Raises:
        UserError: if the file is missing, not such a table, or has too few seeds for the smallest sides.
    """
    counts: dict[tuple[str, str], tuple[int, int]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(line for line in file if not line.startswith("#"))
            if reader.fieldnames != _COLUMNS:
                raise UserError(path, f"columns are {reader.fieldnames}, expected {_COLUMNS}")
            for row in reader:
                counts[row["seed"], row["city"]] = int(row["correct"]), int(row["total"])
    except FileNotFoundError:
        raise UserError(path, "not found; `bp-lcz aa --trials NAME --save FILE` makes one of a run") from None
    except (ValueError, TypeError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(path, f"not a table of whole numbers: {one_line(error)}") from None
    seeds, cities = (list(dict.fromkeys(names)) for names in zip(*counts, strict=True)) if counts else ([], [])
    if len(counts) != len(seeds) * len(cities):
        raise UserError(path, "every seed needs a row for every city")
    cells = np.array([[counts[seed, city] for city in cities] for seed in seeds], dtype=np.int64).reshape(-1, 2)
    correct, total = cells.T.reshape(2, len(seeds), len(cities))
    if (total != total[:1]).any() or (correct < 0).any() or (correct > total).any() or (total < 1).any():
        raise UserError(path, "correct is 0..total, and total the same number of patches for all seeds of a city")
    return _checked(SeedTable(correct, total[0] if seeds else np.zeros(0, np.int64)), path)


def run_table(params: Params, label: str) -> tuple[SeedTable, list[str]]:
    """The table of this run's trials of one label, which differ only in the seed, and its origin.

    Raises:
        UserError: if there are no such trials or too few of them, or for the reasons of the stage ``report``.
    """
    matrix = read_matrix(params)
    groups = {group.label: group for group in group_seeds(matrix.results)}
    if label not in groups:
        raise UserError(label, f"no such trials; known: {', '.join(groups)}")
    group = groups[label]
    of_training = ", ".join(f"{key} {value}" for key, value in group.members[0].model.versions.items())
    origin = [
        f"{label}, seeds {', '.join(map(str, group.seeds))}: patches of the testing split that are right, by city",
        f"data: {matrix.summary.dataset} ({matrix.summary.heading}); trained with {of_training}",
    ]
    return table_of(group), origin


def table_of(group: Group) -> SeedTable:
    """The table of trials that differ only in the seed.

    Raises:
        UserError: if there are too few trials.
    """
    cities, position = np.unique(group.block, return_inverse=True)
    right = [np.bincount(position, weights=row == group.y_true, minlength=len(cities)) for row in group.y_pred]
    return _checked(SeedTable(np.stack(right).astype(np.int64), np.bincount(position)), group.label)


def write_table(table: SeedTable, path: Path, origin: Sequence[str]) -> None:
    """Write a table as CSV, with lines that tell its origin."""
    lines = [f"# {line}" for line in origin] + [",".join(_COLUMNS)]
    for seed, row in enumerate(table.correct, start=1):
        lines += [f"{seed},{city},{count},{table.total[city]}" for city, count in enumerate(row)]
    with staged_file(path) as new:
        new.write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Rates:
    """What an A/A test found.

    Attributes:
        effects: effects in the measured table.
        seeds: number of its seeds.
        draws: number of pairs for each rate.
        false_verdicts: rate of each method by kind of data and seeds a side; None if there are too few seeds.
        power: rate at which a true lead is found, by lead and seeds a side, if it is equal in all cities or differs.
    """

    effects: Effects
    seeds: int
    draws: int
    false_verdicts: Sequence[Mapping[str, Any]]
    power: Sequence[Mapping[str, Any]]


def find_rates(table: SeedTable, draws: int, seed: int) -> Rates:
    """False verdicts by method, seeds a side and kind of data, and the power of the intervals in use."""
    effects, values = Effects.of(table), table.values
    verdicts = []
    for count in SIDES:
        row: dict[str, Any] = {"data": "measured", "seeds a side": count, **dict.fromkeys(METHODS)}
        if 2 * count <= len(values):
            row |= _rates(_dealt(values, count, draws, np.random.default_rng([seed, count])), seed)
        verdicts.append(row)
    for kind, deviation in (("simulated", 0.0), (f"simulated, lead differs by {_short(DEVIATION)}", DEVIATION)):
        for count in SIDES:
            drawn = effects.draw(draws, count, 0.0, deviation, np.random.default_rng([seed, count]))
            verdicts.append({"data": kind, "seeds a side": count, **_rates(drawn, seed)})
    power = []
    for lead in LEADS:
        for count in SIDES:
            same, differs = (float(_seen(effects, count, lead, by, draws, seed).mean()) for by in (0.0, DEVIATION))
            power.append({"lead": lead, "seeds a side": count, "same": same, "differs": differs})
    return Rates(effects, len(values), draws, verdicts, power)


def aa_text(rates: Rates) -> str:
    """As plain text."""
    effects, error = rates.effects, np.sqrt(0.05 * 0.95 / rates.draws)
    verdicts = [
        [row["data"], str(row["seeds a side"]), *(fraction(row[method], 3) for method in METHODS)]
        for row in rates.false_verdicts
    ]
    powers = [
        [_short(row["lead"]), str(row["seeds a side"]), fraction(row["same"], 3), fraction(row["differs"], 3)]
        for row in rates.power
    ]
    return "\n".join(
        [
            f"{rates.seeds} seeds in {effects.cities} cities of about {effects.patches} patches; accuracy "
            f"{fraction(effects.mean, 3)}, standard deviation by seed {fraction(effects.seed, 4)}, by city "
            f"{fraction(effects.city, 3)}, rest {fraction(effects.rest, 3)}",
            "",
            f"false verdicts where {fraction(1 - LEVEL, 2)} is promised ({rates.draws:,} pairs each, standard error "
            f"{fraction(float(error), 3)}; measured pairs share {rates.seeds} seeds, so their rates are rougher)",
            *text_table([["data", "seeds a side", *METHODS], *verdicts], " | "),
            "",
            f"simulated: how often a true lead is seen; the same lead in all cities, or one that differs by "
            f"{_short(DEVIATION)}",
            *text_table([["lead", "seeds a side", "same", "differs"], *powers], " | "),
        ]
    )


def power_figure(table: SeedTable, draws: int, seed: int) -> bytes:
    """How often a true lead is seen, by seeds a side, as PNG."""
    effects, counts = Effects.of(table), range(2, 13)
    patches = f"{effects.cities} cities of {effects.patches} patches, fitted to {len(table.correct)} seeds"
    with titled_figure("How often a true lead in accuracy is seen", Note(patches, "simulated"), body=2.9) as drawing:
        panels = drawing.figure.subplots(1, 2, sharey=True)
        titles = "same lead in all cities", f"lead differs by {_short(DEVIATION)}"
        for axes, deviation, title in zip(panels, (0.0, DEVIATION), titles, strict=True):
            for lead, color in zip((0.0, *LEADS), (MUTED, *_COLORS), strict=True):
                rates = [_seen(effects, count, lead, deviation, draws, seed).mean() for count in counts]
                axes.plot(counts, rates, color=color, marker="o", markersize=3.5, clip_on=False)
                if axes is panels[-1]:
                    end = (counts[-1], float(rates[-1]))
                    axes.annotate(_short(lead), end, (5, 0), textcoords="offset points", va="center", color=color)
            axes.axhline(1 - LEVEL, color=INK, linewidth=0.6, linestyle=":")
            axes.set_title(title)
            axes.set_ylim(0, 1)
            axes.set_xticks(counts[::2])
            axes.set_xlabel("seeds a side")
            axes.grid(axis="y")
        panels[0].set_ylabel("share of studies that see it")
        meaning = "beside the lines on the right: the true lead; dotted: false verdicts as promised"
        drawing.figure.supxlabel(meaning, fontsize=8.5, color=MUTED)
    return drawing.png


def _checked(table: SeedTable, where: Path | str) -> SeedTable:
    seeds, cities = table.correct.shape
    if seeds < 2 * SIDES[0]:
        found = "one seed" if seeds == 1 else f"{seeds} seeds"
        raise UserError(where, f"{found}; an A/A test needs {2 * SIDES[0]} of one procedure, {SIDES[0]} a side")
    if cities < 2:
        raise UserError(where, "one city; the variance between cities needs at least two")
    return table


def _dealt(
    values: Float[np.ndarray, "seed city"], count: int, draws: int, generator: np.random.Generator
) -> Float[np.ndarray, "draw side {count} city"]:
    """Draws of two disjoint sides of the measured seeds."""
    order = generator.permuted(np.tile(np.arange(len(values)), (draws, 1)), axis=1)[:, : 2 * count]
    return values[order].reshape(draws, 2, count, -1)


def _seen(
    effects: Effects, count: int, lead: float, deviation: float, draws: int, seed: int
) -> Bool[np.ndarray, "draw"]:
    return _crossed(effects.draw(draws, count, lead, deviation, np.random.default_rng([seed, count])), seed)


def _rates(values: Float[np.ndarray, "draw side seed city"], seed: int) -> dict[str, float]:
    """Share of the pairs that each method tells apart."""
    return {name: float(method(values, seed).mean()) for name, method in METHODS.items()}


def _crossed(values: Float[np.ndarray, "draw side seed city"], _: int) -> Bool[np.ndarray, "draw"]:
    """The intervals in use."""
    return np.abs(_lead(values)) > half_width(values[:, 0], values[:, 1])


def _seeds_alone(values: Float[np.ndarray, "draw side seed city"], _: int) -> Bool[np.ndarray, "draw"]:
    """Welch's test of the seeds' accuracies: the crossed intervals without differences between cities."""
    of_seeds = np.repeat(values.mean(axis=-1, keepdims=True), 2, axis=-1)
    return np.abs(_lead(values)) > half_width(of_seeds[:, 0], of_seeds[:, 1])


def _cities_alone(values: Float[np.ndarray, "draw side seed city"], seed: int) -> Bool[np.ndarray, "draw"]:
    """Percentiles of a bootstrap over cities, with the seeds as they are."""
    drawn = _weights(values.shape[-1], np.random.default_rng(seed))
    by_city = (values[:, 0] - values[:, 1]).mean(axis=1)
    return _excludes_zero(by_city @ drawn.T)


def _both_resampled(values: Float[np.ndarray, "draw side seed city"], seed: int) -> Bool[np.ndarray, "draw"]:
    """Percentiles of a bootstrap over cities and the seeds of each side together."""
    generator = np.random.default_rng(seed)
    cities, *sides = (_weights(size, generator) for size in (values.shape[-1], values.shape[2], values.shape[2]))
    means = [((values[:, side] @ cities.T) * sides[side].T).sum(axis=1) for side in (0, 1)]
    return _excludes_zero(means[0] - means[1])


METHODS: Mapping[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "in use": _crossed,
    "seeds alone": _seeds_alone,
    "cities alone": _cities_alone,
    "both resampled": _both_resampled,
}


def _lead(values: Float[np.ndarray, "draw side seed city"]) -> Float[np.ndarray, "draw"]:
    return values[:, 0].mean(axis=(1, 2)) - values[:, 1].mean(axis=(1, 2))


def _weights(size: int, generator: np.random.Generator) -> Float[np.ndarray, "resample {size}"]:
    return generator.multinomial(size, np.full(size, 1 / size), size=_RESAMPLES) / size


def _excludes_zero(resampled: Float[np.ndarray, "draw resample"]) -> Bool[np.ndarray, "draw"]:
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
    return (low > 0) | (high < 0)


def _short(value: float) -> str:
    return f"{value:g}".removeprefix("0") if value else "0"
