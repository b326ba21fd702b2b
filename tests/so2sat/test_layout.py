from pathlib import Path

import h5py
import numpy as np
import pytest

from bp_lcz.bands import ALL_CHANNELS, Channels
from bp_lcz.errors import UserError
from bp_lcz.params import SPLITS
from bp_lcz.so2sat.layout import check_dataset, dataset_name, open_split
from tests.refusals import refuses
from tests.so2sat.patches import COUNTS, edit, random_patches, write_dataset

INTENSITIES = Channels(("VH_lee_intensity", "VV_lee_intensity"), ALL_CHANNELS.sen2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "mine")


@pytest.mark.parametrize("storage", ["contiguous", "gzip"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 7, 17, 100])
def test_chunks_give_every_patch_once_and_in_order(tmp_path, storage, dtype, rows):
    write_dataset(tmp_path, storage=storage, dtype=dtype)
    with open_split(tmp_path, "testing") as reader:
        slabs = list(reader.chunks(rows))
        assert reader.count == 17
    assert [start for start, *_ in slabs] == list(range(0, 17, rows))
    assert max(len(slab[1]) for slab in slabs) <= rows
    for position, expected in enumerate(random_patches(17, seed=2, dtype=dtype), start=1):
        values = np.concatenate([slab[position] for slab in slabs])
        assert values.dtype == dtype
        np.testing.assert_array_equal(values, expected)


def test_chunks_of_many_patches_are_read_whole_and_handed_out_in_pieces(tmp_path):
    sen1, sen2, label = random_patches(50)
    with h5py.File(tmp_path / "training.h5", "w") as file:
        file.create_dataset("sen1", data=sen1, chunks=(20, 8, 8, 1), compression="gzip")
        file.create_dataset("sen2", data=sen2, chunks=(30, 8, 8, 1), compression="gzip")
        file["label"] = label
    with open_split(tmp_path, "training") as reader:
        slabs = list(reader.chunks(8))
    assert max(len(slab[1]) for slab in slabs) == 8
    np.testing.assert_array_equal(np.concatenate([slab[1] for slab in slabs]), sen1)
    np.testing.assert_array_equal(np.concatenate([slab[2] for slab in slabs]), sen2)
    assert [slab[0] for slab in slabs] == np.cumsum([0, *(len(slab[1]) for slab in slabs[:-1])]).tolist()


def test_channels_without_names_are_the_official_ones(root):
    assert check_dataset(root) == ALL_CHANNELS


def test_channels_are_those_that_the_file_names(tmp_path):
    assert check_dataset(write_dataset(tmp_path, channels=INTENSITIES)) == INTENSITIES


def test_source_is_the_attribute_of_the_labels(tmp_path):
    write_dataset(tmp_path / "a", source="simulated from seed 1")
    write_dataset(tmp_path / "b")
    with open_split(tmp_path / "a", "training") as reader:
        assert reader.source == "simulated from seed 1"
    with open_split(tmp_path / "b", "training") as reader:
        assert reader.source is None


def test_the_level_is_the_attribute_of_sentinel_2(tmp_path):
    write_dataset(tmp_path, levels={"training": "L2A"})
    for split, level in (("training", "L2A"), ("testing", None)):
        with open_split(tmp_path, split) as reader:
            assert reader.level == level


def test_splits_of_two_levels_are_refused(tmp_path):
    write_dataset(tmp_path / "alike", levels=dict.fromkeys(COUNTS, "L2A"))
    assert check_dataset(tmp_path / "alike") == ALL_CHANNELS
    write_dataset(tmp_path / "mixed", levels={"validation": "L1C", "testing": "L2A"})
    with pytest.raises(UserError) as caught:
        check_dataset(tmp_path / "mixed")
    assert caught.value.where == str(tmp_path / "mixed/testing.h5")


def test_an_unknown_level_is_refused(tmp_path):
    write_dataset(tmp_path, levels={"training": "Level-2A"})
    with refuses(tmp_path / "training.h5", "sen2", "'Level-2A'", "L1C", "L2A"):
        check_dataset(tmp_path)


def test_labels_are_those_stored(root):
    with open_split(root, "validation") as reader:
        np.testing.assert_array_equal(reader.labels(), np.eye(17))


@pytest.mark.parametrize(("path", "name"), [("data/demo", "demo"), ("data/demo/", "demo"), ("/somewhere/mine", "mine")])
def test_the_data_set_is_called_like_its_folder(path, name):
    assert dataset_name(Path(path)) == name


def test_the_data_set_in_the_current_folder_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert dataset_name(Path()) == tmp_path.name


