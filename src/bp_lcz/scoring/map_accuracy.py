"""Accuracy of a map of zones, from one confusion matrix of reference cells for each polygon or block.

Errors of cells of one polygon are correlated, so cells are never treated as independent draws. Intervals, and the
spread of areas, resample whole units.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from scipy.special import ndtri

from bp_lcz.records import Estimate, MapMetric
from bp_lcz.scheme import BUILT, CLASS_COUNT, NATURAL
from bp_lcz.scoring.metrics import defined, kappa
from bp_lcz.scoring.significance import LEVEL

_TWELFTHS = """
 0  1  2  4  5  6  5  3  7  3  8  9 11 12  9 12 12
 1  0  1  5  4  5  4  2  7  2  7  8  9 11  8 11 11
 2  1  0  6  5  4  3  1  5  1  6  7  8 10  7 10 10
 4  5  6  0  1  2  3  6  3  5  6  5  6  8 11  8  8
 5  4  5  1  0  1  2  4  2  4  5  4  6  7 10  7  7
 6  5  4  2  1  0  1  3  1  3  4  3  4  5  9  6  6
 5  4  3  3  2  1  0  4  2  4  3  4  5  7 10  7  7
 3  2  1  6  4  3  4  0  3  1  7  6  7  9  6  8  8
 7  7  5  3  2  1  2  3  0  4  5  4  3  5  8  5  5
 3  2  1  5  4  3  4  1  4  0  7  6  7  9  6  8  8
 8  7  6  6  5  4  3  7  5  7  0  1  2  4  7  4  4
 9  8  7  5  4  3  4  6  4  6  1  0  1  3  6  3  3
11  9  8  6  6  4  5  7  3  7  2  1  0  2  5  2  2
12 11 10  8  7  5  7  9  5  9  4  3  2  0  3  1  1
 9  8  7 11 10  9 10  6  8  6  7  6  5  3  0  3  3
12 11 10  8  7  6  7  8  5  8  4  3  2  1  3  0  1
12 11 10  8  7  6  7  8  5  8  4  3  2  1  3  1  0
"""
SIMILARITY: Float[np.ndarray, "klass klass"] = 1 - np.array(_TWELFTHS.split(), float).reshape(17, 17) / 12
"""Of two zones, 1 of a zone and itself: Bechtel, Demuzere and Stewart 2020, https://doi.org/10.3390/rs12111769.

