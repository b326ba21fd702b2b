"""Metrics of a classifier of local climate zones.

In a record, a value that is undefined (the recall of a class without patches, kappa of a single class) is None.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer

from bp_lcz.records import ClassScores, Metric, Scores
from bp_lcz.scheme import BUILT, CLASS_COUNT, NATURAL, ZONES

CALIBRATION_BINS = 15


def evaluate_predictions(
    y_true: Integer[np.ndarray, "patch"],
    y_pred: Integer[np.ndarray, "patch"],
    probability: Float[np.ndarray, "patch klass"] | None = None,
) -> Scores:
    """All metrics of one classifier on one split.

    Args:
        y_true: class index of each patch, 0..16.
        y_pred: predicted class index of each patch, 0..16.
        probability: class probabilities of each patch; None if the classifier gave none.

    Raises:
        ValueError: if there is no patch, lengths differ, or a class index is outside 0..16.
    """
    confusion = confusion_matrix(y_true, y_pred)
    means = confusion_metrics(confusion)
    right, true = np.diagonal(confusion), confusion.sum(axis=1)
    built, natural = (defined(_share(right[zones].sum(), true[zones].sum())) for zones in (list(BUILT), list(NATURAL)))
    return Scores(
        oa=float(means["oa"]),
        aa=float(means["aa"]),
        kappa=defined(means["kappa"]),
        macro_f1=float(means["macro_f1"]),
        oa_built=built,
        oa_natural=natural,
        ece=None if probability is None else reliability(y_true, probability).ece,
        per_class=_per_class(confusion),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def confusion_matrix(
    y_true: Integer[np.ndarray, "patch"], y_pred: Integer[np.ndarray, "patch"]
) -> Int[np.ndarray, "klass klass"]:
    """Patches of each pair of a true class (row) and a predicted one, 17 x 17.

    Raises:
        ValueError: if there is no patch, lengths differ, or a class index is outside 0..16.
    """
    _check_classes(y_true, y_pred)
    pair = y_true.astype(np.int64) * CLASS_COUNT + y_pred
    return np.bincount(pair, minlength=CLASS_COUNT**2).reshape(CLASS_COUNT, CLASS_COUNT)


def confusion_metrics(
    confusion: Int[np.ndarray, "*batch klass klass"],
    sample: Int[np.ndarray, "*#batch klass klass"] | None = None,
    lost: float = 1.0,
) -> dict[Metric, Float[np.ndarray, "*batch"]]:
    """Overall accuracy and the means over classes of many confusion matrices at once.

    Args:
        confusion: counts, rows are true classes; at least one patch in each matrix.
        sample: matrices of the whole sample, if ``confusion`` are resamples of it. Means are always over the classes of
            the sample, since means over the classes of a resample would be another quantity.
        lost: weight of a class that a resample lost, as a share of its value in the sample, 0..1.

    Returns:
        ``oa`` (overall accuracy), ``aa`` (mean recall), ``kappa`` and ``macro_f1``; NaN where undefined.
    """
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    of_class = _recall_and_f1(confusion)
    if sample is not None:
        is_lost = confusion.sum(axis=-1) == 0
        of_class = [
            np.where(is_lost, lost * whole, own) for own, whole in zip(of_class, _recall_and_f1(sample), strict=True)
        ]
    aa, macro_f1 = (np.asarray(np.nanmean(values, axis=-1)) for values in of_class)
    oa = np.asarray(right.sum(axis=-1) / confusion.sum(axis=(-2, -1)))
    return {"oa": oa, "aa": aa, "kappa": kappa(confusion), "macro_f1": macro_f1}


def kappa(confusion: Int[np.ndarray, "*batch klass klass"]) -> Float[np.ndarray, "*batch"]:
    """Cohen's kappa of confusion matrices.

    It is NaN (undefined) if all true and all predicted classes are one class, since chance agreement is then 1. Only
    the last step divides whole numbers, so equal matrices give equal bits in any order.
    """
    total, right = confusion.sum(axis=(-2, -1)), np.trace(confusion, axis1=-2, axis2=-1)
    chance = (confusion.sum(axis=-1) * confusion.sum(axis=-2)).sum(axis=-1)
    return np.asarray(_share(total * right - chance, total**2 - chance))


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy of the predicted class, in bins of equal width over 0..1.

    Attributes:
        count: patches in each bin.
        confidence: mean probability of the predicted class in each bin; NaN if the bin is empty.
        accuracy: share of right predictions in each bin; NaN if the bin is empty.
    """

    count: Integer[np.ndarray, "bin"]
    confidence: Float[np.ndarray, "bin"]
    accuracy: Float[np.ndarray, "bin"]

    @property
    def ece(self) -> float:
        """Expected calibration error: mean distance of confidence and accuracy, weighted by patches."""
        filled = self.count > 0
        gap = np.abs(self.confidence[filled] - self.accuracy[filled])
        return float(np.average(gap, weights=self.count[filled]))


