import hashlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bp_lcz.bands import ALL_CHANNELS, Channels
from bp_lcz.errors import UserError
from bp_lcz.patches import pack as module
from bp_lcz.patches.likeness import channel_means, fit_likeness, unlike
from bp_lcz.patches.pack import ChannelMoments, pack
from bp_lcz.patches.transform import transform
from bp_lcz.records import GateSummary, PackManifest
from bp_lcz.so2sat.geo import world_files
from bp_lcz.so2sat.ground import in_zone, on_globe
from tests.records import small_summary
from tests.refusals import refuses
from tests.so2sat.patches import COUNTS, edit, random_patches, write_dataset

MANY = {"training": 9, "validation": 2, "testing": 8}
FEW = {"training": 9, "validation": 2, "testing": 3}


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(module, "ROWS", 5)


def summary(channels: Channels = ALL_CHANNELS, counts: dict[str, int] = COUNTS) -> GateSummary:
    """What the gate says of a data set of `write_dataset`."""
    return small_summary(counts, channels=channels)


def packed(tmp_path: Path, **options: Any) -> tuple[Path, PackManifest]:
    """A packed random data set and its manifest."""
    pack(write_dataset(tmp_path / "mine", **options), summary(), tmp_path / "packed")
    return tmp_path / "packed", PackManifest.read(tmp_path / "packed/manifest.json")


def test_images_are_the_transformed_patches(tmp_path):
    folder, _ = packed(tmp_path)
    images = np.load(folder / "testing.images.npy")
    sen1, sen2, _ = random_patches(17, seed=2)
    assert images.dtype == np.float32
    values = transform(sen1, sen2, ALL_CHANNELS)
    np.testing.assert_array_equal(images[:, :8192], values[..., :8].reshape(17, -1))
    np.testing.assert_array_equal(images[:, 8192:], values[..., 8:].reshape(17, -1))


def test_labels_are_class_indices(tmp_path):
    folder, manifest = packed(tmp_path)
    labels = np.load(folder / "training.labels.npy")
    assert labels.dtype == np.int64
    assert labels.tolist() == [*range(17), *range(17)]
    assert manifest.class_counts == {"training": (2,) * 17, "validation": (1,) * 17, "testing": (1,) * 17}


def test_statistics_are_those_of_the_transformed_training_split(tmp_path):
    folder, manifest = packed(tmp_path)
    rows = np.load(folder / "training.images.npy").astype(np.float64)
    sensors = [rows[:, :8192].reshape(-1, 8), rows[:, 8192:].reshape(-1, 10)]
    np.testing.assert_allclose(manifest.mean, np.concatenate([s.mean(axis=0) for s in sensors]), rtol=1e-12)
    np.testing.assert_allclose(manifest.std, np.concatenate([s.std(axis=0) for s in sensors]), rtol=1e-12)


def test_statistics_do_not_see_the_other_splits(tmp_path):
    _, before = packed(tmp_path)
    edit(tmp_path / "mine", "testing", "sen2", np.full((17, 32, 32, 10), 2.5))
    pack(tmp_path / "mine", summary(), tmp_path / "packed")
    after = PackManifest.read(tmp_path / "packed/manifest.json")
    assert (after.mean, after.std) == (before.mean, before.std)
    assert after.sha256["testing.images.npy"] != before.sha256["testing.images.npy"]


def test_manifest_has_the_level_of_the_summary(tmp_path):
    pack(write_dataset(tmp_path / "mine"), small_summary(COUNTS, level="L2A"), tmp_path / "packed")
    assert PackManifest.read(tmp_path / "packed/manifest.json").level == "L2A"


def test_manifest_names_the_data_set_and_the_hash_of_each_file(tmp_path):
    folder, manifest = packed(tmp_path)
    for key in ("dataset", "source", "kind", "leakage", "channels"):
        assert getattr(manifest, key) == getattr(summary(), key)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.npy")}
    assert manifest.sha256 == files
    assert len(files) == 9


def test_packing_twice_gives_the_same_bytes(tmp_path):
    folder, _ = packed(tmp_path)
    pack(tmp_path / "mine", summary(), tmp_path / "again")
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "again").iterdir())
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


# ---- moments


def test_moments_keep_the_variance_of_a_channel_far_from_zero():
    values = 1e6 + np.random.default_rng(0).normal(scale=1e-3, size=(4000, 1))
    moments = ChannelMoments(1)
    for chunk in np.array_split(values, 7):
        moments.add(chunk)
    np.testing.assert_allclose(moments.std, values.std(axis=0), rtol=1e-6)


def test_moments_do_not_depend_on_the_chunks():
    values = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    whole, pieces = ChannelMoments(3), ChannelMoments(3)
    whole.add(values)
    for chunk in np.split(values, [1, 1, 400, 999]):
        pieces.add(chunk)
    np.testing.assert_allclose(pieces.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(pieces.std, whole.std, rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -50.0, 1e6])
