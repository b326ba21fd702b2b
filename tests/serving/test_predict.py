"""Offline prediction, and checkpoints from somebody who means harm."""

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from bp_lcz.bands import SEN1_BANDS, SEN2_BANDS, Channels
from bp_lcz.model.bp_lcz import BPLCZ
from bp_lcz.model.checkpoint import load_classifier, write_checkpoint
from bp_lcz.model.pretrained import PRETRAINED, Published
from bp_lcz.params import load_params
from bp_lcz.scheme import CLASS_COUNT, ZONES
from bp_lcz.scoring.score import score_file
from bp_lcz.serving.predict import load_model, predict_file
from tests.conftest import ROOT
from tests.records import described
from tests.refusals import refuses
from tests.so2sat.servers import Manners, http_server

CHANNELS = Channels(("VH_lee_intensity", "VV_lee_intensity"), SEN2_BANDS)
COUNT = 300
NEAR = {"layers": [], "centre": [0.0] * 12, "scale": [1.0] * 12, "mixing": None, "limit": 1.0}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    folder.mkdir()
    form = (
        load_params(ROOT / "params.yaml").trial("eb_cnn-plain").model_copy(update={"backbone_options": {"widths": [4]}})
    )
    torch.manual_seed(1)
    statistics = torch.zeros(12), torch.ones(12)
    network = BPLCZ(form, CHANNELS, torch.zeros(CLASS_COUNT, 6, 0), *statistics)
    write_checkpoint(folder, network, described(form, CHANNELS))
    return folder


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """A file with more channels than the model takes, in another order, and one label that is not one-hot."""
    file = tmp_path / "city.h5"
    rng = np.random.default_rng(3)
    label = np.eye(CLASS_COUNT)[np.arange(COUNT) % CLASS_COUNT]
    label[7] = 0
    with h5py.File(file, "w") as out:
        out["sen1"] = rng.exponential(0.1, (COUNT, 32, 32, 8)).astype(np.float32)
        out["sen2"] = rng.uniform(0, 0.5, (COUNT, 32, 32, 10))[..., ::-1]
        out["label"] = label
        out["sen1"].attrs["bands"], out["sen2"].attrs["bands"] = list(SEN1_BANDS), list(SEN2_BANDS[::-1])
    with h5py.File(tmp_path / "city_geo.h5", "w") as out:
        out["city"] = np.array([b"munich"] * COUNT)
        out["epsg"] = np.full((COUNT, 1), 32632)
        out["tfw"] = np.tile([10.0, 0, 0, -10.0, 500_000.0, 5_000_000.0], (COUNT, 1)) + np.arange(COUNT)[:, None] * [
            0,
            0,
            0,
            0,
            1,
            0,
        ]
    return file


