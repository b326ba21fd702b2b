"""The judge of the simulation, with a network of random weights in place of the published one."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from bp_lcz.bands import ALL_CHANNELS
from bp_lcz.demo.judge import Verdict, agreement, judge_simulation
from bp_lcz.demo.simulate import simulate
from bp_lcz.model.training import train_trial
from tests.model.packed import small_trial, write_inputs
from tests.model.test_sen2lcz_weights import random_weights, write_keras
from tests.refusals import refuses
from tests.so2sat.patches import write_dataset


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "demo"
    simulate(
        out,
        seed=1,
        patches={"training": 34, "validation": 17, "testing": 17},
        cities={"training": 2, "validation": 1, "testing": 1},
        frequencies="uniform",
        label_noise=0.15,
    )
    return out


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_keras(tmp_path_factory.mktemp("weights") / "random.hdf5", random_weights())


def test_every_patch_is_judged_by_its_intended_class(demo: Path, weights: Path) -> None:
    verdict = judge_simulation(weights, demo)
    intended = []
    for split in ("training", "validation", "testing"):
        with h5py.File(demo / f"{split}_geo.h5") as file:
            intended.append(file["intended"][:])
    expected = np.bincount(np.concatenate(intended), minlength=17)
    assert verdict.confusion.sum(1).tolist() == expected.tolist()


def test_classes_weigh_alike_however_many_patches_they_have() -> None:
    confusion = np.zeros((17, 17), dtype=np.int64)
    confusion[0, 0], confusion[16, 16], confusion[16, 0] = 1, 10, 90
    verdict = Verdict("x", confusion)
    assert verdict.overall == pytest.approx((1 + 0.1) / 2)
    assert verdict.shares[5] is None
    assert "1 of 2 classes above 0.25" in verdict.lines()[0]
    assert re.search(r"G  Water +100 +0.10  1 0.90", verdict.lines()[-1])


def test_data_without_intended_classes_cannot_be_judged(tmp_path: Path, weights: Path) -> None:
    root = write_dataset(tmp_path / "data", cities={"training": 2, "validation": 2, "testing": 2})
    with refuses(root / "training_geo.h5", "`bp-lcz simulate`"):
        judge_simulation(weights, root)


def test_agreement_counts_equal_classes(tmp_path: Path, weights: Path) -> None:
    train_trial(small_trial("plain", epochs=1), *write_inputs(tmp_path), tmp_path / "scratch", tmp_path / "trial")
    share, count = agreement(weights, tmp_path / "trial", tmp_path / "data")
    assert count == 68 + 34 + 34
    assert 0 <= share <= 1
    assert (share * count) == pytest.approx(round(share * count))


def test_a_model_of_other_channels_is_refused(tmp_path: Path, weights: Path) -> None:
    train_trial(small_trial("plain", epochs=1), *write_inputs(tmp_path), tmp_path / "scratch", tmp_path / "trial")
    reduced = type(ALL_CHANNELS)(("VH_lee_intensity", "VV_lee_intensity"), ALL_CHANNELS.sen2)
    root = write_dataset(tmp_path / "reduced", channels=reduced)
    with refuses(root / "training.h5", "sen1", ", ".join(reduced.sen1), ", ".join(ALL_CHANNELS.sen1)):
        agreement(weights, tmp_path / "trial", root)


@pytest.mark.shared
def test_the_published_network_recognises_most_simulated_classes(demo: Path, shared_data: Path) -> None:
    published = shared_data / "weights/sen2lcz_drop_32_weights.best.hdf5"
    assert judge_simulation(published, demo).overall > 0.4