def reliability(
    y_true: Integer[np.ndarray, "patch"],
    probability: Float[np.ndarray, "patch klass"],
    bins: int = CALIBRATION_BINS,
) -> Reliability:
    """Bin the patches by the probability of their predicted class.

    Args:
        y_true: class index of each patch, 0..16.
        probability: class probabilities of each patch.
        bins: number of bins of equal width; a value on an edge belongs to the lower bin.

    Raises:
        ValueError: if there is not one row of 17 probabilities within 0..1 for each patch.
    """
    if probability.shape != (len(y_true), CLASS_COUNT):
        raise ValueError(f"probability has shape {probability.shape}, not ({len(y_true)}, {CLASS_COUNT})")
    top = probability.max(axis=1).astype(np.float64)
    if not (np.isfinite(top).all() and top.min() >= 0 and top.max() <= 1 + 1e-6):
        raise ValueError("probability has values outside 0..1")
    right = probability.argmax(axis=1) == y_true
    position = np.clip(np.ceil(top * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(position, minlength=bins)
    filled = np.where(count > 0, count, np.nan)
    return Reliability(
        count=count,
        confidence=np.bincount(position, weights=top, minlength=bins) / filled,
        accuracy=np.bincount(position, weights=right, minlength=bins) / filled,
    )


def _check_classes(y_true: Integer[np.ndarray, "patch"], y_pred: Integer[np.ndarray, "patch"]) -> None:
    if not len(y_true):
        raise ValueError("no patch to evaluate")
    for name, classes in (("y_true", y_true), ("y_pred", y_pred)):
        if classes.min() < 0 or classes.max() >= CLASS_COUNT:
            raise ValueError(f"{name} has classes {classes.min()}..{classes.max()}; expected 0..{CLASS_COUNT - 1}")


def _recall_and_f1(confusion: Int[np.ndarray, "*batch klass klass"]) -> list[Float[np.ndarray, "*batch klass"]]:
    """Recall and F1 of classes with patches; NaN for other classes."""
    right, true = np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-1)
    f1 = _share(2 * right, true + confusion.sum(axis=-2))
    return [_share(right, true), np.where(true > 0, f1, np.nan)]


def _share(part: Any, whole: Any) -> Any:
    """A quotient; NaN if ``whole`` is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def _per_class(confusion: Int[np.ndarray, "klass klass"]) -> tuple[ClassScores, ...]:
    right, support, predicted = np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    precision, recall, f1 = _share(right, predicted), _share(right, support), _share(2 * right, support + predicted)
    return tuple(
        ClassScores(
            code=zone.code,
            name=zone.name,
            support=int(support[i]),
            precision=defined(precision[i]),
            recall=defined(recall[i]),
            f1=defined(f1[i]),
        )
        for i, zone in enumerate(ZONES)
    )


def defined(value: float | np.ndarray) -> float | None:
    """The number, or None for NaN."""
    return None if np.isnan(value) else float(value)
