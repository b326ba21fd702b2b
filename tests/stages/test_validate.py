from pathlib import Path

import h5py
import numpy as np
import pytest

from bp_lcz.errors import UserError
from bp_lcz.params import Dataset, Params, load_params
from bp_lcz.stages import validate
from tests.refusals import refuses, states
from tests.so2sat.patches import edit, random_patches, write_dataset

PARAMS = Path(__file__).parents[2] / "params.yaml"


def params_for(root: str) -> Params:
    """The committed parameters, on this data set."""
    return load_params(PARAMS).model_copy(update={"dataset": Dataset(root=root)})


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def without_figures(monkeypatch) -> None:
    """Tests that are not about figures need not wait for them."""
    monkeypatch.setattr(validate, "write_gate_figures", lambda root, summary, out: None)


def test_the_gate_is_written_where_dvc_expects_it(workspace):
    write_dataset(workspace / "mine")
    validate.run(params_for("mine"))
    figures = sorted(path.name for path in Path("outputs/gate/figures").iterdir())
    assert figures == ["bands.png", "classes.png", "patches.png"]
    assert sorted(path.name for path in Path("outputs/gate").iterdir()) == [
        "data_docs",
        "figures",
        "statistics.parquet",
        "summary.json",
    ]


def test_thresholds_are_those_of_the_parameters(workspace, without_figures):
    write_dataset(workspace / "mine")
    _, sen2, _ = random_patches(17, seed=2)
    sen2[4] = 2.9
    edit(Path("mine"), "testing", "sen2", sen2)
    validate.run(params_for("mine"))
    strict = params_for("mine")
    strict = strict.model_copy(update={"validation": strict.validation.model_copy(update={"reflectance_max": 2.8})})
    with refuses("mine", "'B02: reflectance at most 2.8'", "1 patches", "testing.h5[4]"):
        validate.run(strict)


def test_warnings_are_printed_and_do_not_stop(workspace, without_figures, capsys):
    root = write_dataset(workspace / "mine")
    edit(root, "training", "label", np.eye(17)[np.arange(34) % 16])
    validate.run(params_for("mine"))
    expectation = "'label: each class of testing occurs in training'"
    (line,) = [line for line in capsys.readouterr().err.splitlines() if expectation in line]
    assert line.startswith("warning: mine: ")
    assert states(line, "LCZ G (Water)")
    assert Path("outputs/gate/summary.json").exists()


def test_checks_that_small_splits_do_not_allow_are_said_in_one_line(workspace, without_figures, capsys):
    write_dataset(workspace / "mine", patches={"training": 102, "validation": 17, "testing": 17}, seed=1)
    validate.run(params_for("mine"))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "not checked" in line]
    assert line.startswith("warning: mine: ")
    for fact in ("validation.h5", "testing.h5", "100 patches", "6 expectations", "outputs/gate/summary.json"):
        assert states(line, fact)


@pytest.mark.parametrize(
    ("damage", "fact"),
    [
        ("missing file", "not found"),
        ("missing key", "key sen2"),
        ("wrong shape", "(17, 16, 16, 10)"),
        ("wrong channel count", "7 channels"),
        ("truncated", "HDF5"),
    ],
)
def test_files_out_of_form_leave_nothing_behind(workspace, damage, fact):
    root = write_dataset(workspace / "mine")
    path = root / "testing.h5"
    if damage == "missing file":
        path.unlink()
    elif damage == "missing key":
        with h5py.File(path, "a") as file:
            del file["sen2"]
    elif damage == "wrong shape":
        edit(root, "testing", "sen2", np.zeros((17, 16, 16, 10)))
    elif damage == "wrong channel count":
        edit(root, "testing", "sen1", np.zeros((17, 32, 32, 7)))
    else:
        path.write_bytes(path.read_bytes()[:-1000])
    with refuses("mine/testing.h5", fact):
        validate.run(params_for("mine"))
    assert not list(workspace.glob("outputs/**/*.*"))


def mix_releases(folder: Path) -> None:
    """Files without content, of the sizes of So2Sat v2 and of v3 random."""
    for name, size in (("training.h5", 52_006_404_720), ("testing.h5", 11_791_717_296)):
        with (folder / name).open("wb") as file:
            file.truncate(size)  # sparse


@pytest.mark.parametrize("damage", ["broken file", "whole numbers", "mixed releases"])
def test_nothing_that_was_said_of_other_data_outlives_files_out_of_form(workspace, without_figures, damage):
    write_dataset(workspace / "mine")
    validate.run(params_for("mine"))
    if damage == "broken file":
        (workspace / "mine/testing.h5").write_bytes(b"")
    elif damage == "whole numbers":
        edit(workspace / "mine", "testing", "sen2", np.ones((17, 32, 32, 10), dtype=np.uint16))
    else:
        mix_releases(workspace / "mine")
    with pytest.raises(UserError, match=r"testing\.h5"):
        validate.run(params_for("mine"))
    assert not list(Path("outputs").glob("**/*.*"))


def test_a_failure_while_drawing_leaves_no_figure(workspace, monkeypatch):
    def write_and_fail(root, summary, out):
        (out / "classes.png").write_bytes(b"half")
        raise OSError("no space left on device")

    write_dataset(workspace / "mine")
    monkeypatch.setattr(validate, "write_gate_figures", write_and_fail)
    with pytest.raises(OSError, match="space"):
        validate.run(params_for("mine"))
    assert not [path for path in workspace.glob("outputs/gate/**/*") if ".png" in path.name or ".part" in path.name]


def test_files_of_different_releases_are_told_before_a_patch_is_read(workspace):
    (workspace / "mine").mkdir()
    mix_releases(workspace / "mine")
    with refuses("mine", "different releases", "testing.h5 is of so2sat-v3-random"):
        validate.run(params_for("mine"))
