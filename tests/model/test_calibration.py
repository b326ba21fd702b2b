"""The temperature and the sets: what they promise, on patches whose truth is known."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from bp_lcz.model.calibration import (
    HIGHEST,
    LOWEST,
    fit_calibration,
    is_in_set,
    set_sizes,
    set_threshold,
)
from bp_lcz.scoring.metrics import reliability
from tests.records import CALIBRATION
from tests.refusals import refuses


def drawn(count: int, seed: int, factor: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are ``factor`` times too sure, and classes drawn by the honest ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2.0, size=(count, 17))
    label = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return (factor * logits).astype(np.float32), label


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    probability: np.ndarray = torch.from_numpy(logits / np.float32(temperature)).softmax(1).numpy()
    return probability


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_is_what_logits_are_too_sure_by(factor: float) -> None:
    assert fit_calibration(*drawn(20_000, 1, factor)).temperature == pytest.approx(factor, rel=0.03)


def test_no_other_temperature_has_a_smaller_loss() -> None:
    logits, label = drawn(300, 2, 1.7)
    best = fit_calibration(logits, label).temperature
    losses = [
        float(cross_entropy(torch.from_numpy(logits / t), torch.from_numpy(label)))
        for t in (0.98 * best, best, 1.02 * best)
    ]
    assert losses[1] < min(losses[0], losses[2])


def test_probabilities_become_honest_and_classes_stay() -> None:
    temperature = fit_calibration(*drawn(5000, 3, 3.0)).temperature
    logits, label = drawn(5000, 4, 3.0)
    before, after = softmax(logits), softmax(logits, temperature)
    assert reliability(label, before).ece > 0.2
    assert reliability(label, after).ece < 0.03
    assert np.array_equal(before.argmax(1), after.argmax(1))


def test_patches_that_are_all_right_or_all_wrong_ask_for_a_bound() -> None:
    logits = np.eye(17, dtype=np.float32)
    assert fit_calibration(logits, np.arange(17)).temperature == pytest.approx(LOWEST)
    assert fit_calibration(logits, (np.arange(17) + 1) % 17).temperature == pytest.approx(HIGHEST)


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.99])
def test_sets_hold_the_true_class_as_often_as_asked(coverage: float) -> None:
    reached = []
    for seed in range(40):
        calibration = fit_calibration(*drawn(150, 100 + seed))
        logits, label = drawn(500, 900 + seed)
        threshold = set_threshold(calibration, coverage, "model")
        reached.append(is_in_set(softmax(logits, calibration.temperature), label, threshold).mean())
    assert coverage - 0.01 < np.mean(reached) < max(coverage + 0.02, 0.6)


def test_a_larger_coverage_has_larger_sets_and_none_is_empty() -> None:
    calibration, (logits, _) = fit_calibration(*drawn(200, 5)), drawn(200, 6)
    sizes = [set_sizes(softmax(logits), set_threshold(calibration, c, "model")) for c in (0.5, 0.9, 0.99)]
    assert min(map(np.min, sizes)) >= 1
    assert (sizes[0] <= sizes[1]).all()
    assert (sizes[1] <= sizes[2]).all()
    assert sizes[0].mean() < sizes[2].mean()


def test_so_few_patches_that_nothing_can_be_promised_give_sets_of_all_classes() -> None:
    calibration, (logits, _) = fit_calibration(*drawn(8, 7)), drawn(5, 8)
    assert set_sizes(softmax(logits), set_threshold(calibration, 0.9, "model")).tolist() == [17] * 5


@pytest.mark.parametrize("coverage", [0.3, 0.905, 1.0])
def test_a_coverage_without_a_threshold_is_refused(coverage: float) -> None:
    with refuses(f"coverage {coverage:g}", ".50", ".99"):
        set_threshold(CALIBRATION, coverage, "model")


def test_a_model_without_calibration_has_no_sets() -> None:
    with refuses("models/sen2lcz-mf", "calibration"):
        set_threshold(None, 0.9, "models/sen2lcz-mf")
