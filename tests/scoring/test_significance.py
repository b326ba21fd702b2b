import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.scoring.metrics import confusion_metrics, evaluate_predictions
from bp_lcz.scoring.significance import (
    INTERVAL_METRICS,
    bootstrap_differences,
    bootstrap_intervals,
    mcnemar,
)

triples = st.lists(st.tuples(st.integers(0, 16), st.integers(0, 16), st.integers(0, 4)), min_size=1, max_size=60)


def columns(rows):
    return tuple(np.array(rows, dtype=np.int64).T)


def skilled(patches, blocks, skill=0.7, seed=0):
    generator = np.random.default_rng(seed)
    y_true = generator.integers(CLASS_COUNT, size=patches)
    guess = generator.integers(CLASS_COUNT, size=patches)
    y_pred = np.where(generator.random(patches) < skill, y_true, guess)
    return y_true, y_pred, np.arange(patches) * blocks // patches


@settings(deadline=None, max_examples=30)
@given(triples)
def test_metrics_of_a_confusion_matrix_equal_those_of_its_patches(rows):
    y_true, y_pred, _ = columns(rows)
    expected = evaluate_predictions(y_true, y_pred)
    found = confusion_metrics(np.array(expected.confusion))
    for name in INTERVAL_METRICS:
        value = getattr(expected, name)
        value = np.nan if value is None else value
        assert found[name] == pytest.approx(value, nan_ok=True)


def test_metrics_of_stacked_matrices_are_those_of_each():
    matrices = np.random.default_rng(0).integers(0, 9, size=(2, 3, CLASS_COUNT, CLASS_COUNT))
    stacked = confusion_metrics(matrices)
    for name in INTERVAL_METRICS:
        assert stacked[name].shape == (2, 3)
        assert stacked[name][1, 2] == pytest.approx(confusion_metrics(matrices[1, 2])[name])


@settings(deadline=None, max_examples=30)
@given(triples, st.randoms(use_true_random=False))
def test_intervals_depend_neither_on_the_order_of_patches_nor_on_the_names_of_blocks(rows, random):
    y_true, y_pred, block = columns(rows)
    shuffled = list(rows)
    random.shuffle(shuffled)
    y_true_b, y_pred_b, block_b = columns(shuffled)
    before = bootstrap_intervals(y_true, y_pred, block, samples=40, seed=3)
    after = bootstrap_intervals(y_true_b, y_pred_b, 100 - 7 * block_b, samples=40, seed=3)
    assert before == after


def test_blocks_that_are_all_alike_give_intervals_without_width():
    y_true, y_pred, _ = skilled(50, 1)
    tiled = np.tile(y_true, 6), np.tile(y_pred, 6), np.repeat(np.arange(6), 50)
    point = evaluate_predictions(y_true, y_pred)
    for name, (low, high) in bootstrap_intervals(*tiled, samples=50, seed=1).items():
        assert low == high == pytest.approx(getattr(point, name))


def test_a_single_block_gives_no_interval():
    y_true, y_pred, block = skilled(40, 1)
    nothing = dict.fromkeys(INTERVAL_METRICS)
    assert bootstrap_intervals(y_true, y_pred, block, samples=20, seed=1) == nothing
    assert bootstrap_differences(y_true, y_pred, y_true, block, samples=20, seed=1) == nothing