Points of difference in openness, height, cover and objects, of at most twelve; the paper rounds the shares to two
digits. Taken from a public transcription of its supplement, not from the supplement itself.
"""
SAMPLES, SEED = 1000, 0
"""Number of resamples of units, and seed of the bootstrap."""
REPEATS, TEST_SHARE = 25, 0.3
"""Number of repeated splits of polygons and their test share, as in the LCZ Generator (Demuzere et al. 2021)."""
_CHUNK = 250
_NOTHING = Estimate(value=None, interval=None)

Confusions = Int[np.ndarray, "unit klass klass"]
"""Cells of each pair of a reference zone (row) and a mapped one, for each polygon or block."""


def confusions_of(
    reference: Int[np.ndarray, " cell"], mapped: Int[np.ndarray, " cell"], unit: Int[np.ndarray, " cell"]
) -> Confusions:
    """Confusion matrices of the units, in the order of their numbers.

    Args:
        reference: class index 0..16 of each cell.
        mapped: class index 0..16 of each cell on the map.
        unit: number of each cell's polygon or block.
    """
    names, place = np.unique(unit, return_inverse=True)
    pair = (place * CLASS_COUNT + reference) * CLASS_COUNT + mapped
    return np.bincount(pair, minlength=len(names) * CLASS_COUNT**2).reshape(-1, CLASS_COUNT, CLASS_COUNT)


def map_metrics(
    confusion: Int[np.ndarray, "*batch klass klass"], weights: Float[np.ndarray, "klass klass"] = SIMILARITY
) -> dict[MapMetric, Float[np.ndarray, "*batch"]]:
    """The usual metrics of LCZ maps; NaN if undefined.

    Args:
        confusion: counts of cells; rows are zones of the reference.
        weights: credit, 0..1, for a cell of each reference zone (row) that is mapped as each zone (column).

    Returns:
        ``oa``; ``oa_u``: OA of the cells whose reference is built (1..10); ``oa_bu``: OA of built against natural;
        ``oa_w``: mean weight of the cells; ``kappa``.
    """
    total, right = confusion.sum(axis=(-2, -1)), np.diagonal(confusion, axis1=-2, axis2=-1)
    built, natural = list(BUILT), list(NATURAL)
    alike = sum(confusion[..., zones, :][..., zones].sum(axis=(-2, -1)) for zones in (built, natural))
    return {
        "oa": _share(right.sum(axis=-1), total),
        "oa_u": _share(right[..., built].sum(axis=-1), confusion[..., built, :].sum(axis=(-2, -1))),
        "oa_bu": _share(alike, total),
        "oa_w": _share((confusion * weights).sum(axis=(-2, -1)), total),
        "kappa": kappa(confusion),
    }


def zone_metrics(confusion: Int[np.ndarray, "*batch klass klass"]) -> dict[str, Float[np.ndarray, "*batch klass"]]:
    """Accuracy of each zone: ``producers`` (recall), ``users`` (precision) and ``f1``; NaN if undefined."""
    right, true = np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-1)
    mapped = confusion.sum(axis=-2)
    return {"producers": _share(right, true), "users": _share(right, mapped), "f1": _share(2 * right, true + mapped)}


def estimated(confusions: Confusions) -> tuple[dict[MapMetric, Estimate], dict[str, tuple[Estimate, ...]]]:
    """Metrics of a map and of each zone, with 95 % intervals by resampling whole units.

    A value that is undefined in a resample, since the resample lost a zone, counts as 0 for the low end and as 1 for
    the high end. A single unit gives no interval.
    """
    sums = confusions.sum(axis=0)
    flat = confusions.reshape(len(confusions), -1)
    drawn = [part.reshape(-1, *sums.shape) for part in resampled(flat)] if len(flat) > 1 else []
    of_map = {name: [part[name] for part in map(map_metrics, drawn)] for name in map_metrics(sums)}
    of_zone = {name: [part[name] for part in map(zone_metrics, drawn)] for name in zone_metrics(sums)}
    whole = {name: _estimate(value, of_map[name]) for name, value in map_metrics(sums).items()}
    by_zone = {
        name: tuple(_estimate(value, [part[:, i] for part in of_zone[name]]) for i, value in enumerate(values))
        for name, values in zone_metrics(sums).items()
    }
    return whole, by_zone


def repeated_splits(confusions: Confusions, zone: Int[np.ndarray, " unit"]) -> dict[MapMetric, Estimate]:
    """Accuracy on the test polygons of repeated splits: mean, and range of the middle 90 % of the repeats.

    Each repeat draws 30 % of the polygons of each zone, at least one. The map stays the same: no classifier is trained
    on the other polygons, so repeats differ only in the polygons.

    Args:
        confusions: confusion matrix of each polygon.
        zone: zone of each polygon.
    """
    generator = np.random.default_rng(SEED)
    drawn = np.zeros((REPEATS, *confusions.shape[1:]), np.int64)
    for repeat in range(REPEATS):
        for each in np.unique(zone):
            polygons = np.flatnonzero(zone == each)
            count = max(1, round(TEST_SHARE * len(polygons)))
            drawn[repeat] += confusions[generator.choice(polygons, count, replace=False)].sum(axis=0)
    found = {}
    for name, values in map_metrics(drawn).items():
        low, high = np.quantile(values, [0.05, 0.95])
        interval = None if np.isnan(low) else (float(low), float(high))
        found[name] = Estimate(value=defined(values.mean()), interval=interval)
    return found


def adjusted_areas(
    confusions: Confusions, mapped: Float[np.ndarray, " klass"]
) -> tuple[tuple[Estimate, ...], Float[np.ndarray, " klass"]]:
    """Areas of the zones adjusted for errors that the reference shows, with 95 % intervals (Olofsson et al. 2014).

    Each mapped zone is a stratum. Its area is divided among zones in the proportions of the reference in it (equations
    9 to 11). For single cells as units, these are the published intervals. For polygons and blocks, the spread is that
    of whole units over all strata that they touch.

    Args:
        confusions: confusion matrix of each unit.
        mapped: area of each zone of the map, in any unit.

    Returns:
        The area of each zone, undefined for zones that the reference lacks; and the mapped areas that could not be
        adjusted, since fewer than two units lie in that zone of the map.
    """
    counts = confusions.transpose(0, 2, 1).astype(np.float64)  # unit, mapped zone, reference zone
    within = counts.sum(axis=2)
    units = (within > 0).sum(axis=0)
    usable = (units > 1) & (mapped > 0)
    cells, area = np.where(usable, within.sum(axis=0), 1), np.where(usable, mapped, 0)
    shares = counts.sum(axis=0) / cells[:, None]
    values = area @ shares
    spread = area / cells * np.sqrt(units / np.maximum(units - 1, 1))
    errors = np.einsum("m,umr->ur", spread, counts - within[:, :, None] * shares)
    half = ndtri(0.5 + LEVEL / 2) * np.sqrt((errors**2).sum(axis=0))
    known = confusions.sum(axis=(0, 2)) > 0
    found = tuple(
        Estimate(value=float(value), interval=(max(float(value - by), 0.0), float(value + by)))
        if is_known
        else _NOTHING
        for value, by, is_known in zip(values, half, known, strict=True)
    )
    return found, np.where(usable, 0, mapped)


def resampled(counts: Int[np.ndarray, "unit value"]) -> Iterator[Int[np.ndarray, "sample value"]]:
    """Sums over all units drawn with replacement, several resamples at a time."""
    sparse, units = csr_array(counts), len(counts)
    generator = np.random.default_rng(SEED)
    for start in range(0, SAMPLES, _CHUNK):
        size = min(_CHUNK, SAMPLES - start)
        drawn = generator.integers(units, size=(size, units)) + units * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units)
        yield (sparse.T @ times.T).T


def _estimate(value: Any, drawn: list[Float[np.ndarray, " sample"]]) -> Estimate:
    if np.isnan(value) or not drawn:
        return Estimate(value=defined(value), interval=None)
    values, tail = np.concatenate(drawn), (1 - LEVEL) / 2
    low = np.quantile(np.nan_to_num(values, nan=0.0), tail)
    high = np.quantile(np.nan_to_num(values, nan=1.0), 1 - tail)
    return Estimate(value=float(value), interval=(float(low), float(high)))


def _share(part: Any, whole: Any) -> Any:
    """A quotient; NaN if ``whole`` is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)
