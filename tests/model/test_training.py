"""Training as the stage does it: learns, repeats itself bit for bit, survives a kill."""

import csv
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only

from bp_lcz.bands import ALL_CHANNELS
from bp_lcz.errors import BusyError, DeviceError, lost_device
from bp_lcz.model.checkpoint import load_classifier
from bp_lcz.model.task import LczTask, class_weights, dihedral, spread_dihedral
from bp_lcz.model.training import operations, train_trial
from bp_lcz.params import Tier, TrialParams
from bp_lcz.patches.store import PackedStore
from bp_lcz.text.table import read_prompt_table
from tests.model.packed import PATCHES, small_trial, write_inputs
from tests.model.test_bp_lcz import network, trial
from tests.model.trainer import Trainer
from tests.refusals import refuses

RESULTS = ("model.safetensors", "model.json", "history.csv")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


def train(inputs: tuple[Path, Path], folder: Path, trial: TrialParams) -> Path:
    train_trial(trial, *inputs, folder / "scratch", folder / "out")
    return folder / "out"


def history(out: Path) -> list[dict[str, str]]:
    with (out / "history.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("variant", ["plain", "encoder", "bgp", "msm", "bp-lcz"])
def test_training_learns_what_the_patches_show(inputs: tuple[Path, Path], tmp_path: Path, variant: str) -> None:
    out = train(inputs, tmp_path, small_trial(variant, epochs=30, learning_rate=0.01, patience=30))
    rows = history(out)
    assert float(rows[-1]["training_loss"]) < 0.8 * float(rows[0]["training_loss"])
    assert json.loads((out / "model.json").read_text())["validation"]["kappa"] > 0.3
    assert (float(rows[0]["training_alignment"]) > 0) == (variant not in ("plain", "encoder"))


def test_the_joint_matrix_trains_with_another_loss(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    trial = small_trial(epochs=1)
    joint = trial.model_copy(update={"model": trial.model.model_copy(update={"pairs": "joint"})})
    alone, both = (
        float(history(train(inputs, tmp_path / each.model.pairs, each))[0]["training_alignment"])
        for each in (trial, joint)
    )
    assert both > 0
    assert both != alone


def test_few_patches_of_a_class_are_all_that_a_training_sees(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    seen: list[int] = []
    gather = PackedStore.gather

    def watch(store: PackedStore, indices: Any) -> Any:
        batch = gather(store, indices)
        seen.extend(indices.tolist() if len(store) == PATCHES["training"] else [])
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PackedStore, "gather", watch)
        train(inputs, tmp_path, small_trial("plain", epochs=2, per_class=2))
    labels = PackedStore(inputs[0], "training").labels[sorted(set(seen))]
    assert np.bincount(labels).tolist() == [2] * 17
    assert len(seen) == 2 * len(set(seen))


def test_a_class_that_is_left_out_is_met_by_neither_training_nor_validation(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    met: set[int] = set()
    gather = PackedStore.gather

    def watch(store: PackedStore, indices: Any) -> Any:
        met.update(store.labels[indices].tolist())
        return gather(store, indices)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PackedStore, "gather", watch)
        out = train(inputs, tmp_path, small_trial(epochs=1, leave_out=["3", "G"]))
    assert met == set(range(17)) - {2, 16}
    assert json.loads((out / "model.json").read_text())["train"]["leave_out"] == ["3", "G"]


def stored_prompts(out: Path) -> torch.Tensor:
    prompting = load_classifier(out).network.prompting
    assert prompting is not None
    return prompting.prompts


@pytest.mark.parametrize("variant", ["bp-lcz", "encoder"])
def test_a_control_meets_other_vectors_with_each_seed_and_names_no_text(
    inputs: tuple[Path, Path], tmp_path: Path, variant: str
) -> None:
    # The encoder whatever its texts are, since it is to know none.
    source = "random" if variant == "bp-lcz" else "text"
    trial = small_trial(variant, epochs=1)
    trial = trial.model_copy(update={"prompts": trial.prompts.model_copy(update={"source": source})})
    outs = [train(inputs, tmp_path / str(seed), trial.model_copy(update={"seed": seed})) for seed in (1, 2)]
    first, second = map(stored_prompts, outs)
    assert not torch.equal(first, second)
    assert not torch.equal(first, read_prompt_table(inputs[1]).embedding[0])
    assert json.loads((outs[0] / "model.json").read_text())["text"] is None


def test_operations_are_the_products_of_one_more_patch() -> None:
    arranged, first, second, merged, classes = 4 * 18 * 21, 3 * 9 * 28, 4 * 9 * 56, 56 * 16, 16 * 17
    assert operations(network(settings=trial("plain"))) == 16 * 16 * (arranged + first + second + merged) + classes


def test_a_checkpoint_tells_the_options_that_the_trial_leaves_to_the_backbone(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    trial = small_trial("plain", epochs=1).model_copy(update={"backbone_options": {"widths": [4, 8]}})
    out = train(inputs, tmp_path, trial)
    assert json.loads((out / "model.json").read_text())["backbone_options"] == {"widths": [4, 8], "fused_width": 128}


def test_equal_inputs_give_equal_bytes(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = (train(inputs, tmp_path / name, small_trial()) for name in ("first", "second"))
    for name in RESULTS:
        assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.mark.parametrize(
    "outer",
    [
        {"LOCAL_RANK": "1"},
        {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "10.255.255.1", "NODE_RANK": "1"},
        {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "batch", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_NODEID": "1"},
    ],
)
def test_one_process_trains_whatever_a_launcher_around_it_says(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outer: dict[str, str]
) -> None:
    for name, value in outer.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    out = train(inputs, tmp_path, small_trial(epochs=1))
    assert {*RESULTS, "timings.json"} == {file.name for file in out.iterdir()}


def test_training_encodes_no_text(inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a text encoder was called")

    monkeypatch.setitem(sys.modules, "transformers", None)  # importing it raises
    monkeypatch.setattr("bp_lcz.text.encoder.load_encoder", refuse)
    monkeypatch.setattr("bp_lcz.text.encoder.TextEncoder.__call__", refuse)
    with pytest.raises(ImportError):
        importlib.import_module("transformers")
    assert (train(inputs, tmp_path, small_trial(epochs=1)) / "model.safetensors").is_file()


@pytest.mark.parametrize("tier", ["device", "packed", "hdf5"])
def test_the_tier_of_the_store_changes_no_byte(inputs: tuple[Path, Path], tmp_path: Path, tier: Tier) -> None:
    first = train(inputs, tmp_path / "first", small_trial(epochs=2))
    second = tmp_path / "second/out"
    train_trial(
        small_trial(epochs=2),
        *inputs,
        tmp_path / "second/scratch",
        second,
        tier=tier,
        dataset=inputs[0].parent / "data",
    )
    for name in RESULTS:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_another_seed_gives_another_model(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    first = train(inputs, tmp_path / "first", small_trial(epochs=1))
    other = TrialParams.model_validate({**small_trial(epochs=1).model_dump(), "seed": 2})
    second = train(inputs, tmp_path / "second", other)
    assert (first / RESULTS[0]).read_bytes() != (second / RESULTS[0]).read_bytes()


def test_published_weights_are_those_of_the_best_epoch(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    out = train(inputs, tmp_path, small_trial(epochs=4, patience=4))
    description, rows = json.loads((out / "model.json").read_text()), history(out)
    kappas = [float(row["validation_kappa"]) for row in rows]
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert description["best_epoch"] == kappas.index(max(kappas)) + 1
    store, classifier = PackedStore(inputs[0], "validation"), load_classifier(out)
    sen1, sen2, label = store.gather(np.arange(len(store)))
    with torch.inference_mode():
        predicted = classifier.network(sen1, sen2).logits.argmax(1)
    assert float((predicted == label).float().mean()) == pytest.approx(description["validation"]["oa"])


def test_loss_tells_the_best_epoch_where_validation_has_one_class(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, validated=3)
    out = train(inputs, tmp_path, small_trial(epochs=4, patience=4, learning_rate=0.01))
    losses = [float(row["validation_loss"]) for row in history(out)]
    assert json.loads((out / "model.json").read_text())["best_epoch"] == losses.index(min(losses)) + 1 > 1


def test_training_stops_when_validation_no_longer_improves(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    # A learning rate that moves nothing cannot improve anything after the first epoch.
    out = train(inputs, tmp_path, small_trial(epochs=9, learning_rate=1e-12, patience=2))
    assert len(history(out)) < 9


def test_a_training_that_diverges_is_an_error_and_leaves_no_model(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    with refuses(small_trial().name, "epoch 1", "train.learning_rate"):
        train(inputs, tmp_path, small_trial(learning_rate=1e30))
    assert not (tmp_path / "out").exists()


def test_a_killed_run_resumes_and_ends_with_the_bytes_of_an_unbroken_one(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    trial = small_trial(epochs=8, patience=8)
    killed = Trainer(inputs, tmp_path / "killed", trial)
    killed.wait_for("epoch 3/")
    killed.kill()
    assert not (tmp_path / "killed" / "out").exists()
    resumed = Trainer(inputs, tmp_path / "killed", trial)
    resumed.process.join()
    assert resumed.process.exitcode == 0
    assert "resuming from" in resumed.printed
    assert "epoch 1/" not in resumed.printed
    unbroken = train(inputs, tmp_path / "unbroken", trial)
    for name in RESULTS:
        assert (tmp_path / "killed" / "out" / name).read_bytes() == (unbroken / name).read_bytes()
    assert not list((tmp_path / "killed" / "scratch").rglob("*.ckpt"))


def test_a_gpu_that_is_lost_in_the_middle_costs_no_finished_epoch(
    inputs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, step = small_trial(), LczTask.training_step

    def failing(task: LczTask, *batch: Any) -> torch.Tensor:
        if task.current_epoch == 1:
            raise RuntimeError("CUDA error: unspecified launch failure")
        return step(task, *batch)

    monkeypatch.setattr(LczTask, "training_step", failing)
    with pytest.raises(RuntimeError) as caught:
        train(inputs, tmp_path / "lost", trial)
    assert lost_device(caught.value)
    monkeypatch.undo()
    capsys.readouterr()
    resumed, unbroken = (train(inputs, tmp_path / name, trial) for name in ("lost", "unbroken"))
    assert capsys.readouterr().out.count("epoch 1/") == 1
    for name in RESULTS:
        assert (resumed / name).read_bytes() == (unbroken / name).read_bytes()


def test_a_changed_parameter_never_resumes_old_state(
    inputs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed = Trainer(inputs, tmp_path, small_trial(epochs=50, patience=50))
    killed.wait_for("epoch 2/")
    killed.kill()
    train(inputs, tmp_path, small_trial(epochs=2, learning_rate=0.003))
    printed = capsys.readouterr().out
    assert "epoch 1/" in printed
    assert "resuming" not in printed


def test_a_second_trainer_of_the_same_trial_is_refused(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    living = Trainer(inputs, tmp_path, small_trial(epochs=200, patience=200))
    try:
        living.wait_for("epoch 1/")
        (lock,) = (tmp_path / "scratch/train").glob("*.lock")
        with refuses(lock, "trial", kind=BusyError):
            train(inputs, tmp_path, small_trial(epochs=200, patience=200))
    finally:
        living.kill()


def test_a_missing_packed_folder_is_named(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    with refuses(tmp_path / "nowhere/manifest.json", "`dvc repro`"):
        train_trial(small_trial(), tmp_path / "nowhere", inputs[1], tmp_path / "scratch", tmp_path / "out")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the GPU that the test wants missing")
def test_a_gpu_that_is_not_there_is_an_error_not_a_fallback(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    with refuses("params.yaml", "train.device: cuda", kind=DeviceError):
        train(inputs, tmp_path, small_trial(device="cuda"))
    assert not (tmp_path / "out").exists()


def test_class_weights_have_mean_one_over_patches_and_none_for_absent_classes() -> None:
    counts = [10, 0, 90, 400]
    for exponent in (0.0, 0.5, 1.0):
        weight = class_weights(counts, exponent).double()
        assert float(weight @ torch.tensor(counts, dtype=torch.float64)) == pytest.approx(500)
        assert weight[1] == 0
    full = class_weights(counts, 1.0)
    assert float(full[0] * 10) == pytest.approx(float(full[3] * 400))
    assert class_weights(counts, 0.0)[[0, 2, 3]].tolist() == [1, 1, 1]


def test_the_eight_symmetries_are_eight_different_ones() -> None:
    image = torch.arange(9.0).reshape(1, 3, 3)
    seen = {tuple(dihedral(image, element).flatten().tolist()) for element in range(8)}
    assert len(seen) == 8


def test_a_batch_meets_every_symmetry_once_around_and_both_sensors_the_same_one() -> None:
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    batch = spread_dihedral(image.expand(8, 2, 3, 3))
    assert len({tuple(patch[0].flatten().tolist()) for patch in batch}) == 8
    torch.testing.assert_close(batch[:, 0], batch[:, 1])
    torch.testing.assert_close(batch[3:4, :1], dihedral(image, 3))
    for count in (1, 3, 17):
        assert spread_dihedral(image.expand(count, 2, 3, 3)).shape == (count, 2, 3, 3)


def test_channels_of_the_description_are_those_of_the_data(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    assert load_classifier(train(inputs, tmp_path, small_trial(epochs=1))).channels == ALL_CHANNELS
