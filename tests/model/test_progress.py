"""What a training tells while it runs."""

from pathlib import Path

import pytest

from bp_lcz import progress
from bp_lcz.model.training import train_trial
from tests.model.packed import small_trial, write_inputs


def test_a_training_tells_its_inputs_once_and_then_each_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "progress.jsonl"
    monkeypatch.setenv(progress.PROGRESS_FILE, str(file))
    train_trial(small_trial(epochs=2), *write_inputs(tmp_path), tmp_path / "scratch", tmp_path / "out")
    (inputs, *epochs), end = progress.read_from(file, 0)
    assert inputs["device"] == "cpu"
    assert [row["epoch"] for row in epochs] == [1, 2]
    assert all({"training_loss", "validation_kappa", "patches_per_second"} <= row.keys() for row in epochs)
    assert progress.read_from(file, end) == ([], end)
