"""Intervals over cities and seeds, against closed forms and against data whose truth is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.scoring.crossed import crossed_intervals, half_width
from bp_lcz.scoring.significance import INTERVAL_METRICS
from tests.scoring.test_significance import with_a_rare_class

T_975 = {freedom: stats.t.ppf(0.975, freedom) for freedom in (4, 9)}


def predictions(seeds, patches=400, cities=10, skill=0.5, start=0):
    """True classes, predictions of some seeds, city of each patch."""
    y_true = np.random.default_rng(7).integers(CLASS_COUNT, size=patches)
    generator = np.random.default_rng(start)
    guess = generator.integers(CLASS_COUNT, size=(seeds, patches))
    y_pred = np.where(generator.random((seeds, patches)) < skill, y_true, guess)
    return y_true, y_pred, np.arange(patches) * cities // patches


def balanced(draws, seeds, cities, *, by_seed, by_city, rest, start=0):
    """Values of two procedures that do not differ, as (draw, side, seed, city)."""
    generator = np.random.default_rng(start)
    values = generator.normal(0, by_seed, (draws, 2, seeds, 1)) + generator.normal(0, by_city, (draws, 1, 1, cities))
    return values + generator.normal(0, rest, (draws, 2, seeds, cities))


def test_seeds_and_cities_without_interaction_add_their_variances():
    seeds, cities = np.array([-0.02, 0.0, 0.01, 0.03, 0.0]), np.linspace(0, 0.3, 10)
    found = half_width(seeds[:, None] + cities)
    parts = np.array([seeds.var(ddof=1) / 5, cities.var(ddof=1) / 10])
    freedom = parts.sum() ** 2 / (parts**2 / [4, 9]).sum()
    assert found == pytest.approx(stats.t.ppf(0.975, freedom) * np.sqrt(parts.sum()))


def test_where_cities_have_the_same_lead_a_difference_is_that_of_welch_over_seeds():
    generator = np.random.default_rng(3)
    sides = generator.normal(0, 0.01, 5), generator.normal(0, 0.03, 4)
    welch = stats.ttest_ind(*sides, equal_var=False).confidence_interval(0.95)
    found = half_width(*(side[:, None] + np.linspace(0.5, 0.9, 8) for side in sides))
    assert found == pytest.approx((welch.high - welch.low) / 2)


def test_seeds_that_are_all_alike_leave_the_interval_of_students_t_over_cities():
    cities = np.random.default_rng(5).normal(0.7, 0.1, 10)
    assert half_width(np.tile(cities, (3, 1))) == pytest.approx(T_975[9] * cities.std(ddof=1) / np.sqrt(10))


@pytest.mark.parametrize("seeds", [3, 5, 8])
@pytest.mark.parametrize("cities", [10, 40])
def test_procedures_that_do_not_differ_are_told_apart_about_as_often_as_promised(seeds, cities):
    values = balanced(4000, seeds, cities, by_seed=0.01, by_city=0.08, rest=0.03)
    width = half_width(values[:, 0], values[:, 1])
    lead = values[:, 0].mean(axis=(1, 2)) - values[:, 1].mean(axis=(1, 2))
    assert 0.02 < np.mean(np.abs(lead) > width) < 0.07


def test_more_seeds_never_widen_intervals_on_average():
    values = balanced(2000, 8, 10, by_seed=0.01, by_city=0.08, rest=0.03)
    widths = [half_width(values[:, 0, :count], values[:, 1, :count]).mean() for count in range(2, 9)]
    assert widths == sorted(widths, reverse=True)


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 5), st.integers(0, 9), st.randoms(use_true_random=False))
def test_the_order_of_seeds_patches_and_cities_changes_no_bit(seeds, start, random):
    y_true, y_pred, city = predictions(seeds, patches=120, cities=6, start=start)
    other = predictions(seeds, patches=120, skill=0.4, start=start + 50)[1]
    rows, patches, names = (random.sample(range(size), size) for size in (seeds, 120, 6))
    before = crossed_intervals(y_true, y_pred, other, block=city)
    after = crossed_intervals(
        y_true[patches], y_pred[rows][:, patches], other[:, patches], block=np.array(names)[city[patches]]
    )
    assert before == after


def test_the_interval_of_a_metric_lies_around_its_mean_over_seeds():
    y_true, better, city = predictions(3, skill=0.7)
    worse = predictions(3, skill=0.4, start=1)[1]
    low, high = crossed_intervals(y_true, better, block=city)["oa"]
    assert (low + high) / 2 == pytest.approx((better == y_true).mean())
    low, high = crossed_intervals(y_true, better, worse, block=city)["oa"]
    assert 0 < low < high
    assert (low + high) / 2 == pytest.approx((better == y_true).mean() - (worse == y_true).mean())
    swapped = crossed_intervals(y_true, worse, better, block=city)["oa"]
    assert swapped == pytest.approx((-high, -low))


def test_accuracy_over_cities_of_one_size_is_a_plain_mean():
    """The jackknife of a mean gives back the values of the cities."""
    y_true, y_pred, city = predictions(4)
    by_city = (y_pred == y_true).reshape(4, 10, 40).mean(axis=2)
    low, high = crossed_intervals(y_true, y_pred, block=city)["oa"]
    assert (high - low) / 2 == pytest.approx(half_width(by_city))


def test_single_patches_as_blocks_give_about_the_binomial_interval():
    y_true, y_pred, _ = predictions(1, patches=2000)
    low, high = crossed_intervals(y_true, np.tile(y_pred, (3, 1)), block=np.arange(2000)[::-1])["oa"]
    point = (y_pred == y_true).mean()
    assert (high - low) / (2 * 1.96 * np.sqrt(point * (1 - point) / 2000)) == pytest.approx(1, abs=0.01)


def test_a_lead_in_a_class_that_one_city_alone_has_is_not_sure():
    y_true, better, city = with_a_rare_class(1.0)
    worse = np.where(y_true == 1, 2, better)
    low, high = crossed_intervals(y_true, np.stack([better] * 3), np.stack([worse] * 3), block=city)["aa"]
    assert low < 0 < high
    assert (low + high) / 2 == pytest.approx(0.5)


def test_a_single_block_and_an_undefined_metric_have_no_interval():
    y_true, y_pred, city = predictions(2)
    assert crossed_intervals(y_true, y_pred, block=np.zeros_like(city)) == dict.fromkeys(INTERVAL_METRICS)
    alike = np.full(6, 3)
    intervals = crossed_intervals(alike, np.stack([alike] * 2), block=np.array([0, 0, 0, 1, 1, 1]))
    assert (intervals["kappa"], intervals["oa"]) == (None, (1, 1))