def test_a_file_becomes_a_table_of_probabilities(checkpoint: Path, patches: Path, tmp_path: Path) -> None:
    done = predict_file(tmp_path, str(checkpoint), patches, tmp_path / "out/p.parquet")
    table = pq.read_table(tmp_path / "out/p.parquet")
    with h5py.File(patches) as file:
        expected = load_classifier(checkpoint).predict_proba(file["sen1"][:][..., 4:6], file["sen2"][:][..., ::-1])
    found = np.stack([table[f"p_{number}"].to_numpy() for number in range(1, CLASS_COUNT + 1)], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert table["patch"].to_pylist() == list(range(COUNT))
    assert table["code"].to_pylist() == [ZONES[index].code for index in expected.argmax(1)]
    assert table["name"].to_pylist()[0] == ZONES[expected[0].argmax()].name
    assert [table["label"].to_pylist()[row] for row in (0, 7, 16, 17)] == ["1", None, "G", "1"]
    assert [table[key].to_pylist()[2] for key in ("city", "easting", "northing", "epsg")] == [
        "munich",
        500_002.0,
        5_000_000.0,
        32632,
    ]
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert metadata["weights_sha256"] == load_classifier(checkpoint).description.weights_sha256
    assert (metadata["kind"], metadata["trial"], metadata["file"]) == ("simulated", "small", "city.h5")
    assert json.loads(metadata["classes"])["p_17"] == "G"
    right = [row for row in range(COUNT) if row != 7 and row % CLASS_COUNT == expected[row].argmax()]
    assert done.patches == COUNT
    assert done.agreement == pytest.approx(len(right) / (COUNT - 1))


def test_labels_and_places_are_optional(checkpoint: Path, patches: Path, tmp_path: Path) -> None:
    with h5py.File(patches, "a") as file:
        del file["label"]
    (tmp_path / "city_geo.h5").unlink()
    assert predict_file(tmp_path, str(checkpoint), patches, tmp_path / "p.parquet").agreement is None
    assert pq.read_schema(tmp_path / "p.parquet").names == ["patch", "code", "name", *(f"p_{n}" for n in range(1, 18))]


@pytest.mark.parametrize(
    ("trained", "found", "warns"),
    [("L1C", "L2A", True), ("L2A", "L1C", True), ("L1C", "L1C", False), ("L1C", None, False), (None, "L2A", False)],
)
def test_a_file_of_another_level_than_the_model_is_predicted_with_a_warning(
    checkpoint: Path, patches: Path, tmp_path: Path, trained: str | None, found: str | None, warns: bool
) -> None:
    model = hostile(checkpoint, tmp_path / "model", level=trained)
    with h5py.File(patches, "a") as file:
        if found is not None:
            file["sen2"].attrs["level"] = found
    done = predict_file(tmp_path, str(model), patches, tmp_path / "p.parquet")
    metadata = pq.read_schema(tmp_path / "p.parquet").metadata
    assert (metadata[b"model_level"].decode(), metadata[b"level"].decode()) == (
        trained or "not stated",
        found or "not stated",
    )
    assert [("level L2A" in line or "level L1C" in line) for line in done.warnings] == [True] * warns
    assert ("of level" in str(score_file(tmp_path / "p.parquet"))) == warns


@pytest.mark.parametrize(("limit", "unlike"), [(0.0, COUNT), (1e9, 0)])
def test_patches_unlike_the_training_data_are_marked_and_many_are_a_warning(
    checkpoint: Path, patches: Path, tmp_path: Path, limit: float, unlike: int
) -> None:
    model = hostile(checkpoint, tmp_path / "model", likeness={**NEAR, "limit": limit})
    done = predict_file(tmp_path, str(model), patches, tmp_path / "p.parquet")
    assert done.unlike == unlike
    assert sum(pq.read_table(tmp_path / "p.parquet")["unlike"].to_pylist()) == unlike
    assert len(done.warnings) == bool(unlike)


def test_a_model_that_does_not_know_marks_nothing(checkpoint: Path, patches: Path, tmp_path: Path) -> None:
    assert predict_file(tmp_path, str(checkpoint), patches, tmp_path / "p.parquet").unlike is None
    assert "unlike" not in pq.read_schema(tmp_path / "p.parquet").names


@pytest.mark.parametrize(("key", "value"), [("sen1", np.nan), ("sen2", np.inf), ("sen2", 1e300)])
def test_bad_patches_leave_no_file(checkpoint: Path, patches: Path, tmp_path: Path, key: str, value: float) -> None:
    with h5py.File(patches, "a") as file:
        file[key][290, 0, 0, 0] = value
    with refuses(patches, key, "patch 290", "finite"):
        predict_file(tmp_path, str(checkpoint), patches, tmp_path / "out/p.parquet")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_without_a_channel_that_the_model_takes_is_refused(
    checkpoint: Path, patches: Path, tmp_path: Path
) -> None:
    with h5py.File(patches, "a") as file:
        values = file["sen1"][..., :4]
        del file["sen1"]
        file["sen1"] = values
        file["sen1"].attrs["bands"] = list(SEN1_BANDS[:4])
    with refuses(patches, "sen1", *CHANNELS.sen1, "`bp-lcz workspace NAME --dataset FOLDER`"):
        predict_file(tmp_path, str(checkpoint), patches, tmp_path / "p.parquet")


def without_sen2(file: h5py.File) -> None:
    del file["sen2"]


def without_patches(file: h5py.File) -> None:
    for key in ("sen1", "sen2", "label"):
        empty, attributes = file[key][:0], dict(file[key].attrs)
        del file[key]
        file[key] = empty
        file[key].attrs.update(attributes)


@pytest.mark.parametrize(("spoil", "fact"), [(without_sen2, "key sen2"), (without_patches, "no patches")])
def test_what_is_wrong_with_a_file_is_said_as_it_is(
    checkpoint: Path, patches: Path, tmp_path: Path, spoil: Callable[[h5py.File], None], fact: str
) -> None:
    (tmp_path / "city_geo.h5").unlink()
    with h5py.File(patches, "a") as file:
        spoil(file)
    with refuses(patches, fact):
        predict_file(tmp_path, str(checkpoint), patches, tmp_path / "p.parquet")
    assert not (tmp_path / "p.parquet").exists()


def test_what_is_not_there_is_said_without_advice_for_other_commands(
    checkpoint: Path, patches: Path, tmp_path: Path
) -> None:
    with refuses(tmp_path / "nowhere/none.h5", "not found") as caught:
        predict_file(tmp_path, str(checkpoint), tmp_path / "nowhere/none.h5", tmp_path / "p.parquet")
    assert "`" not in caught.value.what
    for model in (tmp_path / "no-model", tmp_path):
        with refuses(model, "model.json"):
            predict_file(tmp_path, str(model), patches, tmp_path / "../p.parquet")


def test_a_patch_for_which_there_are_no_probabilities_is_named(checkpoint: Path, patches: Path, tmp_path: Path) -> None:
    with h5py.File(patches, "a") as file:
        file["sen2"][290] = 3e38
    with refuses(patches, "patch 290", "probabilities"):
        predict_file(tmp_path, str(checkpoint), patches, tmp_path / "out/p.parquet")


@pytest.mark.parametrize("name", ["city.h5", "link.h5", "city_geo.h5", "../{folder}/city.h5"])
def test_a_file_that_is_read_is_not_written_over(checkpoint: Path, patches: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "link.h5").symlink_to(patches)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    out = tmp_path / name.format(folder=tmp_path.name)
    with refuses(out, tmp_path / "city_geo.h5" if "geo" in name else patches):
        predict_file(tmp_path, str(checkpoint), patches, out)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", [".", "model.json", "sub/p.parquet"])
def test_nothing_is_written_into_the_folder_of_the_model(
    checkpoint: Path, patches: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "linked").symlink_to(checkpoint)
    for folder in (checkpoint, tmp_path / "linked"):
        with refuses(folder / name, f"outside {checkpoint}"):
            predict_file(tmp_path, str(checkpoint), patches, folder / name)
    assert sorted(file.name for file in checkpoint.iterdir()) == ["model.json", "model.safetensors"]


def test_an_unusable_output_is_known_before_the_model_is_read(patches: Path, tmp_path: Path) -> None:
    for out in (patches / "p.parquet", tmp_path / "p.npz"):
        with refuses(out):
            predict_file(tmp_path, "no-model", patches, out)


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.sentinel,)


