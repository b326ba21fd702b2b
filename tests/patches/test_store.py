import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from bp_lcz.bands import ALL_CHANNELS, Channels
from bp_lcz.patches.pack import pack
from bp_lcz.patches.store import PackedStore, epoch_order
from bp_lcz.patches.transform import transform
from tests.patches.test_pack import summary
from tests.refusals import refuses
from tests.so2sat.patches import write_dataset

FEW_CHANNELS = Channels(("VV_lee_intensity", "VH_lee_intensity"), ("B04", "B11", "B02"))


@pytest.fixture(scope="module", params=[ALL_CHANNELS, FEW_CHANNELS], ids=["all", "few"])
def channels(request) -> Channels:
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory, channels) -> Path:
    base = tmp_path_factory.mktemp("store")
    pack(write_dataset(base / "mine", channels=channels), summary(channels), base / "packed")
    return base / "packed"


def test_gather_gives_the_transformed_patches_of_the_hdf5_file(folder, channels):
    indices = np.array([33, 0, 5, 5, 17])
    sen1, sen2, label = PackedStore(folder, "training").gather(indices)
    with h5py.File(folder.parent / "mine/training.h5") as file:
        stored = [np.stack([file[key][i] for i in indices]) for key in ("sen1", "sen2", "label")]
    expected = torch.from_numpy(transform(stored[0], stored[1], channels)).permute(0, 3, 1, 2)
    assert torch.equal(torch.cat([sen1, sen2], dim=1), expected)
    assert label.tolist() == stored[2].argmax(axis=1).tolist()


def test_gather_gives_float32_in_channels_last_memory(folder, channels):
    sen1, sen2, label = PackedStore(folder, "training").gather(np.arange(4))
    assert sen1.shape == (4, len(channels.sen1), 32, 32)
    assert sen2.shape == (4, len(channels.sen2), 32, 32)
    assert sen1.dtype == sen2.dtype == torch.float32
    assert label.dtype == torch.int64
    assert sen1.is_contiguous(memory_format=torch.channels_last)
    assert sen2.is_contiguous(memory_format=torch.channels_last)


def test_gather_of_nothing_is_an_empty_batch(folder):
    sen1, _, label = PackedStore(folder, "training").gather(np.array([], dtype=np.int64))
    assert len(sen1) == len(label) == 0


def test_a_batch_can_be_written_to_without_changing_the_store(folder):
    store = PackedStore(folder, "testing")
    first = [part.clone() for part in store.gather(np.arange(3))]
    for part in store.gather(np.arange(3)):
        part.zero_()
    assert all(torch.equal(a, b) for a, b in zip(first, store.gather(np.arange(3)), strict=True))


def test_a_store_knows_its_size_channels_labels_and_blocks(folder, channels):
    store = PackedStore(folder, "training")
    assert len(store) == 34
    assert store.channels == channels
    assert store.labels.tolist() == [*range(17), *range(17)]
    assert store.blocks.tolist() == [*range(34)]
    assert len(store.manifest.mean) == len(channels.names)


def test_an_epoch_visits_each_patch_once():
    assert sorted(epoch_order(1000, seed=3, epoch=4).tolist()) == [*range(1000)]


def test_the_order_of_an_epoch_is_a_function_of_seed_and_epoch():
    order = epoch_order(1000, seed=3, epoch=4).tolist()
    np.random.seed(0)
    assert epoch_order(1000, seed=3, epoch=4).tolist() == order
    assert epoch_order(1000, seed=4, epoch=3).tolist() != order
    assert epoch_order(1000, seed=3, epoch=5).tolist() != order


@pytest.fixture
def own(tmp_path) -> Path:
    """A packed data set that a test may damage."""
    pack(write_dataset(tmp_path / "mine"), summary(), tmp_path / "packed")
    return tmp_path / "packed"


@pytest.mark.parametrize("name", ["manifest.json", "testing.images.npy", "testing.labels.npy", "testing.blocks.npy"])
def test_a_missing_file_is_named(own, name):
    (own / name).unlink()
    with refuses(own / name, "not found"):
        PackedStore(own, "testing")


@pytest.mark.parametrize("size", [0, 50, 1000])
def test_a_truncated_array_is_named(own, size):
    path = own / "testing.images.npy"
    path.write_bytes(path.read_bytes()[:size])
    with refuses(path, "`bp-lcz pack`"):
        PackedStore(own, "testing")


@pytest.mark.parametrize(
    "other",
    [b"(((((((", b"'descr'" + b" " * 20_000, b"b'descr'", b"-" * 3000 + b"1"],
    ids=["no literal", "longer than NumPy reads", "names of two kinds", "deep"],
)
def test_a_header_that_numpy_refuses_is_one_line(own, other):
    path = own / "testing.images.npy"
    header, values = path.read_bytes().split(b"\n", 1)
    header = header[10:].replace(b"'descr'", other) + b"\n"
    path.write_bytes(b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header + values)
    with refuses(path, "`bp-lcz pack`"):
        PackedStore(own, "testing")


@pytest.mark.parametrize("content", ["{", "{}", '{"channels": {"sen1": 1, "sen2": []}}'])
def test_a_damaged_manifest_is_named(own, content):
    (own / "manifest.json").write_text(content)
    with refuses(own / "manifest.json", "`dvc repro`"):
        PackedStore(own, "testing")


def test_arrays_that_contradict_the_manifest_are_named(own):
    manifest = json.loads((own / "manifest.json").read_text())
    manifest["class_counts"]["testing"][0] += 1
    (own / "manifest.json").write_text(json.dumps(manifest))
    with refuses(own / "testing.images.npy", "(17, 18432)", "(18, 18432)"):
        PackedStore(own, "testing")
