"""Metrics of a classifier of local climate zones, as plain numbers that fit into JSON.

A value that is undefined (the recall of a class without patches, kappa of a single class) is None, never NaN.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    recall_score,
)

from bp_lcz.scheme import BUILT, CLASS_COUNT, NATURAL, ZONES

CALIBRATION_BINS = 15
_CLASSES = np.arange(CLASS_COUNT)


def evaluate_predictions(
    y_true: Integer[np.ndarray, "patch"],
    y_pred: Integer[np.ndarray, "patch"],
    probability: Float[np.ndarray, "patch klass"] | None = None,
) -> dict[str, Any]:
    """All metrics of one classifier on one split.

    Args:
        y_true: class index of each patch, 0..16.
        y_pred: predicted class index of each patch, 0..16.
        probability: class probabilities of each patch; None where the classifier gave none.

    Returns:
        ``oa`` (overall accuracy); ``aa`` (mean recall) and ``macro_f1``, both over the classes present in
        ``y_true``; ``kappa`` (Cohen); ``oa_built`` and ``oa_natural`` (overall accuracy of the patches whose
        true class is 1..10 or A..G); ``ece`` (expected calibration error of the top label, 15 bins of equal
        width); ``per_class`` (a mapping of code, name, support, precision, recall, f1 for each class);
        ``confusion`` (17 x 17 counts, rows are true classes).

    Raises:
        ValueError: if there is no patch, lengths differ, or a class index is outside 0..16.
    """
    _check_classes(y_true, y_pred)
    present = np.unique(y_true)
    confusion = confusion_matrix(y_true, y_pred, labels=_CLASSES)
    built, natural = np.isin(y_true, BUILT), np.isin(y_true, NATURAL)
    return {
        "oa": float(accuracy_score(y_true, y_pred)),
        "aa": float(recall_score(y_true, y_pred, labels=present, average="macro", zero_division=0)),
        "kappa": _kappa(y_true, y_pred),
        "macro_f1": float(f1_score(y_true, y_pred, labels=present, average="macro", zero_division=0)),
        "oa_built": float(accuracy_score(y_true[built], y_pred[built])) if built.any() else None,
        "oa_natural": float(accuracy_score(y_true[natural], y_pred[natural])) if natural.any() else None,
        "ece": None if probability is None else reliability(y_true, probability).ece,
        "per_class": _per_class(y_true, y_pred),
        "confusion": confusion.tolist(),
    }


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy of the top label, in bins of equal width over 0..1.

    Attributes:
        count: patches in each bin.
        confidence: mean probability of the predicted class in each bin; NaN where the bin is empty.
        accuracy: share of right predictions in each bin; NaN where the bin is empty.
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


def _kappa(y_true: Integer[np.ndarray, "patch"], y_pred: Integer[np.ndarray, "patch"]) -> float | None:
    if len(np.union1d(y_true, y_pred)) == 1:  # chance agrees always: 0 / 0
        return None
    return float(cohen_kappa_score(y_true, y_pred))


def _per_class(y_true: Integer[np.ndarray, "patch"], y_pred: Integer[np.ndarray, "patch"]) -> list[dict[str, Any]]:
    precision, recall, f1, support = precision_recall_fscore_support(
        y_true, y_pred, labels=_CLASSES, zero_division=np.nan
    )
    return [
        {
            "code": zone.code,
            "name": zone.name,
            "support": int(support[i]),
            "precision": _defined(precision[i]),
            "recall": _defined(recall[i]),
            "f1": _defined(f1[i]),
        }
        for i, zone in enumerate(ZONES)
    ]


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
