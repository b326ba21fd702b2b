"""The comparison of fine-tuning with training from nothing, on a data set that a test can afford."""

import shutil
from pathlib import Path

import pytest

from benchmarks import fine_tuning
from bp_lcz.drawing import Note
from bp_lcz.model.checkpoint import DESCRIPTION
from bp_lcz.model.training import train_trial
from bp_lcz.params import PARAMS_FILE, load_params
from bp_lcz.paths import PACKED, PROMPTS, SCRATCH, STARTS, start_folder
from bp_lcz.records import Checkpoint
from tests.conftest import ROOT
from tests.model.packed import small_trial, write_inputs
from tests.refusals import refuses


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    packed, prompts = write_inputs(tmp_path)
    PACKED.parent.mkdir()
    packed.rename(PACKED)
    prompts.rename(PROMPTS)


@pytest.mark.usefixtures("workspace")
def test_each_start_is_compared_with_nothing_at_each_number_of_patches() -> None:
    train_trial(small_trial("plain", epochs=2), PACKED, PROMPTS, SCRATCH, Path("first"))
    made = Checkpoint.read(Path("first") / DESCRIPTION)
    shutil.copytree("first", start_folder(STARTS, made.weights_sha256))
    sides = {name: {"start": start} for name, start in fine_tuning.find_starts().items()}
    points = fine_tuning.measure(small_trial("plain"), sides, {1: 1, 2: 1}, (1, 2))
    assert [(point.patches, point.begun) for point in points] == [
        (count, begun) for count in (17, 34) for begun in ("nothing", made.trial)
    ]
    for nothing, tuned in zip(points[::2], points[1::2], strict=True):
        assert nothing.lead is None
        assert tuned.lead == pytest.approx(tuned.kappa - nothing.kappa)
        assert tuned.lead_interval is not None
        assert tuned.lead_interval[0] <= tuned.lead <= tuned.lead_interval[1]
    assert len(fine_tuning.markdown(points).splitlines()) == 2 + len(points)
    assert fine_tuning.figure(points, Note("mine", "simulated data")).startswith(b"\x89PNG")


def test_settings_are_compared_with_the_committed_ones() -> None:
    train = load_params(ROOT / PARAMS_FILE).train
    names = fine_tuning.settings_of("mine", None)
    first = next(iter(names.values()))
    assert (first["start"], first["start_rate"]) == (None, train.start_rate)
    assert {bool(settings["frozen_norm_below"]) for settings in names.values()} == {True, False}
    assert len(names) == 2 * len(fine_tuning.RATES)


@pytest.mark.usefixtures("workspace")
def test_a_workspace_without_a_start_is_told_how_to_get_one() -> None:
    with refuses(STARTS, "--start"):
        fine_tuning.find_starts()
