import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bp_lcz.errors import UserError
from bp_lcz.scoring.score import fraction, score_file


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
    lines = score_file(path).splitlines()
    assert lines[0] == "OA .60000, AA .55556, kappa .28571, macro-F1 .44444"
    assert lines[1] == "5 patches"
    assert lines[4].split() == ["1", "Compact", "high-rise", "3", ".66667", ".66667"]
    assert lines[5].split() == ["2", "Compact", "mid-rise", "1", ".50000", "1.00000"]
    assert lines[6].split() == ["3", "Compact", "low-rise", "0", "-", "-"]
    assert len(lines) == 4 + 17


@pytest.mark.shared
def test_the_published_predictions_of_sen2lcz_score_as_published(shared_data):
    path = shared_data / "golden/sen2lcz_v2_test_labels_preds.npz"
    lines = score_file(path).splitlines()
    assert lines[0] == "OA .69369, AA .58675, kappa .66437, macro-F1 .57655"
    assert lines[1] == "24,188 patches"


def test_whole_numbers_of_any_type_are_classes(write):
    as_bytes = write(y_true=np.array([1, 17], dtype=np.uint8), y_pred=np.array([1.0, 1.0]))
    assert score_file(as_bytes).startswith("OA .50000")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y_true": [1]}, r"no array y_pred; it holds y_true$"),
        ({"labels": [1]}, r"no array y_true or y_pred; it holds labels$"),
        ({"y_true": [0, 16], "y_pred": [1, 2]}, r"y_true must hold whole numbers 1\.\.17; found 0$"),
        ({"y_true": [1, 2], "y_pred": [1, 18]}, r"y_pred must hold whole numbers 1\.\.17; found 18$"),
        ({"y_true": [1.5], "y_pred": [1]}, r"y_true must hold whole numbers 1\.\.17; found 1\.5$"),
        ({"y_true": [np.nan], "y_pred": [1]}, r"y_true must hold whole numbers 1\.\.17; found nan$"),
        ({"y_true": ["A"], "y_pred": [1]}, r"y_true must hold whole numbers 1\.\.17; its type is <U1$"),
        ({"y_true": [1, 2], "y_pred": [1]}, r"y_true has 2 patches but y_pred 1$"),
        ({"y_true": [[1]], "y_pred": [1]}, r"y_true has shape \(1, 1\); expected \(N,\)"),
        ({"y_true": [], "y_pred": []}, r"y_true has shape \(0,\); expected \(N,\)"),
    ],
)
def test_unusable_arrays_are_named_with_the_file(write, arrays, message):
    path = write(**{name: np.array(values) for name, values in arrays.items()})
    with pytest.raises(UserError, match=rf"predictions\.npz: {message}") as error:
        score_file(path)
    assert "\n" not in str(error.value)


def test_objects_are_never_unpickled(write):
    path = write(y_true=np.array([1, None], dtype=object), y_pred=np.array([1, 1]))
    with pytest.raises(UserError, match=r"predictions\.npz: not a readable NumPy \.npz file"):
        score_file(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.npz: no such file$"):
        score_file(tmp_path / "nowhere.npz")


def test_a_folder_is_named_as_one(tmp_path):
    with pytest.raises(UserError, match=r": a folder; expected a NumPy \.npz file or predictions in parquet$"):
        score_file(tmp_path)


def test_another_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "predictions.npy"
    np.save(path, np.array([1, 2]))
    with pytest.raises(UserError, match=r"predictions\.npy: neither a NumPy \.npz file nor predictions in parquet$"):
        score_file(path)


def test_a_damaged_file_is_refused(write):
    path = write(y_true=np.ones(500), y_pred=np.ones(500))
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"predictions\.npz: not a readable NumPy \.npz file"):
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
    ("columns", "what"),
    [
        ({"code": ["1"]}, "no column label; "),
        ({"label": pa.array([None], pa.string()), "code": ["1"]}, "no patch with a label"),
        ({"label": ["1"], "code": ["H"]}, "'H' is no code of a class; expected 1, 2"),
        ({"label": [1], "code": [1]}, "1 is no code of a class; expected 1, 2"),
    ],
)
def test_parquet_without_predictions_of_labelled_patches_is_one_line(predictions, columns, what):
    path = predictions(**columns)
    with pytest.raises(UserError) as caught:
        score_file(path)
    assert caught.value.where == str(path)
    assert caught.value.what.startswith(what)


def test_parquet_with_text_that_is_not_utf_8_is_one_line(predictions):
    path = predictions(label=pa.array([b"\xff"]).cast(pa.string(), safe=False), code=["1"])
    with pytest.raises(UserError) as caught:
        score_file(path)
    assert caught.value.where == str(path)


def test_an_archive_of_a_kind_that_python_lacks_is_one_line(write):
    path = write(y_true=[1], y_pred=[1])
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 117  # the version that is needed to read the first file
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        score_file(path)
    assert caught.value.where == str(path)


def test_damaged_parquet_is_one_line(predictions):
    path = predictions(label=["1"] * 1000, code=["1"] * 1000)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError) as caught:
        score_file(path)
    assert caught.value.where == str(path)
    assert "\n" not in caught.value.what
