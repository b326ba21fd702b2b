"""Splits made from geo files: no overlap, nothing lost but the gap."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bp_lcz.errors import UserError
from bp_lcz.gate.leakage import find_neighbours
from bp_lcz.params import SPLITS
from bp_lcz.scenes.split import SplitRule, assign, split_folders
from bp_lcz.so2sat.geo import Geo, read_geo, world_files
from bp_lcz.so2sat.ground import in_zone, near_across, on_globe
from bp_lcz.so2sat.layout import check_dataset, open_split
from tests.gate.test_leakage import INTENSITIES, berlin
from tests.refusals import refuses
from tests.so2sat.patches import random_patches

SMALL = SplitRule(block_m=1000.0)


def stride_grid(side: int, epsg: int = 32633, city: str = "Berlin", west: float = 500_000.0) -> Geo:
    """A square of patches on a 100 m stride."""
    column, row = (axis.ravel() * 100.0 for axis in np.meshgrid(np.arange(side), np.arange(side)))
    count = side * side
    return Geo(np.array([city] * count), np.full(count, epsg), world_files(west + column, 5_800_000 - row))


def write_patches(folder: Path, geo: Geo, name: str = "patches", seed: int = 0, source: str | None = "x") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    sen1, sen2, label = random_patches(len(geo.city), INTENSITIES, seed)
    sen2[:, 0, 0, 0] = np.arange(len(geo.city)) / 1e4  # tells patches apart
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file["sen1"], file["sen2"], file["label"] = sen1, sen2, label
        for key in ("sen1", "sen2"):
            file[key].attrs["bands"] = list(getattr(INTENSITIES, key))
        if source:
            file["label"].attrs["source"] = source
    with h5py.File(folder / f"{name}_geo.h5", "w") as file:
        file["city"] = np.array([city.encode() for city in geo.city])
        file["epsg"] = geo.epsg[:, None]
        file["tfw"] = geo.tfw
    return folder


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(12, 24), st.floats(640, 1500), st.floats(320, 500))
def test_no_two_splits_are_nearer_than_the_gap_and_nothing_else_is_left_out(seed, side, block_m, gap_m):
    geo = stride_grid(side)
    rule = SplitRule(block_m=block_m, gap_m=gap_m, seed=seed)
    try:
        part = assign(geo, rule)
    except UserError as error:
        assert "leaves no patch" in str(error) or "cannot make three splits" in str(error)  # noqa: PT017
        return
    corners = np.stack([geo.easting, geo.northing], axis=1)
    apart = np.abs(corners[:, None] - corners).max(axis=2)
    for first in range(3):
        for second in range(first):
            assert apart[np.ix_(part == first, part == second)].min() >= gap_m - 1e-6
    # A patch is left out only where another block begins within the gap.
    cell = np.floor(corners / block_m)
    for lost in np.flatnonzero(part < 0):
        near = apart[lost] < gap_m
        assert (cell[near] != cell[lost]).any()


def test_cities_stay_whole():
    parts = [stride_grid(4, city=f"city {i}", west=500_000.0 + 50_000 * i) for i in range(10)]
    geo = Geo(*(np.concatenate([getattr(p, k) for p in parts]) for k in ("city", "epsg", "tfw")))
    part = assign(geo, SplitRule(by="city", shares=(0.6, 0.2, 0.2)))
    assert {len(set(part[geo.city == city])) for city in np.unique(geo.city)} == {1}
    assert [int((part == s).sum()) // 16 for s in range(3)] == [6, 2, 2]


def cities(names: list[str], west: float = 500_000.0) -> Geo:
    """Cities of 16 patches each, far apart."""
    parts = [stride_grid(4, city=name, west=west + 50_000 * i) for i, name in enumerate(names)]
    return Geo(*(np.concatenate([getattr(p, k) for p in parts]) for k in ("city", "epsg", "tfw")))


def test_files_can_be_testing_as_they_are_and_validation_then_comes_from_cities_of_training(tmp_path):
    write_patches(tmp_path / "in", cities([f"city {i}" for i in range(8)]), "training", seed=1)
    write_patches(tmp_path / "in", cities(["west"], 1_000_000.0), "validation", seed=2)
    write_patches(tmp_path / "in", cities(["east"], 1_200_000.0), "testing", seed=3)
    rule = SplitRule(by="city", shares=(0.6, 0.2, 0.2), testing=("validation.h5", "testing.h5"))
    split_folders([tmp_path / "in"], tmp_path / "out", rule)
    found = {split: read_geo(tmp_path / "out", split).city.tolist() for split in SPLITS}
    # In the order of the files' names, as a split always reads them.
    assert found["testing"] == ["east"] * 16 + ["west"] * 16
    assert [len(set(found[split])) for split in ("training", "validation")] == [6, 2]
    assert not set(found["training"]) & set(found["validation"])
    assert find_neighbours(tmp_path / "out").status == "none"


def test_a_city_of_testing_in_another_file_or_a_file_that_is_not_there_is_refused(tmp_path):
    write_patches(tmp_path / "in", cities(["a", "b", "c"]), "training")
    write_patches(tmp_path / "in", cities(["c"], 1_000_000.0), "testing")
    with refuses("--testing of c", "other files"):
        split_folders([tmp_path / "in"], tmp_path / "out", SplitRule(by="city", testing=("testing.h5",)))
    with refuses("--testing tests.h5", "no such file"):
        split_folders([tmp_path / "in"], tmp_path / "out", SplitRule(by="city", testing=("tests.h5",)))
    write_patches(tmp_path / "one", cities(["a"]), "training")
    write_patches(tmp_path / "one", cities(["c"], 1_000_000.0), "testing")
    with refuses("--by city", "1 city", "two splits"):
        split_folders([tmp_path / "one"], tmp_path / "out", SplitRule(by="city", testing=("testing.h5",)))
    assert not (tmp_path / "out").exists()


@given(st.integers(0, 10_000), st.lists(st.integers(3, 6), min_size=1, max_size=5))
def test_each_class_of_three_units_stands_in_each_split(seed, units_of_class):
    classes = np.repeat(np.arange(len(units_of_class)), units_of_class)
    count = 1 + np.random.default_rng(seed).integers(0, 30, len(classes))
    unit = np.repeat(np.arange(len(classes)), count)
    geo = Geo(np.full(len(unit), "x"), np.full(len(unit), 32633), world_files(unit * 1000.0, unit * 0.0))
    label = np.eye(len(units_of_class), dtype=bool)[classes[unit]]
    part = assign(geo, SplitRule("polygon", seed=seed), None, unit, label)
    for number in range(3):
        assert label[part == number].any(axis=0).all()
    assert all(len(set(part[unit == one])) == 1 for one in range(len(classes)))


def test_of_a_class_of_two_units_one_is_for_training_and_one_for_testing():
    unit = np.repeat(np.arange(5), 10)
    geo = Geo(np.full(50, "x"), np.full(50, 32633), world_files(unit * 1000.0, unit * 0.0))
    label = np.eye(2, dtype=bool)[np.repeat([0, 0, 0, 1, 1], 10)]
    part = assign(geo, SplitRule("polygon"), None, unit, label)
    assert [label[part == number].any(axis=0).tolist() for number in range(3)] == [
        [True, True],
        [True, False],
        [True] * 2,
    ]


def test_no_gap_is_lost_between_two_utm_zones():
    here = stride_grid(30, epsg=32633, west=703_000.0)
    middle = here.tfw[:, 4:] - [0, 260_000]  # near 18 degrees east
    parts = {32633: middle, 32634: in_zone(on_globe(middle, 32633), 32634)}
    geo = Geo(
        np.full(1800, "x"), np.repeat(list(parts), 900), np.concatenate([world_files(*xy.T) for xy in parts.values()])
    )
    part = assign(geo, SplitRule(block_m=1500.0, shares=(0.4, 0.3, 0.3)))
    for one in range(3):
        which = (Geo(geo.city[w], geo.epsg[w], geo.tfw[w]) for w in (part == one, (part >= 0) & (part != one)))
        assert not len(near_across(*which, 319.9)[0])


def test_the_seed_decides():
    geo = stride_grid(30)
    first, again, other = (assign(geo, SplitRule(block_m=700.0, seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_split_writes_a_data_set_in_form_whose_splits_do_not_overlap(tmp_path):
    geo = stride_grid(20)
    write_patches(tmp_path / "in", geo)
    lines = split_folders([tmp_path / "in"], tmp_path / "out", SMALL)
    assert check_dataset(tmp_path / "out") == INTENSITIES
    assert find_neighbours(tmp_path / "out").status == "none"
    written = 0
    for line, split in zip(lines, SPLITS, strict=False):
        with open_split(tmp_path / "out", split) as reader:
            assert line.startswith(f"{split:<10}  {reader.count} patches of ")
            assert reader.source == "x"
            places = read_geo(tmp_path / "out", split, reader.count)
            assert places is not None
            (_, _, sen2, label), *rest = reader.chunks(1000)
            assert not rest
        index = np.rint(sen2[:, 0, 0, 0] * 1e4).astype(int)
        np.testing.assert_array_equal(places.easting, geo.easting[index])
        np.testing.assert_array_equal(places.northing, geo.northing[index])
        np.testing.assert_array_equal(label.argmax(axis=1), index % 17)
        assert (np.diff(index) > 0).all()
        written += len(index)
    assert lines[-1] == f"left out    {400 - written} patches nearer than 320 m to another split"
    assert 0 < written < 400


def test_several_files_of_several_folders_make_one_data_set(tmp_path):
    write_patches(tmp_path / "a", stride_grid(3, city="a"), "one", source="left")
    write_patches(tmp_path / "a", stride_grid(3, city="b", west=600_000.0), "two", source="right")
    write_patches(tmp_path / "b", stride_grid(3, city="c", epsg=32718), "one", source=None)
    split_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "out", SplitRule(by="city", shares=(0.4, 0.3, 0.3)))
    cities = []
    for split in SPLITS:
        with open_split(tmp_path / "out", split) as reader:
            assert (reader.count, reader.source) == (9, "left; right")
        geo = read_geo(tmp_path / "out", split)
        assert geo is not None
        cities += set(geo.city)
    assert sorted(cities) == ["a", "b", "c"]


def test_classes_that_a_split_lacks_are_named(tmp_path):
    write_patches(tmp_path / "in", stride_grid(20))
    with h5py.File(tmp_path / "in/patches.h5", "a") as file:
        file["label"][:] = np.eye(17)[np.where(np.arange(400) == 399, 16, 0)]
    lines = split_folders([tmp_path / "in"], tmp_path / "out", SMALL)
    assert sum(line.endswith("of 1 class; without LCZ G") for line in lines[:3]) in (0, 2)
    assert any("LCZ" in line for line in lines) == any("of 2 classes" in line for line in lines)


def test_a_folder_that_is_not_there_is_said_to_be_that(tmp_path):
    (tmp_path / "file").touch()
    for name, fact in (("missing", "no such folder"), ("file", "is a file")):
        with refuses(tmp_path / name, fact):
            split_folders([tmp_path / name], tmp_path / "out", SMALL)


def test_a_folder_that_is_given_twice_is_refused_however_it_is_spelt(tmp_path):
    folder = write_patches(tmp_path / "in", stride_grid(20))
    (tmp_path / "link").symlink_to(folder)
    for again in (folder, tmp_path / "out/../in", tmp_path / "link"):
        with refuses(again, "twice"):
            split_folders([folder, again], tmp_path / "out", SMALL)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("damage", "where", "facts"),
    [
        ("no geo", "in/patches.h5", ["patches_geo.h5"]),
        ("no files", "in", ["HDF5"]),
        ("one city", None, ["1 city", "--by block"]),
        ("out in use", "out", ["exists"]),
        ("levels", "in/zzz.h5", ["level L2A", "patches.h5", "level L1C"]),
        ("channels", "in/zzz.h5", ["channels VV_lee_intensity, VH_lee_intensity", "patches.h5"]),
        ("truncated", "in/patches.h5", ["HDF5"]),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, damage, where, facts):
    folder, out, rule = write_patches(tmp_path / "in", stride_grid(6)), tmp_path / "out", SMALL
    if damage == "no geo":
        (folder / "patches_geo.h5").unlink()
    elif damage == "no files":
        for file in folder.iterdir():
            file.unlink()
    elif damage == "one city":
        rule = SplitRule(by="city")
    elif damage == "out in use":
        out.mkdir()
        (out / "precious").touch()
    elif damage == "levels":
        write_patches(folder, stride_grid(3, epsg=32718), "zzz")
        for name, level in (("patches", "L1C"), ("zzz", "L2A")):
            with h5py.File(folder / f"{name}.h5", "a") as file:
                file["sen2"].attrs["level"] = level
    elif damage == "channels":
        write_patches(folder, stride_grid(3, epsg=32718), "zzz")
        with h5py.File(folder / "zzz.h5", "a") as file:
            file["sen1"].attrs["bands"] = ["VV_lee_intensity", "VH_lee_intensity"]
    else:
        (folder / "patches.h5").write_bytes((folder / "patches.h5").read_bytes()[:-100])
    with refuses("--by city" if where is None else tmp_path / where, *facts):
        split_folders([folder], out, rule)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == (["in", "out"] if damage == "out in use" else ["in"])


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"gap_m": 310.0}, "--gap 310"),
        ({"gap_m": float("nan")}, "--gap nan"),
        ({"gap_m": float("inf")}, "--gap inf"),
        ({"block_m": 0.0}, "--block-size 0"),
        ({"block_m": float("nan")}, "--block-size nan"),
        ({"block_m": float("inf")}, "--block-size inf"),
        ({"shares": (0.7, 0.3, 0.0)}, "--shares 0.7 0.3 0"),
        ({"shares": (0.7, 0.7, 0.2)}, "--shares 0.7 0.7 0.2"),
        ({"shares": (float("nan"), 0.5, 0.5)}, "--shares nan 0.5 0.5"),
        ({"shares": (0.5, 0.5, float("nan"))}, "--shares 0.5 0.5 nan"),
        ({"shares": (float("inf"), 0.5, 0.5)}, "--shares inf 0.5 0.5"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(options, where):
    with refuses(where):
        SplitRule(**options)


@pytest.mark.shared
def test_a_block_split_of_real_berlin_footprints_passes_the_guard(tmp_path, shared_data):
    corners = berlin(shared_data)
    count = len(corners)
    geo = Geo(np.array(["Berlin"] * count), np.full(count, 32633), world_files(*corners.T))
    write_patches(tmp_path / "in", geo)
    split_folders([tmp_path / "in"], tmp_path / "out", SplitRule())
    found = find_neighbours(tmp_path / "out")
    assert found.status == "none"
    assert found.summary().distance >= 320
