import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bp_lcz.scoring.score import fraction, score_file
from tests.refusals import refuses


@pytest.fixture
def write(tmp_path):
    def write_file(**arrays):
        path = tmp_path / "predictions.npz"
        np.savez(path, **arrays)
        return path

    return write_file


def test_a_small_file_scores_as_computed_by_hand(write):
    # three of class 1 (two right, one taken for 2), one of class 2 (right), one of A (taken for 1);
    # chance agreement (3 * 3 + 1 * 2 + 0) / 25 = .44, so kappa = (.6 - .44) / .56
    path = write(y_true=np.array([1, 1, 1, 2, 11]), y_pred=np.array([1, 1, 2, 2, 1]))
    lines = str(score_file(path)).splitlines()
    assert lines[0] == "OA .60000, AA .55556, kappa .28571, macro-F1 .44444"
    assert lines[1] == "5 patches"
    assert lines[4].split() == ["1", "Compact", "high-rise", "3", ".66667", ".66667"]
    assert lines[5].split() == ["2", "Compact", "mid-rise", "1", ".50000", "1.00000"]
    assert lines[6].split() == ["3", "Compact", "low-rise", "0", "-", "-"]
    assert len(lines) == 4 + 17


@pytest.mark.shared
def test_the_published_predictions_of_sen2lcz_score_as_published(shared_data):
    path = shared_data / "golden/sen2lcz_v2_test_labels_preds.npz"
    lines = str(score_file(path)).splitlines()
    assert lines[0] == "OA .69369, AA .58675, kappa .66437, macro-F1 .57655"
    assert lines[1] == "24,188 patches"


def test_whole_numbers_of_any_type_are_classes(write):
    as_bytes = write(y_true=np.array([1, 17], dtype=np.uint8), y_pred=np.array([1.0, 1.0]))
    assert str(score_file(as_bytes)).startswith("OA .50000")


@pytest.mark.parametrize(
    ("arrays", "facts"),
    [
        ({"y_true": [1]}, ["array y_pred", "y_true"]),
        ({"labels": [1]}, ["y_true", "y_pred", "labels"]),
        ({"y_true": [0, 16], "y_pred": [1, 2]}, ["y_true", 17, 0]),
        ({"y_true": [1, 2], "y_pred": [1, 18]}, ["y_pred", 17, 18]),
        ({"y_true": [1.5], "y_pred": [1]}, ["y_true", 17, 1.5]),
        ({"y_true": [np.nan], "y_pred": [1]}, ["y_true", 17, "nan"]),
        ({"y_true": ["A"], "y_pred": [1]}, ["y_true", 17, "<U1"]),
        ({"y_true": [1, 2], "y_pred": [1]}, ["y_true", 2, "y_pred", 1]),
        ({"y_true": [[1]], "y_pred": [1]}, ["y_true", "(1, 1)", "(N,)"]),
        ({"y_true": [], "y_pred": []}, ["y_true", "(0,)", "(N,)"]),
    ],
)
def test_unusable_arrays_are_named_with_the_file(write, arrays, facts):
    path = write(**{name: np.array(values) for name, values in arrays.items()})
    with refuses(path, *facts):
        score_file(path)


def test_objects_are_never_unpickled(write):
    path = write(y_true=np.array([1, None], dtype=object), y_pred=np.array([1, 1]))
    with refuses(path, "allow_pickle=False"):
        score_file(path)


def test_what_is_no_file_of_predictions_is_named(tmp_path):
    np.save(tmp_path / "predictions.npy", np.array([1, 2]))
    for name, fact in (("nowhere.npz", "no such file"), (".", "folder"), ("predictions.npy", "neither")):
        with refuses(tmp_path / name, fact):
            score_file(tmp_path / name)


def test_a_damaged_file_is_refused(write):
    path = write(y_true=np.ones(500), y_pred=np.ones(500))
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)
    with refuses(path, ".npz"):
        score_file(path)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.69369, ".694"), (1.0, "1.000"), (0.0, ".000"), (-0.0001, ".000"), (-0.25, "-.250"), (None, "-")],
)
def test_fractions_are_written_without_a_leading_zero(value, text):
    assert fraction(value, 3) == text


# ---- what `bp-lcz predict` writes


@pytest.fixture
def predictions(tmp_path):
    def write_file(**columns):
        path = tmp_path / "predictions.parquet"
        pq.write_table(pa.table(columns), path)
        return path

    return write_file


def test_predictions_in_parquet_score_as_the_same_classes_in_numpy(write, predictions):
    numbers = write(y_true=np.array([1, 1, 1, 2, 11]), y_pred=np.array([1, 1, 2, 2, 1]))
    codes = predictions(patch=[*range(6)], label=["1", "1", "1", "2", "A", None], code=["1", "1", "2", "2", "1", "7"])
    assert score_file(codes) == score_file(numbers)


@pytest.mark.parametrize(
    ("columns", "facts"),
    [
        ({"code": ["1"]}, ["column label", "`bp-lcz predict`"]),
        ({"label": pa.array([None], pa.string()), "code": ["1"]}, ["no patch"]),
        ({"label": ["1"], "code": ["H"]}, ["'H'", "1, 2"]),
        ({"label": [1], "code": [1]}, ["1 is no code"]),
        ({"label": pa.array([b"\xff"]).cast(pa.string(), safe=False), "code": ["1"]}, ["parquet"]),
    ],
)
def test_parquet_without_predictions_of_labelled_patches_is_one_line(predictions, columns, facts):
    path = predictions(**columns)
    with refuses(path, *facts):
        score_file(path)


def test_an_archive_of_a_kind_that_python_lacks_is_one_line(write):
    path = write(y_true=[1], y_pred=[1])
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 117  # the version that is needed to read the first file
    path.write_bytes(content)
    with refuses(path, "version 11.7"):
        score_file(path)


def test_a_locked_archive_is_one_line(write):
    path = write(y_true=[1], y_pred=[1])
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with refuses(path):
        score_file(path)


def test_a_file_in_the_archive_that_is_no_array_is_one_line(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.npz", "w") as archive:
        for name in ("y_true.npy", "y_pred.npy"):
            archive.writestr(name, b"no array")
    with refuses(tmp_path / "p.npz", "y_true"):
        score_file(tmp_path / "p.npz")


def test_damaged_parquet_is_one_line(predictions):
    path = predictions(label=["1"] * 1000, code=["1"] * 1000)
    path.write_bytes(path.read_bytes()[:-40])
    with refuses(path, "parquet"):
        score_file(path)
