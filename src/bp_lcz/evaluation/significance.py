"""How far a result could be chance: cluster bootstrap over blocks of patches, and McNemar's test.

Patches of one city, and overlapping patches all the more, err together. So whole blocks are resampled, and a
metric of a resample is a function of the sum of its blocks' confusion matrices: no patch is touched twice.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer
from scipy.stats import binomtest

from bp_lcz.scheme import CLASS_COUNT

LEVEL = 0.95
INTERVAL_METRICS = ("oa", "aa", "kappa", "macro_f1")
_CHUNK = 250  # resamples held at a time

Interval = list[float] | None


def confusion_metrics(
    confusion: Int[np.ndarray, "*batch klass klass"],
) -> dict[str, Float[np.ndarray, "*batch"]]:
    """Metrics of many confusion matrices at once.

    Args:
        confusion: counts, rows are true classes; at least one patch in each matrix.

    Returns:
        ``oa``, ``aa``, ``kappa`` and ``macro_f1`` as in `bp_lcz.evaluation.metrics`; NaN where undefined.
    """
    total = confusion.sum(axis=(-2, -1))
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    true, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    present = true > 0
    class_count = present.sum(axis=-1)
    recall = np.divide(right, true, out=np.zeros(right.shape), where=present)
    f1 = np.divide(2 * right, true + predicted, out=np.zeros(right.shape), where=present)
    oa = right.sum(axis=-1) / total
    chance = (true / total[..., None] * (predicted / total[..., None])).sum(axis=-1)
    single_class = ((true + predicted) > 0).sum(axis=-1) == 1
    kappa = np.divide(oa - chance, 1 - chance, out=np.full(oa.shape, np.nan), where=~single_class)
    aa, macro_f1 = recall.sum(axis=-1) / class_count, f1.sum(axis=-1) / class_count
    return {
        "oa": np.asarray(oa),
        "aa": np.asarray(aa),
        "kappa": np.asarray(kappa),
        "macro_f1": np.asarray(macro_f1),
    }


def bootstrap_intervals(
    y_true: Integer[np.ndarray, "patch"],
    y_pred: Integer[np.ndarray, "patch"],
    block: Integer[np.ndarray, "patch"],
    samples: int,
    seed: int,
) -> dict[str, Interval]:
    """95 % percentile intervals of the metrics, by resampling whole blocks with replacement.

    The result depends neither on the order of the patches nor on the numbers that name the blocks.

    Args:
        y_true: class index of each patch, 0..16.
        y_pred: predicted class index of each patch, 0..16.
        block: resampling unit of each patch (city, spatial block, or the patch itself).
        samples: number of resamples.
        seed: of the resampling.

    Returns:
        ``[low, high]`` for each of ``INTERVAL_METRICS``; None with a single block, whose resamples are all
        alike, and for a metric that is undefined in every resample.
    """
    confusion = _block_confusion(y_true, y_pred, block)
    if len(confusion) == 1:
        return dict.fromkeys(INTERVAL_METRICS)
    drawn = [confusion_metrics(resample) for resample in _resamples(confusion, samples, seed)]
    return _intervals(drawn)


def bootstrap_differences(
    y_true: Integer[np.ndarray, "patch"],
    pred_a: Integer[np.ndarray, "patch"],
    pred_b: Integer[np.ndarray, "patch"],
    block: Integer[np.ndarray, "patch"],
    samples: int,
    seed: int,
) -> dict[str, Interval]:
    """95 % intervals of how much ``pred_a`` beats ``pred_b``, both resampled with the same blocks.

    Arguments and result as in `bootstrap_intervals`; values are differences a - b of the metrics.
    """
    a, b = _block_confusion(y_true, pred_a, block), _block_confusion(y_true, pred_b, block)
    if len(a) == 1:
        return dict.fromkeys(INTERVAL_METRICS)
    drawn = []
    for pair in _resamples(np.stack([a, b], axis=1), samples, seed):
        metrics = confusion_metrics(pair)
        drawn.append({name: values[:, 0] - values[:, 1] for name, values in metrics.items()})
    return _intervals(drawn)


def mcnemar(
    y_true: Integer[np.ndarray, "patch"],
    pred_a: Integer[np.ndarray, "patch"],
    pred_b: Integer[np.ndarray, "patch"],
) -> dict[str, Any]:
    """McNemar's exact test of two classifiers on the same patches, which it takes for independent.

    Args:
        y_true: class index of each patch.
        pred_a: predictions of one classifier.
        pred_b: predictions of the other.

    Returns:
        ``b``: patches that only a has right; ``c``: patches that only b has right; ``p``: two-sided
        probability of a split at least as uneven if both were equally good (1 where they never differ).
    """
    a_right, b_right = pred_a == y_true, pred_b == y_true
    only_a, only_b = int((a_right & ~b_right).sum()), int((b_right & ~a_right).sum())
    p = float(binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0
    return {"b": only_a, "c": only_b, "p": p}


def _block_confusion(
    y_true: Integer[np.ndarray, "patch"],
    y_pred: Integer[np.ndarray, "patch"],
    block: Integer[np.ndarray, "patch"],
) -> Int[np.ndarray, "block klass klass"]:
    names, position = np.unique(block, return_inverse=True)
    cells = CLASS_COUNT**2
    pair = y_true.astype(np.int64) * CLASS_COUNT + y_pred
    counts = np.bincount(position * cells + pair, minlength=len(names) * cells)
    return counts.reshape(len(names), CLASS_COUNT, CLASS_COUNT)


def _resamples(
    blocks: Int[np.ndarray, "block *matrix"], samples: int, seed: int
) -> list[Int[np.ndarray, "sample *matrix"]]:
    """Sums over as many blocks as there are, drawn with replacement, ``samples`` times.

    Blocks with equal matrices are drawn as one, in proportion to their number: with single patches as blocks
    there are at most 17 x 17 of them.
    """
    flat = np.ascontiguousarray(blocks.reshape(len(blocks), -1))
    as_bytes = flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1]))).ravel()
    _, first, multiplicity = np.unique(as_bytes, return_index=True, return_counts=True)
    distinct = flat[first].astype(np.float64)  # exact below 2**53, and a fast matrix product
    generator = np.random.default_rng(seed)
    drawn = []
    for start in range(0, samples, _CHUNK):
        size = min(_CHUNK, samples - start)
        times = generator.multinomial(len(blocks), multiplicity / len(blocks), size=size)
        sums = (times.astype(np.float64) @ distinct).astype(np.int64)
        drawn.append(sums.reshape(size, *blocks.shape[1:]))
    return drawn


def _intervals(drawn: list[dict[str, Float[np.ndarray, "sample"]]]) -> dict[str, Interval]:
    tail = (1 - LEVEL) / 2
    intervals: dict[str, Interval] = {}
    for name in INTERVAL_METRICS:
        values = np.concatenate([metrics[name] for metrics in drawn])
        defined = values[~np.isnan(values)]
        intervals[name] = np.quantile(defined, [tail, 1 - tail]).tolist() if len(defined) else None
    return intervals
