"""How well vectors alone find a class that was left out of the training."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bp_lcz.scoring.crossed import crossed_intervals
from bp_lcz.scoring.left_out import Found, find_left_out, joined
from bp_lcz.scoring.results import group_seeds
from tests.report.test_page import read
from tests.scoring.results import write_results


def without(code, source="text", seeds=(1, 2, 3)):
    overrides = {"train": {"leave_out": [code]}, "prompts": {"source": source}}
    trial = {"backbone": "eb_cnn", "variant": "bp-lcz", "overrides": overrides}
    return {f"{code}-{source}-s{seed}": {**trial, "seed": seed} for seed in seeds}


def groups_of(folder, trials, **options):
    write_results(folder, trials, **{"patches": 800, "groups": ("RGB",), **options})
    return group_seeds(read(folder, trials).results)


def test_rank_is_the_area_under_the_curve_and_recognised_the_most_similar_of_all(tmp_path):
    (group,) = groups_of(tmp_path, without("B"))
    found = find_left_out(group)
    is_own = group.y_true == 11
    cosines = [member.predictions["class_cosine"] for member in group.members]
    areas = [roc_auc_score(is_own, cosine[:, 11]) for cosine in cosines]
    assert found.mean("rank") == pytest.approx(np.mean(areas))
    assert found.mean("recognised") == pytest.approx(np.mean([(c[is_own].argmax(1) == 11).mean() for c in cosines]))


def test_patches_that_are_equally_similar_count_half():
    similarity = np.zeros((2, 6, 17), np.float32)
    found = Found(similarity[:, :3, 0] > 0, np.full((2, 3), 0.5), np.array([0, 1, 1]))
    assert found.interval("rank") == (0.5, 0.5)


def test_the_interval_of_recognised_is_that_of_an_accuracy(tmp_path):
    (group,) = groups_of(tmp_path, without("B"))
    found = find_left_out(group)
    truth = np.zeros(found.recognised.shape[1], int)
    expected = crossed_intervals(truth, (~found.recognised).astype(int), block=found.block)["oa"]
    assert found.interval("recognised") == pytest.approx(expected)


def test_vectors_without_a_meaning_are_at_chance_and_texts_that_know_are_above(tmp_path):
    trials = {**without("2"), **without("B"), **without("2", "random"), **without("B", "random")}
    found = [find_left_out(group) for group in groups_of(tmp_path, trials)]
    text, random = joined(found[:2]), joined(found[2:])
    low, high = random.interval("rank")
    assert low < 0.5 < high
    assert text.interval("rank", random)[0] > 0
    assert text.rank.shape[1] == sum(each.rank.shape[1] for each in found[:2])


def test_one_seed_or_one_city_has_no_interval(tmp_path):
    (one,) = groups_of(tmp_path / "seed", without("2", seeds=(1,)))
    assert find_left_out(one).interval("rank") is None
    (single,) = groups_of(tmp_path / "city", without("2"), blocks=1)
    assert find_left_out(single).interval("rank") is None


def test_trials_that_leave_nothing_out_have_none(tmp_path):
    assert [
        find_left_out(group)
        for group in groups_of(tmp_path, {"bgp": {"backbone": "eb_cnn", "variant": "bgp", "seed": 1}})
    ] == [None]
