"""Intervals of means over training seeds that hold for other cities and other seeds.

Every seed of a trial is tested on every city, and both are samples. They are two crossed random factors, like readers
and cases in comparisons of radiologists. The variance of a mean is the variance between seeds, plus the variance
between cities beyond that of their interaction. The interval is Student's t with degrees of freedom after Welch and
Satterthwaite.

A difference treats the seeds of both sides as independent: trials of equal seeds share only the order of patches.

Source: Obuchowski and Rockette 1995 with the variance of Hillis (Statistics in Medicine 33, 2014) for readers nested in
tests; jackknife over cities after Dorfman, Berbaum and Metz 1992. docs/statistics.md measures its false verdicts.
"""

import numpy as np
from jaxtyping import Float, Integer
from scipy.special import stdtrit

from bp_lcz.records import Interval, Metric
from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.scoring.metrics import confusion_matrix, confusion_metrics
from bp_lcz.scoring.significance import INTERVAL_METRICS, LEVEL


def crossed_intervals(
    y_true: Integer[np.ndarray, "patch"], *sides: Integer[np.ndarray, "_ patch"], block: Integer[np.ndarray, "patch"]
) -> dict[Metric, Interval]:
    """95 % intervals of the mean over seeds, or of the mean of a first side minus that of a second side.

    The order of patches, blocks and seeds and the numbers of blocks do not change the result. If a block is the only
    one with some class, that class counts with 0 or keeps its value when the block is left out, whichever gives the
    wider interval.

    Args:
        y_true: class index of each patch, 0..16.
        sides: one or two, each the predicted class indices of at least two training seeds.
        block: city or spatial block of each patch, or the patch itself.

    Returns:
        ``(low, high)`` for each of ``INTERVAL_METRICS``; None with a single block, and for a metric that is undefined
        without some block.
    """
    if (block == block[0]).all():
        return dict.fromkeys(INTERVAL_METRICS)
    means = [{name: values.mean() for name, values in _values(y_true, side).items()} for side in sides]
    widths = []
    for lost in (0.0, 1.0):
        values = [_jackknife(y_true, side, block, lost) for side in sides]
        widths.append({name: half_width(*(side[name] for side in values)) for name in INTERVAL_METRICS})
    intervals: dict[Metric, Interval] = {}
    for name in INTERVAL_METRICS:
        centre = float(means[0][name] - sum(side[name] for side in means[1:]))
        width = float(np.max([each[name] for each in widths]))
        intervals[name] = None if np.isnan(width) else (centre - width, centre + width)
    return intervals


def half_width(*sides: Float[np.ndarray, "*batch _ city"]) -> Float[np.ndarray, "*batch"]:
    """Half width of the 95 % interval of a mean over seeds and cities, or of a difference; NaN if a value is NaN.

    Args:
        sides: one or two, each the values of at least two seeds in the same cities, at least two.
    """
    cities = sides[0].shape[-1]
    between = [_mean((_over_cities(side) - _grand(side)[..., None]) ** 2) / (side.shape[-2] - 1) for side in sides]
    chance = sum(_residual(side) for side in sides)
    by_city = _over_seeds(sides[0]) - sum(_over_seeds(side) for side in sides[1:])
    centred = by_city - _mean(by_city)[..., None]
    # Interaction alone also makes the cities' means differ. The variance between seeds includes it already.
    surplus = np.maximum(_mean(centred**2) / (cities - 1) - chance, 0)
    variance = sum(between) + surplus
    parts = sum(part**2 / (side.shape[-2] - 1) for part, side in zip(between, sides, strict=True)) + surplus**2 / (
        cities - 1
    )
    freedom = np.divide(variance**2, parts, out=np.ones_like(parts), where=parts > 0)
    return np.asarray(stdtrit(freedom, (1 + LEVEL) / 2) * np.sqrt(variance))


def pseudovalues(
    value: Float[np.ndarray, "*batch seed"], without: Float[np.ndarray, "*batch seed city"]
) -> Float[np.ndarray, "*batch seed city"]:
    """Jackknife pseudovalues: the contribution of each city to a metric. Their mean over cities is the metric.

    Args:
        value: metric of each seed.
        without: metric of each seed with one city left out.
    """
    return value[..., None] + (without.shape[-1] - 1) * (_mean(without)[..., None] - without)


def _values(y_true: np.ndarray, y_pred: Integer[np.ndarray, "seed patch"]) -> dict[Metric, np.ndarray]:
    values = confusion_metrics(np.stack([confusion_matrix(y_true, row) for row in y_pred]))
    return {name: np.sort(each) for name, each in values.items()}


def _jackknife(
    y_true: Integer[np.ndarray, "patch"],
    y_pred: Integer[np.ndarray, "seed patch"],
    block: Integer[np.ndarray, "patch"],
    lost: float,
) -> dict[Metric, Float[np.ndarray, "seed block"]]:
    """Pseudovalues of each seed; ``lost`` as in `confusion_metrics`."""
    names, position = np.unique(block, return_inverse=True)
    rows = []
    for predicted in y_pred:
        whole = confusion_matrix(y_true, predicted)
        pair = y_true.astype(np.int64) * CLASS_COUNT + predicted
        if len(names) == len(block):  # a matrix for each kind of patch instead of each patch
            kinds, kind = np.unique(pair[np.argsort(position)], return_inverse=True)
            single = np.eye(CLASS_COUNT**2, dtype=np.int64)[kinds]
        else:
            kind = np.arange(len(names))
            single = np.bincount(position * CLASS_COUNT**2 + pair, minlength=len(names) * CLASS_COUNT**2)
        without = confusion_metrics(whole - single.reshape(-1, CLASS_COUNT, CLASS_COUNT), whole, lost)
        rows.append({name: (value, without[name][kind]) for name, value in confusion_metrics(whole).items()})
    return {
        name: pseudovalues(np.stack([row[name][0] for row in rows]), np.stack([row[name][1] for row in rows]))
        for name in INTERVAL_METRICS
    }


def _residual(side: Float[np.ndarray, "*batch seed city"]) -> Float[np.ndarray, "*batch"]:
    """Variance of the mean of a side from the residual of seeds and cities."""
    seeds, cities = side.shape[-2:]
    rest = side - _over_cities(side)[..., None] - (_over_seeds(side) - _grand(side)[..., None])[..., None, :]
    return np.asarray(_grand(rest**2) / ((seeds - 1) * (cities - 1)))


def _over_cities(side: Float[np.ndarray, "*batch seed city"]) -> Float[np.ndarray, "*batch seed"]:
    return _mean(side)


def _over_seeds(side: Float[np.ndarray, "*batch seed city"]) -> Float[np.ndarray, "*batch city"]:
    return _mean(np.swapaxes(side, -1, -2))


def _grand(side: Float[np.ndarray, "*batch seed city"]) -> Float[np.ndarray, "*batch"]:
    return _mean(side.reshape(*side.shape[:-2], -1))


def _mean(values: Float[np.ndarray, "*batch _"]) -> Float[np.ndarray, "*batch"]:
    """Mean over the last axis of sorted values, so that the order of seeds and cities changes no bit."""
    return np.asarray(np.sort(values, axis=-1).mean(axis=-1))
