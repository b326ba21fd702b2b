"""Accuracy of maps against published numbers and against data whose truth is known."""

import numpy as np
import pytest

from bp_lcz.scheme import CODES
from bp_lcz.scoring.map_accuracy import (
    REPEATS,
    SIMILARITY,
    adjusted_areas,
    confusions_of,
    estimated,
    map_metrics,
    repeated_splits,
    zone_metrics,
)
from bp_lcz.scoring.metrics import evaluate_predictions


def one_by_one(table: np.ndarray) -> np.ndarray:
    """Units of single cells, from a table whose rows are mapped zones and whose columns those of the reference."""
    mapped, reference = (np.repeat(index.ravel(), table.ravel()) for index in np.indices(table.shape))
    return confusions_of(reference, mapped, np.arange(table.sum()))


def areas_of(values: list[float]) -> np.ndarray:
    return np.array([*values, *[0.0] * (17 - len(values))])


def test_the_area_estimate_reproduces_the_worked_example_of_olofsson_and_others():
    """Good practices for estimating area, 2014, tables 8 and 9 and section 5.2: areas in hectares of 30 m pixels."""
    table = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
    mapped = 0.09 * np.array([200_000, 150_000, 3_200_000, 6_450_000])
    areas, unchecked = adjusted_areas(one_by_one(table), areas_of(mapped))
    found = [(area.value, (area.interval[1] - area.interval[0]) / 2) for area in areas[:4]]
    published = [(21_158, 6_158), (11_686, 3_756), (285_770, 15_510), (581_386, 16_282)]
    np.testing.assert_allclose(found, published, rtol=2e-4)
    assert unchecked.sum() == 0
    assert areas[4].value is None


def test_cells_of_one_unit_are_no_more_than_the_unit():
    table = np.array([[20, 4], [6, 30]])
    single = one_by_one(table)
    mapped = areas_of([3.0, 7.0])
    intervals = [[area.interval for area in adjusted_areas(each, mapped)[0][:2]] for each in (single, 5 * single)]
    np.testing.assert_allclose(*intervals)
    intervals = [[value.interval for value in estimated(each)[0].values()] for each in (single, 5 * single)]
    np.testing.assert_allclose(*intervals)


def test_a_zone_that_one_unit_checks_is_not_adjusted():
    confusions = one_by_one(np.array([[8, 2, 0], [1, 9, 0], [0, 0, 1]]))
    areas, unchecked = adjusted_areas(confusions, areas_of([4.0, 5.0, 6.0]))
    assert (areas[0].value, areas[1].value) == pytest.approx((0.8 * 4 + 0.1 * 5, 0.2 * 4 + 0.9 * 5))
    assert unchecked.tolist() == areas_of([0, 0, 6.0]).tolist()


def test_weights_of_the_paper():
    assert SIMILARITY.shape == (17, 17)
    np.testing.assert_array_equal(SIMILARITY, SIMILARITY.T)
    np.testing.assert_array_equal(np.diag(SIMILARITY), 1)
    pairs = {("1", "4"): 0.67, ("1", "2"): 0.92, ("1", "G"): 0, ("9", "D"): 0.58, ("8", "E"): 0.5, ("F", "G"): 0.92}
    for (one, other), weight in pairs.items():
        assert round(SIMILARITY[CODES.index(one), CODES.index(other)], 2) == weight


def test_identity_weights_make_weighted_accuracy_overall_accuracy():
    confusion = np.random.default_rng(0).integers(0, 9, (5, 17, 17))
    metrics = map_metrics(confusion, np.eye(17))
    np.testing.assert_allclose(metrics["oa_w"], metrics["oa"])
    assert (map_metrics(confusion)["oa_w"] > metrics["oa"]).all()


def test_metrics_of_a_map_whose_errors_are_known():
    confusion = np.zeros((17, 17), int)
    confusion[0, 0], confusion[0, 1], confusion[0, 16] = 6, 2, 2  # built: right, built all the same, natural
    confusion[16, 16], confusion[13, 0] = 9, 1
    found = map_metrics(confusion)
    assert found["oa"] == 15 / 20
    assert found["oa_u"] == 6 / 10
    assert found["oa_bu"] == 17 / 20
    assert found["oa_w"] == pytest.approx((15 + 2 * 11 / 12) / 20)
    zones = zone_metrics(confusion)
    assert (zones["producers"][0], zones["users"][0], zones["users"][16]) == (6 / 10, 6 / 7, 9 / 11)
    assert np.isnan(zones["f1"][5])


@pytest.mark.shared
def test_the_published_predictions_have_the_published_accuracy(shared_data):
    with np.load(shared_data / "golden/sen2lcz_v2_test_labels_preds.npz") as file:
        true, mapped = file["y_true"].astype(int) - 1, file["y_pred"].astype(int) - 1
    confusion = confusions_of(true, mapped, np.zeros_like(true))
    found, plain = map_metrics(confusion[0]), evaluate_predictions(true, mapped)
    assert round(float(found["oa"]), 5) == 0.69369
    assert (found["oa"], found["kappa"], found["oa_u"]) == (plain.oa, plain.kappa, plain.oa_built)
    assert found["oa"] < found["oa_w"] < 1
    assert found["oa_bu"] > 0.9


def test_intervals_hold_the_truth_as_often_as_they_promise():
    """Polygons of five cells that are right or wrong together: an interval by cell would hold it in half the cases."""
    generator, held = np.random.default_rng(3), 0
    for _ in range(100):
        mapped = np.repeat(np.where(generator.random(60) < 0.7, 3, 9), 5)
        of_map, _ = estimated(confusions_of(np.full(300, 3), mapped, np.repeat(np.arange(60), 5)))
        low, high = of_map["oa"].interval
        held += low <= 0.7 <= high
    assert 88 <= held <= 100
    assert high - low > 0.2


def test_a_resample_without_a_zone_says_nothing_of_it():
    confusions = one_by_one(np.diag([30, 1]))
    _, of_zone = estimated(confusions)
    assert of_zone["producers"][0].interval == (1, 1)
    assert (of_zone["producers"][1].value, of_zone["producers"][1].interval) == (1, (0, 1))
    assert of_zone["producers"][2].value is None


def test_one_unit_has_no_interval():
    of_map, _ = estimated(confusions_of(np.zeros(9, int), np.zeros(9, int), np.zeros(9, int)))
    assert (of_map["oa"].value, of_map["oa"].interval) == (1, None)


def test_splits_are_drawn_by_polygon_and_zone():
    zone = np.repeat([2, 5], [10, 3])
    right = np.arange(13) % 2 == 0
    cells = np.repeat(np.arange(13), 4)
    confusions = confusions_of(zone[cells], np.where(right[cells], zone[cells], 0), cells)
    found = repeated_splits(confusions, zone)
    assert found["oa"].value * REPEATS * 4 == pytest.approx(round(found["oa"].value * REPEATS * 4))  # of four polygons
    assert found["oa"].value == pytest.approx(right.mean(), abs=0.15)
    low, high = found["oa"].interval
    assert 0 <= low < high <= 1
    assert repeated_splits(confusions, zone) == found
