"""The proof of data by published weights whose level on them is known."""

import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from bp_lcz.errors import TemporaryError, UserError
from bp_lcz.model.pretrained import PRETRAINED
from bp_lcz.scoring.metrics import evaluate_predictions
from bp_lcz.serving.prove import MODEL, SEN2LCZ_V2, KnownLevel, hold_against, no_proof, prove_data
from tests.refusals import refuses
from tests.so2sat.patches import write_dataset
from tests.so2sat.servers import Manners, http_server

KNOWN = KnownLevel("a small split", [1] * 17, {"OA": 1.0, "AA": 1.0, "kappa": 1.0}, "-")


def flipped(true: np.ndarray, predicted: np.ndarray, count: int) -> np.ndarray:
    """Predictions of which so many right ones are wrong, spread over the split."""
    right = np.flatnonzero(true == predicted)
    changed = predicted.copy()
    chosen = right[:: len(right) // count][:count]
    changed[chosen] = (changed[chosen] + 1) % 17
    return changed


@pytest.mark.shared
def test_the_published_predictions_have_the_known_level_and_sixty_others_have_not(shared_data: Path) -> None:
    with np.load(shared_data / "golden/sen2lcz_v2_test_labels_preds.npz") as golden:
        true, predicted = (golden[key].astype(int) - 1 for key in ("y_true", "y_pred"))
    assert hold_against(SEN2LCZ_V2, Path("x"), evaluate_predictions(true, predicted)).found == pytest.approx(
        SEN2LCZ_V2.scores, abs=5e-6
    )
    hold_against(SEN2LCZ_V2, Path("x"), evaluate_predictions(true, flipped(true, predicted, 6)))
    with refuses(Path("x/testing.h5"), ".69369"):
        hold_against(SEN2LCZ_V2, Path("x"), evaluate_predictions(true, flipped(true, predicted, 60)))


def real(shared_data: Path, folder: Path) -> tuple[Path, KnownLevel, Path]:
    """Real patches with the published network's own classes as labels, what it reaches on them, and its weights."""
    folder.mkdir()
    shutil.copy(shared_data / "real_mini/testing.h5", folder / "testing.h5")
    with h5py.File(folder / "testing.h5") as file:
        counts = np.bincount(file["label"][:].argmax(1), minlength=17).tolist()
    weights = shared_data / "weights/sen2lcz_drop_32_weights.best.hdf5"
    return folder, replace(KNOWN, class_counts=counts), weights


@pytest.mark.shared
def test_real_patches_are_proven_by_the_published_weights_which_are_kept(shared_data: Path, tmp_path: Path) -> None:
    root, level, weights = real(shared_data, tmp_path / "data")
    proof = prove_data(root, weights, tmp_path / "kept", level)
    assert proof is not None
    assert proof.found == KNOWN.scores
    assert prove_data(root, tmp_path / "no file is needed", tmp_path / "kept", level) == proof


@pytest.mark.shared
@pytest.mark.parametrize(
    "spoil",
    [
        lambda sen2: np.roll(sen2, 1, axis=0),  # labels of other patches
        lambda sen2: sen2 + 0.1,  # the offset of newer products
        lambda sen2: sen2[..., [0, 1, 2, 3, 4, 5, 7, 6, 9, 8]],  # bands in another order
    ],
    ids=["rows", "offset", "bands"],
)
def test_other_pixels_under_the_right_labels_are_refused(spoil, shared_data: Path, tmp_path: Path) -> None:
    root, level, weights = real(shared_data, tmp_path / "data")
    with h5py.File(root / "testing.h5", "a") as file:
        file["sen2"][:] = spoil(file["sen2"][:])
    with refuses(root / "testing.h5", "1.00000", "bp-lcz download --verify"):
        prove_data(root, weights, level=level)


def test_of_another_split_nothing_is_known_and_nothing_is_fetched(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "mine")
    assert prove_data(root, tmp_path / "none.hdf5") is None
    assert str(root) in no_proof(root)


def test_other_labels_for_as_many_patches_are_refused(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "mine")
    with refuses(root / "testing.h5"):
        prove_data(root, tmp_path / "none.hdf5", level=replace(KNOWN, class_counts=[2, 0, *[1] * 15]))


def test_weights_that_cannot_be_had_are_told_with_the_way_to_give_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_dataset(tmp_path / "mine")
    with http_server(tmp_path, Manners()) as address:
        pass
    monkeypatch.setitem(PRETRAINED, MODEL, replace(PRETRAINED[MODEL], url=f"{address}/weights.hdf5"))
    with refuses(f"{address}/weights.hdf5", "bp-lcz prove --weights", "make paper WEIGHTS", kind=TemporaryError):
        prove_data(root, level=KNOWN, kept=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
    with refuses(tmp_path / "none.hdf5", kind=UserError):
        prove_data(root, tmp_path / "none.hdf5", level=KNOWN)
