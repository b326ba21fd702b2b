import numpy as np
import pandas as pd
import pytest

from bp_lcz.bands import ALL_CHANNELS
from bp_lcz.gate import statistics
from bp_lcz.gate.statistics import patch_statistics
from tests.so2sat.patches import edit, random_patches, write_dataset


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(statistics, "ROWS", 5)


def test_there_is_one_row_for_each_patch_in_stored_order(tmp_path):
    table = patch_statistics(write_dataset(tmp_path))
    assert table["patch"].tolist() == [
        f"{split}.h5[{i}]"
        for split, count in (("training", 34), ("validation", 17), ("testing", 17))
        for i in range(count)
    ]
    assert table["class"].tolist() == [*range(17)] * 4
    assert (table["label_sum"] == 1).all()
    assert (table["non_finite"] == 0).all()
    assert table["city"].isna().all()


def test_band_statistics_are_those_of_the_pixels(tmp_path):
    table = patch_statistics(write_dataset(tmp_path))
    sen1, sen2, _ = random_patches(17, seed=2)
    pixels = np.concatenate([sen1, sen2], axis=3).reshape(17, 1024, 18)
    testing = table[table["split"] == "testing"]
    for name in ("mean", "std", "min", "max"):
        measured = testing[[f"{band}_{name}" for band in ALL_CHANNELS.names]].to_numpy()
        np.testing.assert_allclose(measured, getattr(np, name)(pixels, axis=1), rtol=1e-12)


def test_zeros_and_values_that_are_not_finite_are_counted(tmp_path):
    write_dataset(tmp_path)
    sen1, sen2, _ = random_patches(17, seed=2)
    sen1[3, :16] = 0
    sen1[4, 0, 0, 0] = np.nan
    sen2[4, 0, :2, 5] = np.inf
    sen2[5] = 0
    edit(tmp_path, "testing", "sen1", sen1)
    edit(tmp_path, "testing", "sen2", sen2)
    table = patch_statistics(tmp_path).set_index("patch")
    assert table["zeros_sen1"]["testing.h5[3]"] == 0.5
    assert table["zeros_sen1"]["testing.h5[5]"] == 0
    assert table["zeros_sen2"]["testing.h5[5]"] == 1
    assert table["zeros_sen2"]["testing.h5[3]"] == 0
    assert table["non_finite"]["testing.h5[4]"] == 3
    assert table["non_finite"].sum() == 3


@pytest.mark.parametrize("row", [np.zeros(17), np.full(17, 1 / 17), np.eye(17)[:2].sum(axis=0), 2 * np.eye(17)[0]])
def test_a_label_that_is_not_one_hot_has_class_minus_one(tmp_path, row):
    write_dataset(tmp_path)
    label = np.eye(17)
    label[6] = row
    edit(tmp_path, "testing", "label", label)
    table = patch_statistics(tmp_path).set_index("patch")
    assert table.index[table["class"] == -1].tolist() == ["testing.h5[6]"]
    assert table["label_sum"]["testing.h5[6]"] == pytest.approx(row.sum())


def test_content_does_not_depend_on_how_pixels_are_stored(tmp_path):
    plain = patch_statistics(write_dataset(tmp_path / "a", dtype=np.float64))
    packed = patch_statistics(write_dataset(tmp_path / "b", dtype=np.float32, storage="gzip"))
    assert plain["content"].tolist() == packed["content"].tolist()
    assert plain["content"].is_unique


def test_content_changes_with_any_pixel(tmp_path):
    before = patch_statistics(write_dataset(tmp_path))["content"]
    _, sen2, _ = random_patches(17, seed=2)
    sen2[16, 31, 31, 9] += 1e-3
    edit(tmp_path, "testing", "sen2", sen2)
    after = patch_statistics(tmp_path)["content"]
    assert np.flatnonzero(before != after).tolist() == [67]


def test_city_is_that_of_the_geo_file(tmp_path):
    table = patch_statistics(write_dataset(tmp_path, cities={"training": 3, "validation": 1, "testing": 2}))
    assert table.groupby("split")["city"].nunique().to_dict() == {
        "training": 3,
        "validation": 1,
        "testing": 2,
    }


def test_the_table_does_not_depend_on_the_number_of_threads(tmp_path):
    write_dataset(tmp_path)
    pd.testing.assert_frame_equal(patch_statistics(tmp_path, workers=1), patch_statistics(tmp_path, workers=3))


def test_the_share_of_the_tail_is_counted_in_filtered_radar_channels(tmp_path):
    write_dataset(tmp_path)
    sen1, _, _ = random_patches(17, seed=2)
    sen1[6, 0, :16, 5] = 20
    sen1[7, 0, :8, 7] = -20
    sen1[8, 0, :, 0] = 20
    edit(tmp_path, "testing", "sen1", sen1)
    table = patch_statistics(tmp_path).set_index("patch")
    tails = table[[column for column in table if column.endswith("_tail")]]
    assert tails.columns.tolist() == [f"{band}_tail" for band in ALL_CHANNELS.sen1[4:]]
    assert tails["VV_lee_intensity_tail"]["testing.h5[6]"] == 16 / 1024
    assert tails["C12_lee_imag_tail"]["testing.h5[7]"] == 8 / 1024
    assert np.count_nonzero(tails) == 2
