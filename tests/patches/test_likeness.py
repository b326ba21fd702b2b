"""What is unlike the training data: on Gaussians whose answer is known, and on any averages at all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from scipy.stats import chi2

from bp_lcz.patches.likeness import (
    MOST_UNLIKE,
    QUANTILE,
    channel_means,
    distances,
    fit_likeness,
    too_many_unlike,
    unlike,
)
from bp_lcz.records import Likeness

ANY = arrays(np.float64, (20, 3), elements=st.floats(-50, 50, width=32))
DIRECTION = arrays(np.float64, 3, elements=st.floats(-1, 1, width=32))


def gaussian(count: int, seed: int) -> np.ndarray:
    """Two averages that go together, as bands do, and one by itself, of other units."""
    rng = np.random.default_rng(seed)
    together, first, third = rng.normal(size=(3, count))
    return np.stack([0.1 + 0.05 * together, 0.2 + 0.05 * together + 0.005 * first, -12 + 3 * third], axis=1)


def test_of_a_gaussian_a_hundredth_is_unlike_as_chi_squared_says() -> None:
    likeness = fit_likeness(gaussian(40_000, 1))
    assert 3 * likeness.limit == pytest.approx(chi2(3).ppf(QUANTILE), rel=0.05)
    assert unlike(likeness, gaussian(40_000, 1)).mean() <= 1 - QUANTILE
    assert unlike(likeness, gaussian(40_000, 2)).mean() == pytest.approx(1 - QUANTILE, abs=2e-3)
    assert distances(likeness, gaussian(40_000, 2)).mean() == pytest.approx(1, abs=0.02)


def test_what_no_average_shows_alone_is_seen_in_two_that_go_together() -> None:
    likeness = fit_likeness(gaussian(4000, 1))
    moved = np.array([[0.05, 0.25, -12.0]])  # each within one standard deviation
    assert (np.abs(moved - likeness.centre) < 1.1 * np.array(likeness.scale)).all()
    assert unlike(likeness, moved).all()


@settings(max_examples=100)
@given(means=ANY, direction=DIRECTION, steps=st.tuples(st.floats(0, 100), st.floats(0, 100)))
def test_the_training_mean_is_never_unlike_and_distance_grows_with_every_step_from_it(
    means: np.ndarray, direction: np.ndarray, steps: tuple[float, float]
) -> None:
    likeness = fit_likeness(means)
    near, far = (likeness.centre + step * direction for step in sorted(steps))
    distance = distances(likeness, np.stack([likeness.centre, near, far]))
    assert distance[0] == 0
    assert distance[1] <= distance[2] * (1 + 1e-9)
    assert not unlike(likeness, np.array([likeness.centre]))[0]


@settings(max_examples=50)
@given(means=ANY)
def test_no_patch_of_a_small_training_split_is_unlike(means: np.ndarray) -> None:
    assert not unlike(fit_likeness(means), means).any()  # the quantile of twenty is the largest


def test_order_and_units_of_the_averages_do_not_matter() -> None:
    means = gaussian(500, 1)
    here, there = gaussian(50, 2), gaussian(50, 2)[:, ::-1] * 10_000
    expected = distances(fit_likeness(means), here)
    np.testing.assert_allclose(distances(fit_likeness(means[:, ::-1] * 10_000), there), expected, rtol=1e-6)


def test_one_patch_and_a_constant_channel_are_enough() -> None:
    alone = np.full((1, 18), 0.3)
    likeness = fit_likeness(alone)
    assert unlike(likeness, np.stack([alone[0], alone[0] + 0.1])).tolist() == [False, True]


def test_what_has_no_distance_is_unlike() -> None:
    assert unlike(fit_likeness(gaussian(50, 1)), np.array([[np.inf, 0.1, -12], [0.1, 1e300, -12]])).all()


def test_averages_are_over_the_pixels_of_a_patch() -> None:
    images = np.arange(2 * 32 * 32 * 3, dtype=np.float32).reshape(2, 32, 32, 3)
    np.testing.assert_array_equal(channel_means(images), images.reshape(2, -1, 3).mean(axis=1, dtype=np.float64))


def test_a_warning_comes_with_more_than_a_share() -> None:
    few = int(MOST_UNLIKE * 1000)
    assert too_many_unlike(few, 1000) is None
    assert too_many_unlike(few + 1, 1000) is not None


@pytest.mark.parametrize(
    "change", [{"scale": (1.0,)}, {"scale": (1.0, 0.0)}, {"mixing": ((1.0, 0.0),)}, {"mixing": ((1.0,), (1.0,))}]
)
def test_a_record_whose_parts_do_not_fit_is_refused(change: dict[str, object]) -> None:
    content = {"centre": (0.0, 1.0), "scale": (1.0, 1.0), "mixing": None, "limit": 1.0}
    Likeness.model_validate(content)
    with pytest.raises(ValidationError):
        Likeness.model_validate(content | change)
