import json
from pathlib import Path

import numpy as np
import pytest

from bp_lcz.bands import PATCH_SIDE
from bp_lcz.patches.store import PackedStore
from bp_lcz.stages import pack, validate
from tests.refusals import refuses
from tests.so2sat.patches import write_dataset
from tests.stages.test_validate import params_for


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_the_gate_has_passed_is_packed_where_dvc_expects_it(workspace):
    write_dataset(workspace / "mine", cities={"training": 3, "validation": 2, "testing": 2})
    validate.run(params_for("mine"))
    pack.run(params_for("mine"))
    assert [path.name for path in Path("outputs").iterdir() if path.name.startswith(".")] == []
    assert len(PackedStore(Path("outputs/packed"), "testing")) == 17


def test_packing_needs_the_gate(workspace):
    write_dataset(workspace / "mine")
    with refuses("outputs/gate/summary.json", "not found", "`dvc repro`"):
        pack.run(params_for("mine"))
    assert not Path("outputs/packed").exists()


def test_a_damaged_summary_is_named(workspace):
    Path("outputs/gate").mkdir(parents=True)
    Path("outputs/gate/summary.json").write_text("{")
    with refuses("outputs/gate/summary.json", "damaged"):
        pack.run(params_for("mine"))


@pytest.mark.shared
def test_real_patches_pass_and_are_packed_with_the_channels_that_they_have(shared_data):
    params = params_for(str(shared_data / "real_mini"))
    validate.run(params)
    assert '"kind": "weak labels"' in Path("outputs/gate/summary.json").read_text()
    assert len(list(Path("outputs/gate/figures").glob("*.png"))) == 3
    pack.run(params)
    manifest = json.loads(Path("outputs/packed/manifest.json").read_text())
    assert manifest["channels"]["sen1"] == ["VH_lee_intensity", "VV_lee_intensity"]
    assert manifest["blocks"]["unit"] == "spatial block"
    store = PackedStore(Path("outputs/packed"), "training")
    sen1, sen2, label = store.gather(np.arange(len(store)))
    assert sen1.shape == (720, 2, PATCH_SIDE, PATCH_SIDE)
    assert sen2.shape == (720, 10, PATCH_SIDE, PATCH_SIDE)
    assert -35 < manifest["mean"][0] < manifest["mean"][1] < 0  # dB; VH is weaker than VV on land
    assert len(label.unique()) == 12