def test_a_constant_channel_has_deviation_one(value):
    moments = ChannelMoments(1)
    for count in (3, 1000, 77):
        moments.add(np.full((count, 1), value, dtype=np.float32))
    assert moments.std.tolist() == [1.0]


# ---- resampling units


def test_blocks_are_cities_where_there_are_many(tmp_path):
    folder, manifest = packed(tmp_path, cities=MANY)
    assert manifest.blocks.unit == "city"
    assert manifest.blocks.count == MANY
    assert np.load(folder / "testing.blocks.npy").tolist() == [i % 8 for i in range(17)]
    assert manifest.blocks.city == tuple(range(8))
    assert len(manifest.blocks.cities) == 8


def test_blocks_are_trials_of_three_patches_where_cities_are_few(tmp_path):
    folder, manifest = packed(tmp_path, cities=FEW)
    assert manifest.blocks.unit == "spatial block"
    blocks = np.load(folder / "testing.blocks.npy")
    easting = 500_000 + 320 * (np.arange(17) // 3)
    trial = list(zip(np.arange(17) % 3, easting // 960, strict=True))
    same_block = blocks[:, None] == blocks[None, :]
    same_trial = np.array([[a == b for b in trial] for a in trial])
    np.testing.assert_array_equal(same_block, same_trial)
    assert manifest.blocks.count["testing"] == len(set(trial)) < 17


def test_one_ground_in_two_utm_zones_is_one_block(tmp_path):
    root = write_dataset(tmp_path / "mine", cities=FEW)
    with h5py.File(root / "testing_geo.h5", "a") as file:
        file["city"][:] = file["city"][0]
        # Nine patches in the middle of a block, eight of the same ground from the next zone.
        middle = np.tile([[704_640.0 + 320, 5_540_160 - 320]], (17, 1))
        middle[9:] = in_zone(on_globe(middle[9:], 32633), 32634)
        file["tfw"][:] = world_files(*middle.T)
        file["epsg"][:] = np.where(np.arange(17) < 9, 32633, 32634)[:, None]
    pack(root, summary(), tmp_path / "packed")
    assert set(np.load(tmp_path / "packed/testing.blocks.npy")) == {0}


def test_blocks_are_patches_without_geo_files(tmp_path):
    folder, manifest = packed(tmp_path)
    assert manifest.blocks.unit == "patch"
    assert np.load(folder / "testing.blocks.npy").tolist() == [*range(17)]


def test_a_split_without_geo_file_has_a_block_for_each_patch(tmp_path):
    write_dataset(tmp_path / "mine", cities=MANY)
    (tmp_path / "mine/training_geo.h5").unlink()
    pack(tmp_path / "mine", summary(), tmp_path / "packed")
    assert np.load(tmp_path / "packed/training.blocks.npy").tolist() == [*range(34)]
    assert np.load(tmp_path / "packed/testing.blocks.npy").max() == 7


# ---- refusals


def refuse(tmp_path: Path, root: Path, told: dict[str, Any], where: object, *facts: object) -> None:
    """Packing stops at this place, and what was there before is there still."""
    before = tmp_path / "packed"
    before.mkdir(exist_ok=True)
    (before / "old").write_text("old")
    with refuses(where, *facts):
        pack(root, told, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "packed"]
    assert [path.name for path in before.iterdir()] == ["old"]


def test_a_summary_of_other_patches_is_refused(tmp_path):
    root = write_dataset(tmp_path / "mine")
    other = summary(counts={**COUNTS, "validation": 18})
    refuse(tmp_path, root, other, root / "validation.h5", 17, 18, "`bp-lcz validate`")


def test_a_summary_of_other_channels_is_refused(tmp_path):
    root = write_dataset(tmp_path / "mine")
    other = summary(Channels(("VH_lee_intensity",), ALL_CHANNELS.sen2))
    refuse(tmp_path, root, other, root, "channels", "`bp-lcz validate`")


def test_a_file_that_breaks_while_packing_leaves_nothing_half_written(tmp_path, monkeypatch):
    root = write_dataset(tmp_path / "mine")

    def broken(*arguments: Any) -> Any:
        raise UserError("testing.h5", "broken")

    monkeypatch.setattr(module, "transform", broken)
    refuse(tmp_path, root, summary(), "testing.h5", "broken")


def test_the_manifest_tells_other_patches_from_those_of_the_training_split(tmp_path):
    folder, manifest = packed(tmp_path)
    images = np.load(folder / "training.images.npy")
    sen1, sen2 = images[:, :8192].reshape(-1, 32, 32, 8), images[:, 8192:].reshape(-1, 32, 32, 10)
    means = channel_means(np.concatenate([sen1, sen2], axis=-1))
    assert manifest.likeness == fit_likeness(means)
    assert not unlike(manifest.likeness, means).any()
    assert unlike(manifest.likeness, means + 1).all()