def test_a_file_that_others_write_protected_can_be_read(root):
    (root / "testing.h5").chmod(0o444)
    with open_split(root, "testing") as reader:
        assert reader.count == 17


def test_a_missing_folder_is_refused(tmp_path):
    with refuses(tmp_path / "none", "dataset.root"):
        check_dataset(tmp_path / "none")


def test_a_missing_file_is_refused(root):
    (root / "validation.h5").unlink()
    with refuses(root / "validation.h5", "not found"):
        check_dataset(root)


@pytest.mark.parametrize("storage", ["contiguous", "gzip"])
def test_a_data_set_of_sentinel_2_alone_has_no_radar(tmp_path, storage):
    write_dataset(tmp_path, storage=storage)
    for split in SPLITS:
        with h5py.File(tmp_path / f"{split}.h5", "a") as file:
            del file["sen1"]
    assert check_dataset(tmp_path) == Channels((), ALL_CHANNELS.sen2)
    with open_split(tmp_path, "testing") as reader:
        ((_, sen1, sen2, label),) = reader.chunks(17)
        assert [len(sen1), len(sen2), len(label), sen1.shape[-1]] == [17, 17, 17, 0]
        assert next(reader.pick(np.array([3])))[1].shape == (32, 32, 0)
        if storage == "contiguous":
            assert reader.mapped()[0].shape == (17, 32, 32, 0)


def test_radar_in_some_splits_only_is_refused(root):
    with h5py.File(root / "training.h5", "a") as file:
        del file["sen1"]
    with refuses(root / "validation.h5", "sen1", "training.h5 has none"):
        check_dataset(root)


@pytest.mark.parametrize("key", ["sen2", "label"])
def test_a_missing_key_is_refused(root, key):
    with h5py.File(root / "training.h5", "a") as file:
        del file[key]
    with refuses(root / "training.h5", f"key {key}"):
        check_dataset(root)


def test_a_group_in_place_of_an_array_is_refused(root):
    with h5py.File(root / "training.h5", "a") as file:
        del file["sen1"]
        file.create_group("sen1")
    with refuses(root / "training.h5", "key sen1"):
        check_dataset(root)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_a_truncated_file_is_refused(root, share):
    path = root / "training.h5"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with refuses(path, "HDF5"):
        check_dataset(root)


def test_a_file_of_another_format_is_refused(root):
    (root / "testing.h5").write_text("not HDF5\n" * 1000)
    with pytest.raises(UserError, match=r"/testing\.h5: HDF5 cannot read it \(file signature not found\)$"):
        check_dataset(root)


def test_damaged_gzip_data_are_refused_while_reading(tmp_path):
    write_dataset(tmp_path, storage="gzip")
    path = tmp_path / "testing.h5"
    with h5py.File(path) as file:
        chunk = file["sen2"].id.get_chunk_info(9)
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(bytes(chunk.size))
    with open_split(tmp_path, "testing") as reader, refuses(path, "HDF5"):
        list(reader.chunks(4))


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("sen1", (17, 32, 32)),
        ("sen2", (17, 32, 31, 10)),
        ("sen2", (17, 10, 32, 32)),
        ("label", (17, 16)),
        ("label", (17,)),
    ],
)
def test_a_wrong_shape_is_refused(root, key, shape):
    edit(root, "testing", key, np.zeros(shape))
    with refuses(root / "testing.h5", key, shape):
        check_dataset(root)


def test_a_wrong_channel_count_is_refused(root):
    edit(root, "testing", "sen2", np.zeros((17, 32, 32, 9)))
    with refuses(root / "testing.h5", "sen2", 9, 10, "'bands'"):
        check_dataset(root)


def test_differing_numbers_of_patches_are_refused(root):
    edit(root, "testing", "sen1", np.zeros((16, 32, 32, 8)))
    with refuses(root / "testing.h5", "sen1", 16, "label", 17):
        check_dataset(root)


def test_integer_pixels_are_refused(root):
    edit(root, "testing", "sen2", np.zeros((17, 32, 32, 10), dtype=np.uint16))
    with refuses(root / "testing.h5", "sen2", "uint16"):
        check_dataset(root)


def test_differing_channels_of_two_splits_are_refused(tmp_path):
    write_dataset(tmp_path)
    write_dataset(tmp_path, channels=INTENSITIES, patches={"testing": 17})
    with refuses(tmp_path / "testing.h5", ", ".join(INTENSITIES.sen1), "training.h5", ", ".join(ALL_CHANNELS.sen1)):
        check_dataset(tmp_path)
