"""By what So2Sat LCZ42 v2 is known."""

import numpy as np
import pytest

from bp_lcz.data.releases import FIRST_LABELS, SO2SAT_V2, release
from tests.data.official import CLASS_COUNTS, FIRST_TESTING


def test_the_official_splits_are_known_by_their_labels():
    assert release(CLASS_COUNTS, FIRST_TESTING) == SO2SAT_V2
    assert len(FIRST_TESTING) == FIRST_LABELS


@pytest.mark.parametrize("split", ["training", "validation", "testing"])
def test_one_patch_more_in_any_split_is_another_data_set(split):
    counts = {**CLASS_COUNTS, split: [CLASS_COUNTS[split][0] + 1, *CLASS_COUNTS[split][1:]]}
    assert release(counts, FIRST_TESTING) is None


def test_the_same_patches_in_another_order_are_another_data_set():
    assert release(CLASS_COUNTS, FIRST_TESTING[::-1]) is None
    assert release(CLASS_COUNTS, []) is None


@pytest.mark.shared
def test_the_counts_of_testing_are_those_of_the_published_labels(shared_data):
    with np.load(shared_data / "golden/sen2lcz_v2_test_labels_preds.npz") as golden:
        true = golden["y_true"].astype(int) - 1
    assert np.bincount(true, minlength=17).tolist() == CLASS_COUNTS["testing"]
    assert true[:FIRST_LABELS].tolist() == FIRST_TESTING
