"""The parts of `make gpu` in tiny sizes on the CPU, so that they run when a GPU comes."""

from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import (
    GpuResults,
    Training,
    full_size_trainings,
    measure_gpu,
    paper_hours,
    paper_params,
    run_tests,
    side_by_side,
)
from benchmarks.harness import Setup
from bp_lcz.errors import UserError


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path, quick=True)


def test_the_tests_of_a_gpu_are_counted(setup: Setup, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_it.py").write_text(
        "import pytest\npytestmark = pytest.mark.gpu\n"
        "def test_a(): pass\ndef test_b(): assert 0\ndef test_c(): pytest.skip('no')\n"
    )
    (tmp_path / "tests/test_other.py").write_text("def test_d(): assert 0\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu\n")
    assert run_tests(setup, tmp_path) == {"passed": 1, "failures": 1, "errors": 0, "skipped": 1}


def test_trainings_from_every_store_give_equal_weights(setup: Setup) -> None:
    first, second = full_size_trainings(setup)
    assert (first.store, second.store) == ("device", "packed")
    assert first.sha256 == second.sha256
    assert first.training_loss[1] < first.training_loss[0]


def test_the_hours_of_the_paper_are_those_of_all_its_trials(setup: Setup) -> None:
    params = paper_params()
    kinds = {name.rpartition("-s")[0] for name in params.trials}
    found = paper_hours(setup)
    assert {kind.trials for kind in found} <= kinds
    epochs = params.train.epochs
    assert all(kind.hours == pytest.approx(kind.epoch_seconds * 5 * epochs / 3600) for kind in found)


def test_trainings_run_beside_each_other(setup: Setup) -> None:
    (found,) = side_by_side(setup)
    assert found.trainings == 2
    assert found.patches_per_second > 0


def test_everything_runs_and_is_written_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu, "run_tests", lambda _: {"passed": 0, "failures": 0, "errors": 0, "skipped": 0})
    training = Training(
        store="device",
        patches={"training": 64},
        batch=16,
        epoch_seconds=1.0,
        loading_seconds=1.0,
        gpu_gib=None,
        training_loss=(2.0, 1.0),
        sha256="0",
    )
    monkeypatch.setattr(gpu, "full_size_trainings", lambda _: (training,))
    monkeypatch.setattr(gpu, "side_by_side", lambda _: ())
    monkeypatch.setattr(gpu, "paper_hours", lambda _: ())
    threads = torch.get_num_threads()
    out = measure_gpu(tmp_path / "out.json", quick=True)
    torch.set_num_threads(threads)
    assert out is not None
    found = GpuResults.read(out)
    assert (found.quick, found.trainings) == (True, (training,))
    assert [row.name for row in found.rows] == ["gpu-epoch-eb_cnn"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the GPU that the test wants missing")
def test_without_a_gpu_nothing_is_measured_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        measure_gpu(tmp_path / "out.json")
    assert list(tmp_path.iterdir()) == []