def hostile(checkpoint: Path, folder: Path, **changes: object) -> Path:
    """A copy of a checkpoint with another description."""
    folder.mkdir()
    description = json.loads((checkpoint / "model.json").read_text()) | changes
    (folder / "model.json").write_text(json.dumps(description))
    (folder / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    return folder


def test_a_pickle_that_poses_as_weights_is_not_unpickled(checkpoint: Path, patches: Path, tmp_path: Path) -> None:
    sentinel = tmp_path / "pwned"
    for number, content in enumerate((pickle.dumps(Bomb(sentinel)), _torch_file(Bomb(sentinel), tmp_path))):
        folder = hostile(checkpoint, tmp_path / f"bad{number}", weights_sha256=hashlib.sha256(content).hexdigest())
        (folder / "model.safetensors").write_bytes(content)
        with refuses(folder / "model.safetensors", "header"):
            predict_file(tmp_path, str(folder), patches, tmp_path / "p.parquet")
    assert not sentinel.exists()
    pickle.loads(pickle.dumps(Bomb(sentinel)))
    assert sentinel.exists(), "the bomb works"


def _torch_file(content: object, folder: Path) -> bytes:
    torch.save(content, folder / "bomb.pt")
    return (folder / "bomb.pt").read_bytes()


@pytest.mark.parametrize(
    ("changes", "name", "fact"),
    [
        ({"backbone": "../../../tmp/evil"}, "model.json", "'../../../tmp/evil'"),
        ({"backbone": "__init__"}, "model.json", "'__init__'"),
        ({"backbone": "os"}, "model.json", "'os'"),
        ({"backbone": 3}, "model.json", "backbone"),
        ({"backbone_options": {"widths": [10**12]}}, "model.json", 4096),
        ({"backbone_options": {"widths": [4096] * 5}}, "model.safetensors", "size mismatch"),
        ({"backbone_options": {"widths": [4] * 10**6}}, "model.json", "1,048,576"),
        ({"channels": {"sen1": ["../etc"], "sen2": []}}, "model.json", "../etc"),
        ({"channels": None}, "model.json", "channels"),
        ({"channels": {"sen1": 3, "sen2": []}}, "model.json", "channels"),
        ({"weights_sha256": "../../etc/passwd"}, "model.safetensors", "sha256"),
        ({"likeness": {**NEAR, "centre": [0.0] * 18, "scale": [1.0] * 18}}, "model.json", "likeness"),
        ({"likeness": {**NEAR, "layers": ["backbone"]}}, "model.json", "likeness"),
        ({"likeness": {**NEAR, "scale": [0.0] * 12}}, "model.json", "likeness"),
        ({"variant": "msm; touch pwned"}, "model.json", "variant"),
        ({"padding": "x" * 2**20}, "model.json", "1,048,576"),
    ],
)
def test_a_hostile_description_is_one_line(
    checkpoint: Path, tmp_path: Path, changes: dict[str, object], name: str, fact: object
) -> None:
    folder = hostile(checkpoint, tmp_path / "bad", **changes)
    with refuses(folder / name, fact):
        load_classifier(folder)


def test_a_description_nested_without_end_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    folder = hostile(checkpoint, tmp_path / "bad")
    (folder / "model.json").write_text("[" * 200_000)
    with refuses(folder / "model.json", "damaged"):
        load_classifier(folder)


def test_a_published_model_is_downloaded_by_its_name_unless_a_folder_has_it(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights.hdf5").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    with http_server(tmp_path, Manners()) as address:
        published = Published(
            f"{address}/weights.hdf5",
            hashlib.sha256(b"weights").hexdigest(),
            lambda _, out: shutil.copytree(checkpoint, out),
        )
        monkeypatch.setitem(PRETRAINED, "sen2lcz-mf", published)
        classifier, name = load_model(tmp_path, "sen2lcz-mf")
        assert (classifier.channels, name) == (CHANNELS, "sen2lcz-mf")
        (tmp_path / "sen2lcz-mf").mkdir()
        with refuses("sen2lcz-mf", "model.json"):
            load_model(tmp_path, "sen2lcz-mf")
