"""The leakage guard: footprints where they are known, equal pixels where they are not."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float

from bp_lcz.bands import ALL_CHANNELS, Channels
from bp_lcz.gate.leakage import NEAREST_M, OVERLAP_M, find_neighbours, footprint_distance
from bp_lcz.gate.quality import gate
from bp_lcz.params import SPLITS
from bp_lcz.records import GateSummary, Leakage
from bp_lcz.so2sat.releases import V3_RANDOM_PATCHES, is_random_split
from tests.records import NO_LEAKAGE
from tests.refusals import refuses
from tests.so2sat.patches import write_dataset

INTENSITIES = Channels(("VH_lee_intensity", "VV_lee_intensity"), ALL_CHANNELS.sen2)
OPTICAL = Channels((), ALL_CHANNELS.sen2)
Corners = Float[np.ndarray, "n 2"]


def write_footprints(
    root: Path, corners: dict[str, Corners], city: str = "Berlin", epsg: int = 32633, other: str | None = None
) -> Path:
    """A data set whose patches lie at these upper left corners; testing in another city if asked for."""
    write_dataset(root, patches={split: len(corners[split]) for split in SPLITS})
    for split in SPLITS:
        count = len(corners[split])
        tfw = np.tile([10.0, 0, 0, -10, 0, 0], (count, 1))
        tfw[:, 4:] = corners[split]
        name = other if other is not None and split == "testing" else city
        with h5py.File(root / f"{split}_geo.h5", "w") as file:
            file["city"] = np.array([name.encode()] * count)
            file["epsg"] = np.full((count, 1), epsg)
            file["tfw"] = tfw
    return root


def row(*eastings: float) -> Corners:
    """Corners side by side."""
    return np.array([[500_000.0 + easting, 5_800_000.0] for easting in eastings])


def run_gate(root: Path, **options: object) -> dict:
    return gate(root, root.parent / "gate", reflectance_max=3.0, zeros_max=0.5, **options)  # type: ignore[arg-type]


# ---- footprints


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 120)), min_size=1, max_size=25),
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 120)), min_size=1, max_size=25),
)
def test_footprints_overlap_exactly_where_their_distance_is_below_320_m(first, second):
    here, there = (10.0 * np.array(corners) for corners in (first, second))
    distance, nearest = footprint_distance(there, here)
    for corner, metres, neighbour in zip(there, distance, nearest, strict=True):
        apart = np.abs(here - corner).max(axis=1)
        assert metres == apart.min() == apart[neighbour]
        # By pixels: two squares of 32 pixels share one.
        shares_pixel = np.all(np.abs(here - corner) // 10 < 32, axis=1)
        assert (metres < OVERLAP_M) == shares_pixel.any()


def test_nothing_is_near_where_nothing_is():
    distance, nearest = footprint_distance(row(0, 320), np.zeros((0, 2)))
    assert distance.tolist() == [np.inf, np.inf]
    assert nearest.tolist() == [0, 0]


@pytest.mark.parametrize(("gap", "status"), [(0, "overlap"), (100, "overlap"), (319.9, "overlap"), (320, "none")])
def test_splits_may_touch_but_not_overlap(tmp_path, gap, status):
    found = find_neighbours(
        write_footprints(
            tmp_path, {"training": row(0, 100), "validation": row(5000), "testing": row(100 + gap, 1000 + gap)}
        )
    )
    assert found.summary() == Leakage(status=status, pairs={0: 2, 100: 2, 319.9: 1}.get(gap, 0), distance=gap)


def test_rounding_of_coordinates_is_no_overlap(tmp_path):
    corner = 790236.0403820039
    moved = {"training": row(corner), "validation": row(9e6), "testing": row(corner + 0.1 + 319.9)}
    assert find_neighbours(write_footprints(tmp_path, moved)).status == "none"
    assert pytest.approx(320) == NEAREST_M


def test_corners_that_are_apart_in_one_direction_only_do_not_overlap(tmp_path):
    diagonal = {"training": row(0), "validation": row(5000), "testing": row(0) + np.array([[10.0, 320.0]])}
    assert find_neighbours(write_footprints(tmp_path, diagonal)).status == "none"


def test_one_city_under_two_names_is_seen(tmp_path):
    corners = {"training": row(0), "validation": row(5000), "testing": row(100)}
    assert find_neighbours(write_footprints(tmp_path, corners, other="berlin_mitte")).status == "overlap"


def test_equal_coordinates_in_two_projections_are_far_apart(tmp_path):
    root = write_footprints(tmp_path, {split: row(0, 320) for split in SPLITS})
    for epsg, split in zip((32633, 32718, 32650), SPLITS, strict=True):
        with h5py.File(root / f"{split}_geo.h5", "a") as file:
            file["epsg"][:] = epsg
    assert find_neighbours(root).summary() == NO_LEAKAGE
    assert run_gate(root).leakage.status == "none"


def test_one_ground_in_two_utm_zones_is_seen(tmp_path):
    from bp_lcz.so2sat.ground import in_zone, on_globe

    border = np.array([[704_000.0, 5_540_000.0]])  # near 18 degrees east
    beside = in_zone(on_globe(border, 32633), 32634) + np.array([[100.0, 50.0]])
    root = write_footprints(tmp_path, {"training": border, "validation": row(0), "testing": beside})
    with h5py.File(root / "testing_geo.h5", "a") as file:
        file["epsg"][:] = 32634
    found = find_neighbours(root)
    assert (found.summary().status, found.pairs) == ("overlap", 1)
    assert 80 < found.summary().distance < 130
    (name,) = found.table["neighbours"][found.table["distance"] < 320]
    assert name.startswith("testing.h5[0] and training.h5[0] in Berlin")


def test_pairs_are_those_that_brute_force_counts(tmp_path):
    rng = np.random.default_rng(0)
    corners = {split: 10.0 * rng.integers(0, 200, (12, 2)) for split in SPLITS}
    found = find_neighbours(write_footprints(tmp_path, corners))
    expected = 0
    for i, first in enumerate(SPLITS):
        for second in SPLITS[i + 1 :]:
            apart = np.abs(corners[first][:, None] - corners[second]).max(axis=2)
            expected += int((apart < 320).sum())
    assert found.pairs == expected > 0


def test_a_random_split_of_a_stride_fails_and_names_splits_city_patches_and_distance(tmp_path):
    grid = np.stack(np.meshgrid(np.arange(9), np.arange(9)), axis=-1).reshape(-1, 2) * 100.0 + 500_000
    shuffled = np.random.default_rng(1).permutation(grid)
    parts = dict(zip(SPLITS, np.split(shuffled, [41, 61]), strict=True))
    root = write_footprints(tmp_path / "mine", parts)
    facts = ("'footprints: at least 320 m between splits'", "60 neighbours", "in Berlin 100 m apart")
    with refuses(root, *facts, "validation.h5[0] and training.h5", "`bp-lcz split`", "`validate.leakage: mark`"):
        run_gate(root)
    assert not (tmp_path / "gate/summary.json").exists()
    assert "at least 320 m between splits" in (tmp_path / "gate/data_docs/index.html").read_text()


def test_an_overlap_that_is_accepted_marks_the_summary(tmp_path):
    root = write_footprints(tmp_path / "mine", {"training": row(0, 400), "validation": row(5000), "testing": row(100)})
    summary = run_gate(root, leakage="mark")
    assert summary.leakage == Leakage(status="overlap", pairs=2, distance=100.0)
    assert summary.leakage.mark == "leaky split"
    assert any("at least 320 m" in warning for warning in summary.warnings)
    assert GateSummary.read(tmp_path / "gate/summary.json") == summary


def test_a_release_that_is_split_at_random_is_marked_without_being_asked(tmp_path, monkeypatch):
    root = write_footprints(tmp_path / "mine", {"training": row(0, 400), "validation": row(5000), "testing": row(100)})
    monkeypatch.setitem(V3_RANDOM_PATCHES, "training", 3)
    monkeypatch.setitem(V3_RANDOM_PATCHES, "testing", 1)
    assert run_gate(root).leakage.mark == "leaky split"


@pytest.mark.parametrize(
    ("training", "validation", "testing", "is_random"),
    [
        (300_779, 20_000, 79_894, True),
        (320_779, 39_894, 40_000, True),
        (352_366, 24_119, 24_188, False),  # v2, which has as many patches
        (320_779, 10, 10, False),
    ],
)
def test_the_random_split_of_v3_is_known_by_its_numbers(training, validation, testing, is_random):
    assert is_random_split({"training": training, "validation": validation, "testing": testing}) == is_random


# ---- pixels


def cut(scene: np.ndarray, corners: list[tuple[int, int]]) -> np.ndarray:
    return np.stack([scene[r : r + 32, c : c + 32] for r, c in corners])


def write_cuts(root: Path, corners: dict[str, list[tuple[int, int]]], channels: Channels, seed: int = 0) -> Path:
    """A data set without geo files, its patches cut from one speckled scene."""
    rng = np.random.default_rng(seed)
    scene = rng.exponential(0.05, (400, 400, len(channels.sen1)))
    if channels is INTENSITIES:  # as products in decibels are often stored
        scene = 10 ** (np.round(10 * np.log10(scene) * 64) / 640)
    elif channels is ALL_CHANNELS:
        complex_channels = [0, 1, 2, 3, 6, 7]
        scene[..., complex_channels] *= rng.choice((-1, 1), scene[..., complex_channels].shape)
    write_dataset(root, patches={split: len(corners[split]) for split in SPLITS}, channels=channels)
    reflectance = np.round(np.random.default_rng(seed + 1).uniform(0.05, 0.4, (400, 400, len(channels.sen2))), 4)
    for split in SPLITS:
        with h5py.File(root / f"{split}.h5", "a") as file:
            file["sen1"][:] = cut(scene, corners[split])
            file["sen2"][:] = cut(reflectance, corners[split])
    return root


def lattice(rows: range, columns: range, step: int = 10) -> list[tuple[int, int]]:
    return [(r * step, c * step) for r in rows for c in columns]


@pytest.mark.parametrize("channels", [ALL_CHANNELS, INTENSITIES, OPTICAL], ids=["all", "intensities", "optical"])
@pytest.mark.parametrize("shift", [(0, 10), (10, 0), (-10, 10), (7, 3)], ids=str)
def test_overlapping_patches_are_near_duplicates_at_any_shift_in_pixels(tmp_path, channels, shift):
    first = lattice(range(3), range(3), 40)
    testing = [(r + 20 + shift[0], c + 20 + shift[1]) for r, c in first]
    corners = {"training": [(r + 20, c + 20) for r, c in first], "validation": [(300, 300)], "testing": testing}
    found = find_neighbours(write_cuts(tmp_path, corners, channels))
    assert found.summary().status == "near-duplicates"
    assert found.summary().distance is None
    hit = found.table[found.table["equal_blocks"] >= 2]["neighbours"].tolist()
    assert len(hit) == 9
    for patch in range(9):
        assert any(name.startswith(f"testing.h5[{patch}] and training.h5[{patch}] with ") for name in hit)


@pytest.mark.parametrize("channels", [ALL_CHANNELS, INTENSITIES, OPTICAL], ids=["all", "intensities", "optical"])
def test_patches_that_only_touch_are_no_near_duplicates(tmp_path, channels):
    corners = {
        "training": lattice(range(10), range(5)),
        "validation": lattice(range(10), range(9, 12)),
        "testing": lattice(range(13, 20), range(20)),
    }
    # 9 columns of 10 pixels begin 50 pixels after the last: no overlap; 13 rows 40 after it.
    found = find_neighbours(write_cuts(tmp_path, corners, channels))
    assert found.summary() == NO_LEAKAGE
    assert found.table["equal_blocks"].max() < 2


def test_a_random_split_without_geo_files_fails_and_names_the_pair(tmp_path):
    patches = lattice(range(9), range(9))
    order = np.random.default_rng(2).permutation(81)
    parts = {s: [patches[i] for i in part] for s, part in zip(SPLITS, np.split(order, [50, 65]), strict=True)}
    root = write_cuts(tmp_path / "mine", parts, ALL_CHANNELS)
    with refuses(root, "'pixels: no near-duplicates in two splits'", "equal blocks"):
        run_gate(root)


def test_filled_areas_are_no_near_duplicates(tmp_path):
    root = write_dataset(tmp_path)
    for split in SPLITS:
        with h5py.File(root / f"{split}.h5", "a") as file:
            file["sen1"][:, 10:] = 0.0
            file["sen1"][:, :5] = 0.25
    assert find_neighbours(root).status == "none"


def test_one_missing_geo_file_is_enough_to_look_at_pixels(tmp_path):
    corners = {"training": [(0, 0)], "validation": [(200, 200)], "testing": [(10, 0)]}
    root = write_cuts(tmp_path, corners, ALL_CHANNELS)
    far = write_footprints(tmp_path / "far", {split: row(1e4 * i) for i, split in enumerate(SPLITS)})
    for split in ("training", "testing"):
        (far / f"{split}_geo.h5").rename(root / f"{split}_geo.h5")
    assert find_neighbours(root).status == "near-duplicates"


def test_the_storage_of_a_file_does_not_matter(tmp_path):
    corners = {"training": [(0, 0)], "validation": [(200, 200)], "testing": [(10, 0)]}
    root = write_cuts(tmp_path, corners, ALL_CHANNELS)
    before = find_neighbours(root).summary()
    with h5py.File(root / "testing.h5", "a") as file:
        values = file["sen1"][:].astype(np.float32)
        del file["sen1"]
        file.create_dataset("sen1", data=values, chunks=(1, 32, 32, 8), compression="gzip")
    assert find_neighbours(root).summary() == before


# ---- real data


def berlin(folder: Path) -> Corners:
    """Upper left corners of 473 real So2Sat patches, in UTM zone 33 N."""
    from rasterio.warp import transform

    table = pd.read_parquet(folder / "golden/so2sat_berlin_footprints.parquet")
    # Well-known binary of a polygon of five points: 13 bytes, then pairs of float64.
    rings = np.stack([np.frombuffer(shape[13:], "<f8").reshape(5, 2) for shape in table["geometry"]])
    easting, northing = transform("EPSG:4326", "EPSG:32633", rings[..., 0].ravel(), rings[..., 1].ravel())
    centre = np.stack([easting, northing], axis=1).reshape(-1, 5, 2)[:, :4].mean(axis=1)
    return centre + np.array([-160.0, 160.0])


@pytest.mark.shared
def test_a_random_split_of_real_berlin_footprints_fails(tmp_path, shared_data):
    corners = np.random.default_rng(0).permutation(berlin(shared_data))
    parts = dict(zip(SPLITS, np.split(corners, [330, 380]), strict=True))
    found = find_neighbours(write_footprints(tmp_path, parts))
    assert found.summary().status == "overlap"
    assert found.summary().distance < 320
    with refuses(tmp_path, "in Berlin", "m apart"):
        run_gate(tmp_path)


@pytest.mark.shared
def test_real_patches_pass_with_and_without_their_geo_files(tmp_path, shared_data):
    real = shared_data / "real_mini"
    assert find_neighbours(real).summary() == Leakage(status="none", pairs=0, distance=320.0)
    for split in SPLITS:
        (tmp_path / f"{split}.h5").symlink_to(real / f"{split}.h5")
    assert find_neighbours(tmp_path).status == "none"


@pytest.mark.shared
def test_a_random_split_of_real_patches_is_seen_in_their_pixels(tmp_path, shared_data):
    parts = {key: [] for key in ("sen1", "sen2", "label")}
    with h5py.File(shared_data / "real_mini/training.h5") as file:
        for key in parts:
            parts[key] = file[key][:]
        bands = {key: list(file[key].attrs["bands"]) for key in ("sen1", "sen2")}
    order = np.random.default_rng(0).permutation(len(parts["label"]))
    for split, rows in zip(SPLITS, np.split(order, [500, 600]), strict=True):
        with h5py.File(tmp_path / f"{split}.h5", "w") as file:
            for key, values in parts.items():
                file[key] = values[rows]
                if key in bands:
                    file[key].attrs["bands"] = bands[key]
    found = find_neighbours(tmp_path)
    assert found.summary().status == "near-duplicates"
    hit = (found.table["equal_blocks"] >= 2).sum()
    assert hit > 0.8 * len(found.table)