def with_a_rare_class(recall_of_rare):
    """Class 0 in all of eight blocks, three in four right; class 1, eight patches, in the last block alone."""
    y_true = np.repeat([0, 1], [80, 8])
    y_pred = np.where(np.arange(88) % 4 == 0, 2, 0)
    y_pred[80:] = np.where(np.arange(8) < 8 * recall_of_rare, 1, 2)
    return y_true, y_pred, np.append(np.arange(80) // 10, np.full(8, 7))


@pytest.mark.parametrize("recall", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("metric", ["aa", "macro_f1"])
def test_a_class_that_resamples_lose_never_raises_an_interval_of_means_over_classes(recall, metric):
    """A third of the resamples lack the block of class 1; the mean is over both classes all the same."""
    y_true, y_pred, block = with_a_rare_class(recall)
    scores = evaluate_predictions(y_true, y_pred)
    point, rare = getattr(scores, metric), scores.per_class[1]
    of_rare = rare.recall if metric == "aa" else rare.f1
    low, high = bootstrap_intervals(y_true, y_pred, block, samples=400, seed=1)[metric]
    width = 0.06  # what class 0 alone moves the mean by
    assert point < high < point + width  # over class 0 alone it would reach .75 and more
    assert point - of_rare / 2 - width < low < point - of_rare / 2 + width


def test_a_lead_in_a_class_that_resamples_lose_is_not_sure():
    y_true, better, block = with_a_rare_class(1.0)
    worse = np.where(y_true == 1, 2, better)
    assert bootstrap_differences(y_true, better, worse, block, samples=200, seed=1)["aa"] == pytest.approx((0, 0.5))
    assert bootstrap_differences(y_true, worse, better, block, samples=200, seed=1)["aa"] == pytest.approx((-0.5, 0))


def test_a_metric_that_no_resample_defines_has_no_interval():
    y_true, block = np.full(6, 3), np.array([0, 0, 0, 1, 1, 1])
    intervals = bootstrap_intervals(y_true, y_true, block, samples=20, seed=1)
    assert intervals["kappa"] is None
    assert intervals["oa"] == (1, 1)


def test_intervals_over_single_patches_match_the_binomial_standard_error():
    y_true, y_pred, block = skilled(2000, 2000)
    point = evaluate_predictions(y_true, y_pred).oa
    low, high = bootstrap_intervals(y_true, y_pred, block, samples=4000, seed=1)["oa"]
    standard_error = np.sqrt(point * (1 - point) / 2000)
    assert low < point < high
    assert (high - low) / (2 * 1.96 * standard_error) == pytest.approx(1, abs=0.08)


def test_intervals_widen_when_patches_of_a_block_err_together():
    generator = np.random.default_rng(5)
    y_true = generator.integers(CLASS_COUNT, size=1000)
    city = np.arange(1000) // 100
    right = generator.random(1000) < np.linspace(0.2, 0.95, 10)[city]
    y_pred = np.where(right, y_true, (y_true + 1) % CLASS_COUNT)
    by_city = bootstrap_intervals(y_true, y_pred, city, samples=500, seed=1)["oa"]
    by_patch = bootstrap_intervals(y_true, y_pred, np.arange(1000), samples=500, seed=1)["oa"]
    assert by_city[1] - by_city[0] > 3 * (by_patch[1] - by_patch[0])


def test_equal_seeds_give_equal_intervals_and_other_seeds_others():
    data = skilled(300, 10)
    first = bootstrap_intervals(*data, samples=100, seed=1)
    assert first == bootstrap_intervals(*data, samples=100, seed=1)
    assert first != bootstrap_intervals(*data, samples=100, seed=2)


def test_a_classifier_does_not_differ_from_itself():
    y_true, y_pred, block = skilled(200, 10)
    differences = bootstrap_differences(y_true, y_pred, y_pred, block, samples=50, seed=1)
    assert all(interval == (0, 0) for interval in differences.values())


def test_the_difference_is_the_first_minus_the_second():
    y_true, worse, block = skilled(400, 10, skill=0.5)
    better = np.where(np.random.default_rng(9).random(400) < 0.5, y_true, worse)
    low, high = bootstrap_differences(y_true, better, worse, block, samples=200, seed=1)["oa"]
    assert 0 < low < high
    swapped = bootstrap_differences(y_true, worse, better, block, samples=200, seed=1)["oa"]
    assert swapped[1] < 0


def test_mcnemar_counts_what_only_one_has_right_and_is_exact():
    y_true = np.zeros(10, dtype=np.int64)
    a = np.array([0, 0, 0, 0, 0, 1, 1, 0, 0, 1])
    b = np.array([1, 1, 1, 1, 1, 0, 1, 0, 0, 1])
    # five to one: two tails of a fair coin thrown six times, 2 * (1 + 6) / 64
    assert mcnemar(y_true, a, b) == {"b": 5, "c": 1, "p": pytest.approx(14 / 64)}
    assert mcnemar(y_true, b, a)["p"] == pytest.approx(14 / 64)


def test_mcnemar_of_classifiers_that_never_differ_is_one():
    y_true = np.array([1, 2, 3])
    assert mcnemar(y_true, y_true, y_true) == {"b": 0, "c": 0, "p": 1.0}
