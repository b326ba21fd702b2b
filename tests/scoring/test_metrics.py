import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.scoring.metrics import evaluate_predictions, reliability

pairs = st.lists(st.tuples(st.integers(0, 16), st.integers(0, 16)), min_size=1, max_size=60)
SCALARS = ("oa", "aa", "kappa", "macro_f1", "oa_built", "oa_natural", "ece")


def split(pairs):
    y_true, y_pred = np.array(pairs, dtype=np.int64).T
    return y_true, y_pred


def one_hot(y_pred):
    return np.eye(CLASS_COUNT, dtype=np.float32)[y_pred]


def test_metrics_of_a_small_example_are_those_computed_by_hand():
    # three of class 1 (two right, one taken for 2), one of class 2 (right), one of A (taken for 1)
    result = evaluate_predictions(np.array([0, 0, 0, 1, 10]), np.array([0, 0, 1, 1, 0]))
    assert result.oa == pytest.approx(3 / 5)
    assert result.aa == pytest.approx((2 / 3 + 1 + 0) / 3)
    chance = (3 * 3 + 1 * 2 + 1 * 0) / 25
    assert result.kappa == pytest.approx((3 / 5 - chance) / (1 - chance))
    assert result.macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert result.oa_built == pytest.approx(3 / 4)
    assert result.oa_natural == 0
    assert result.confusion[0][:2] == (2, 1)
    assert result.confusion[10][0] == 1


def test_a_class_without_patches_has_no_recall_and_counts_in_no_mean():
    result = evaluate_predictions(np.array([0, 0]), np.array([0, 5]))
    taken_for = result.per_class[5]
    never_seen = result.per_class[7]
    assert (taken_for.support, taken_for.recall, taken_for.precision) == (0, None, 0)
    assert (never_seen.recall, never_seen.precision, never_seen.f1) == (None, None, None)
    assert result.aa == 0.5
    assert result.oa_natural is None


def test_a_class_that_is_never_predicted_has_no_precision_but_a_recall_of_zero():
    row = evaluate_predictions(np.array([3, 4]), np.array([4, 4])).per_class[3]
    assert (row.precision, row.recall, row.f1) == (None, 0, 0)


def test_kappa_of_a_single_class_is_undefined():
    assert evaluate_predictions(np.array([2, 2]), np.array([2, 2])).kappa is None


@settings(deadline=None, max_examples=40)
@given(pairs)
def test_every_result_is_json_without_nan_and_no_warning_leaks(pairs):
    y_true, y_pred = split(pairs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = evaluate_predictions(y_true, y_pred, one_hot(y_pred))
    json.dumps(result.model_dump(mode="json"), allow_nan=False)


@settings(deadline=None, max_examples=40)
@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_patches_does_not_matter(pairs, random):
    shuffled = list(pairs)
    random.shuffle(shuffled)
    before, after = (evaluate_predictions(*split(order)) for order in (pairs, shuffled))
    assert before == after


@settings(deadline=None, max_examples=40)
@given(pairs, st.permutations(range(CLASS_COUNT)))
def test_the_numbering_of_classes_does_not_matter(pairs, permutation):
    y_true, y_pred = split(pairs)
    renamed = np.array(permutation)
    before = evaluate_predictions(y_true, y_pred)
    after = evaluate_predictions(renamed[y_true], renamed[y_pred])
    for name in ("oa", "aa", "kappa", "macro_f1"):
        assert getattr(after, name) == pytest.approx(getattr(before, name))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 16), min_size=2, max_size=40).filter(lambda classes: len(set(classes)) > 1))
def test_perfect_predictions_score_one_everywhere(classes):
    y_true = np.array(classes)
    result = evaluate_predictions(y_true, y_true, one_hot(y_true))
    assert [result.oa, result.aa, result.kappa, result.macro_f1] == pytest.approx([1, 1, 1, 1])
    assert result.ece == 0


def test_calibration_error_is_the_weighted_gap_of_confidence_and_accuracy():
    # three patches at .8 of which one is right, one patch at .5 that is right
    probability = np.zeros((4, CLASS_COUNT))
    probability[:3, 0], probability[:3, 1] = 0.8, 0.2
    probability[3, 4], probability[3, 5] = 0.51, 0.49
    y_true = np.array([0, 1, 1, 4])
    curve = reliability(y_true, probability)
    assert curve.ece == pytest.approx(3 / 4 * (0.8 - 1 / 3) + 1 / 4 * (1 - 0.51))
    assert curve.count.sum() == 4
    assert np.flatnonzero(curve.count).tolist() == [7, 11]  # .51 in (7/15, 8/15], .8 in (11/15, 12/15]


def test_certainty_belongs_to_the_last_bin():
    assert reliability(np.array([3]), one_hot(np.array([3]))).count[-1] == 1


@pytest.mark.parametrize(
    ("y_true", "y_pred", "fact"),
    [
        ([], [], "patch"),
        ([17], [0], "y_true"),
    ],
)
def test_impossible_classes_are_refused(y_true, y_pred, fact):
    with pytest.raises(ValueError, match=fact):
        evaluate_predictions(np.array(y_true, dtype=np.int64), np.array(y_pred, dtype=np.int64))


def test_probabilities_that_are_none_are_refused():
    for value in (2.0, np.nan):
        with pytest.raises(ValueError, match=r"0\.\.1"):
            reliability(np.array([0]), np.full((1, CLASS_COUNT), value))
