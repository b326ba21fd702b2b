"""Calibration: a temperature, and sets of classes that hold the true class as often as asked.

Both are fitted on the validation split when training ends (docs/adr/0025). Sets are split conformal prediction with the
probability of a class as its score (Vovk et al. 2005; Sadinle, Lei and Wasserman 2019): a class is in the set if its
probability is at least that of the true class in all but a share of the validation patches.
"""

import math

import numpy as np
from jaxtyping import Float, Int, Integer

from bp_lcz.errors import UserError
from bp_lcz.records import Calibration

COVERAGES = range(50, 100)
"""Percent for which a threshold is kept."""

LOWEST, HIGHEST = 0.1, 10.0
"""Bounds of the temperature: few patches that are all right would ask for 0, all wrong for infinity."""

_STEPS = 60
"""Halvings of an interval, below the last digit that is kept."""


def fit_calibration(logits: Float[np.ndarray, "patch klass"], label: Integer[np.ndarray, " patch"]) -> Calibration:
    """The temperature by which logits are divided, and thresholds of sets.

    Args:
        logits: of the network for the validation split.
        label: true class indices.

    Returns:
        The temperature of the smallest cross-entropy, and thresholds on probabilities made with it. Numbers have six
        digits, so that another order of summation does not make a checkpoint new.
    """
    temperature = float(f"{_temperature(logits.astype(np.float64), label):.6g}")
    probability = _softmax(logits.astype(np.float64) / temperature)
    scores = np.sort(probability[np.arange(len(label)), label])
    return Calibration(
        temperature=temperature,
        patches=len(label),
        thresholds=tuple(_threshold(scores, percent) for percent in COVERAGES),
    )


def set_threshold(calibration: Calibration | None, coverage: float, model: str) -> float:
    """Smallest probability of a class that belongs to a set of this coverage.

    Args:
        calibration: of the model.
        coverage: share of patches whose set is to hold the true class, .50 to .99 in hundredths.
        model: its name for the message.

    Raises:
        UserError: if the coverage is another, or the model has no calibration.
    """
    percent = round(100 * coverage)
    if percent not in COVERAGES or not math.isclose(percent, 100 * coverage):
        raise UserError(f"coverage {coverage:g}", "expected .50 to .99, in hundredths")
    if calibration is None:
        raise UserError(model, "has no calibration, which training on a validation split gives; no sets without it")
    return calibration.thresholds[percent - COVERAGES.start]


def set_sizes(probability: Float[np.ndarray, "patch klass"], threshold: float) -> Int[np.ndarray, " patch"]:
    """Number of classes in the set of each patch; the most probable one is always in it."""
    sizes: np.ndarray = np.maximum((probability >= np.float32(threshold)).sum(axis=1), 1)
    return sizes


def is_in_set(
    probability: Float[np.ndarray, "patch klass"], label: Integer[np.ndarray, " patch"], threshold: float
) -> np.ndarray:
    """Whether the set of each patch holds its true class."""
    own = probability[np.arange(len(label)), label]
    is_in: np.ndarray = (own >= np.float32(threshold)) | (probability.argmax(axis=1) == label)
    return is_in


def _temperature(logits: Float[np.ndarray, "patch klass"], label: Integer[np.ndarray, " patch"]) -> float:
    """Cross-entropy is convex in one over the temperature, so the root of its slope is the only one."""
    low, high = 1 / HIGHEST, 1 / LOWEST
    own = logits[np.arange(len(label)), label]
    for _ in range(_STEPS):
        middle = math.sqrt(low * high)
        expected = (_softmax(middle * logits) * logits).sum(axis=1)
        if float((expected - own).mean()) < 0:
            low = middle
        else:
            high = middle
    return 1 / math.sqrt(low * high)


def _threshold(scores: Float[np.ndarray, " patch"], percent: int) -> float:
    """Largest score that at most the allowed share of patches lies below; 0 if there are too few patches to tell."""
    missed = math.floor((len(scores) + 1) * (100 - percent) / 100)
    # Rounded down: a class with just the score of a patch of the validation split is in.
    return math.floor(1e6 * scores[missed - 1]) / 1e6 if missed else 0.0


def _softmax(logits: Float[np.ndarray, "patch klass"]) -> Float[np.ndarray, "patch klass"]:
    power = np.exp(logits - logits.max(axis=1, keepdims=True))
    share: np.ndarray = power / power.sum(axis=1, keepdims=True)
    return share
