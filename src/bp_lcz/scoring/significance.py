"""Uncertainty of a model's results: cluster bootstrap over blocks of patches, and McNemar's test.

These intervals are about one or two trained models in other cities. The intervals of `crossed` are about training
procedures, so they also include other seeds.

Errors of patches of one city are correlated, and those of overlapping patches even more. So whole blocks are resampled.
A metric of a resample is computed from the sum of its blocks' confusion matrices, which reads each patch only once.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer
from scipy.sparse import csr_array

from bp_lcz.records import Interval, Metric
from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.scoring.metrics import confusion_metrics

LEVEL = 0.95
INTERVAL_METRICS: tuple[Metric, ...] = ("oa", "aa", "kappa", "macro_f1")
_CHUNK = 250  # resamples held at a time


def bootstrap_intervals(
    y_true: Integer[np.ndarray, "patch"],
    y_pred: Integer[np.ndarray, "patch"],
    block: Integer[np.ndarray, "patch"],
    samples: int,
    seed: int,
) -> dict[Metric, Interval]:
    """95 % percentile intervals of the metrics, by resampling whole blocks with replacement.

    The order of the patches and the numbers of the blocks do not change the result.

    Means over classes are always over the classes of all patches. A resample that lost a class has no information on
    it. So the class counts with its value in all patches for the high end and with 0 for the low end (for a difference,
    in the way that gives the wider interval). A lost class thus never raises an interval, and widens it downwards.

    Args:
        y_true: class index of each patch, 0..16.
        y_pred: predicted class index of each patch, 0..16.
        block: resampling unit of each patch (city, spatial block, or the patch itself).
        samples: number of resamples.
        seed: seed of the resampling.

    Returns:
        ``(low, high)`` for each of ``INTERVAL_METRICS``; None with a single block, whose resamples are all equal, and
        for a metric that is undefined in every resample.
    """
    return _bootstrap(y_true, y_pred[None], block, samples, seed)


def bootstrap_differences(
    y_true: Integer[np.ndarray, "patch"],
    pred_a: Integer[np.ndarray, "patch"],
    pred_b: Integer[np.ndarray, "patch"],
    block: Integer[np.ndarray, "patch"],
    samples: int,
    seed: int,
) -> dict[Metric, Interval]:
    """95 % intervals of the lead of ``pred_a`` over ``pred_b``, both resampled with the same blocks.

    Arguments and result are as in `bootstrap_intervals`; values are differences a - b of the metrics.
    """
    return _bootstrap(y_true, np.stack([pred_a, pred_b]), block, samples, seed)


def mcnemar(
    y_true: Integer[np.ndarray, "patch"],
    pred_a: Integer[np.ndarray, "patch"],
    pred_b: Integer[np.ndarray, "patch"],
) -> dict[str, Any]:
    """McNemar's exact test of two classifiers on the same patches. It assumes independent patches.

    Args:
        y_true: class index of each patch.
        pred_a: predictions of one classifier.
        pred_b: predictions of the other.

    Returns:
        ``b``: patches that only a classifies correctly; ``c``: patches that only b classifies correctly; ``p``:
        two-sided probability of a split at least as uneven if both were equally good (1 if they never differ).
    """
    from scipy.stats import binomtest  # here, since its import takes a second

    a_right, b_right = pred_a == y_true, pred_b == y_true
    only_a, only_b = int((a_right & ~b_right).sum()), int((b_right & ~a_right).sum())
    p = float(binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0
    return {"b": only_a, "c": only_b, "p": p}


def _bootstrap(
    y_true: Integer[np.ndarray, "patch"],
    y_pred: Integer[np.ndarray, "side patch"],
    block: Integer[np.ndarray, "patch"],
    samples: int,
    seed: int,
) -> dict[Metric, Interval]:
    """Intervals of one side, or of the first side minus the second."""
    if (block == block[0]).all():
        return dict.fromkeys(INTERVAL_METRICS)
    distinct, times = _distinct_blocks(y_true, y_pred, block)
    matrices = (len(y_pred), CLASS_COUNT, CLASS_COUNT)
    sample = (distinct.T @ times).reshape(matrices)
    drawn: dict[float, list[dict[Metric, np.ndarray]]] = {0.0: [], 1.0: []}
    for sums in _resamples(distinct, times, samples, seed):
        for lost in (0.0, 1.0):
            metrics = confusion_metrics(sums.reshape(len(sums), *matrices), sample, lost)
            drawn[lost].append({name: side[:, 0] - side[:, 1:].sum(axis=1) for name, side in metrics.items()})
    return _intervals(*drawn.values())


def _distinct_blocks(
    y_true: Integer[np.ndarray, "patch"],
    y_pred: Integer[np.ndarray, "classifier patch"],
    block: Integer[np.ndarray, "patch"],
) -> tuple[csr_array, Int[np.ndarray, "distinct"]]:
    """The distinct confusion matrices of blocks, flattened and concatenated, and the number of blocks with each.

    Equal blocks are drawn as one, in proportion to their number. This makes single patches affordable as blocks. The
    result is sorted by the matrices, so the names of blocks do not change it.
    """
    names, position = np.unique(block, return_inverse=True)
    pair = y_true.astype(np.int64) * CLASS_COUNT + y_pred
    entries = CLASS_COUNT**2
    if len(names) == len(block):
        columns, times = np.unique(pair, axis=1, return_counts=True)
        flat = columns + entries * np.arange(len(pair))[:, None]
        ones, ends = np.ones(flat.size, dtype=np.int64), np.arange(0, flat.size + 1, len(pair))
        return csr_array((ones, flat.T.ravel(), ends), shape=(len(times), len(pair) * entries)), times
    counts = [
        np.bincount(position * entries + row, minlength=len(names) * entries).reshape(-1, entries) for row in pair
    ]
    flat = np.concatenate(counts, axis=1)
    as_bytes = flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1]))).ravel()
    _, first, times = np.unique(as_bytes, return_index=True, return_counts=True)
    return csr_array(flat[first]), times


def _resamples(
    distinct: csr_array, times: Int[np.ndarray, "distinct"], samples: int, seed: int
) -> Iterator[Int[np.ndarray, "sample entry"]]:
    """Sums over all blocks drawn with replacement, ``samples`` times."""
    generator = np.random.default_rng(seed)
    for start in range(0, samples, _CHUNK):
        size = min(_CHUNK, samples - start)
        drawn = generator.multinomial(times.sum(), times / times.sum(), size=size)
        yield (distinct.T @ drawn.T).T


def _intervals(*drawn: list[dict[Metric, Float[np.ndarray, "_"]]]) -> dict[Metric, Interval]:
    """Percentiles over resamples, with the smaller value of each for the low end and the larger for the high end."""
    tail = (1 - LEVEL) / 2
    intervals: dict[Metric, Interval] = {}
    for name in INTERVAL_METRICS:
        values = np.stack([np.concatenate([metrics[name] for metrics in each]) for each in drawn])
        defined = values[:, ~np.isnan(values).any(axis=0)]
        low, high = defined.min(axis=0), defined.max(axis=0)
        intervals[name] = (float(np.quantile(low, tail)), float(np.quantile(high, 1 - tail))) if low.size else None
    return intervals
