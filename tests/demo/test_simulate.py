"""The simulated demo data: file layout, reproducibility, physics, and how hard they are to classify."""

from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest

from bp_lcz.demo import simulate as simulation
from bp_lcz.demo.form import SCENE_SUBPIXELS, SUBPIXEL, Style, cast_shadows, smooth_noise
from bp_lcz.demo.optical import (
    AT_20_M,
    ENDMEMBERS,
    MATERIAL,
    MATERIALS,
    Season,
    Sky,
    city_spectra,
    surface_reflectance,
    top_of_atmosphere,
)
from bp_lcz.demo.radar import refined_lee, speckle
from bp_lcz.demo.simulate import class_sequence, draw_city, noisy_label, render, simulate
from bp_lcz.scheme import CODES
from bp_lcz.so2sat.layout import open_split
from bp_lcz.so2sat.releases import V2_CLASS_COUNTS
from tests.refusals import refuses

SPLITS = ("training", "validation", "testing")
PATCHES = {"training": 51, "validation": 17, "testing": 34}
CITIES = {"training": 3, "validation": 2, "testing": 3}
# Bytes of a So2Sat v2 file: N patches of 18 channels and 17 label values in float64, after a header.
PATCH_BYTES, HEADER_BYTES = 147_592, 2_048
# Training split of So2Sat LCZ42 v2, as published with public data loaders.
SEN2_MEAN = (0.12376, 0.10928, 0.10109, 0.11424, 0.15927, 0.18147, 0.17457, 0.19502, 0.15428, 0.10905)
SEN2_STD = (0.03959, 0.04778, 0.06637, 0.06359, 0.07744, 0.09102, 0.09218, 0.10165, 0.09992, 0.08781)
SEN1_STD = (0.17555, 0.17556, 0.45999, 0.45599)
SEN1_INTENSITY_MEAN = (0.0442, 0.2576)


def make(out: Path, **changes: object) -> Path:
    arguments = {"patches": PATCHES, "cities": CITIES, "frequencies": "uniform", "label_noise": 0.15}
    simulate(out, **({"seed": 1} | arguments | changes))
    return out


def read(folder: Path, split: str, key: str) -> np.ndarray:
    suffix = "_geo" if key in ("epsg", "tfw", "city", "intended") else ""
    with h5py.File(folder / f"{split}{suffix}.h5") as file:
        return file[key][()]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def render_classes(codes: list[str], seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    cities = [draw_city(seed, 0, number, "Simville-01") for number in range(len(codes))]
    return render(codes, cities, [np.random.default_rng((seed, number)) for number in range(len(codes))])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("simulated") / "demo")


@pytest.mark.parametrize("split", SPLITS)
def test_files_have_the_layout_and_the_size_of_so2sat(demo: Path, split: str) -> None:
    count = PATCHES[split]
    with h5py.File(demo / f"{split}.h5") as file:
        assert {key: file[key].shape for key in file} == {
            "sen1": (count, 32, 32, 8),
            "sen2": (count, 32, 32, 10),
            "label": (count, 17),
        }
        for dataset in file.values():
            assert dataset.dtype == np.float64
            assert dataset.chunks is None
            assert dataset.compression is None
        assert file["label"].attrs["source"].decode().startswith("simulated")
        assert file["sen2"].attrs["level"] == b"L1C"
        label = file["label"][:]
    assert (demo / f"{split}.h5").stat().st_size == count * PATCH_BYTES + HEADER_BYTES
    assert set(np.unique(label)) == {0.0, 1.0}
    assert (label.sum(axis=1) == 1).all()


@pytest.mark.parametrize("split", SPLITS)
def test_footprints_of_a_city_do_not_overlap(demo: Path, split: str) -> None:
    tfw, city, epsg = read(demo, split, "tfw"), read(demo, split, "city"), read(demo, split, "epsg")
    assert (tfw.dtype, city.dtype, epsg.dtype, epsg.shape) == (np.float64, "S60", np.int64, (len(tfw), 1))
    assert (tfw[:, :4] == (10, 0, 0, -10)).all()
    corner = np.where(city[:, None] == city, np.abs(tfw[:, None, 4:] - tfw[None, :, 4:]).max(axis=2), np.inf)
    assert corner[~np.eye(len(tfw), dtype=bool)].min() >= 320
    assert all(len(set(epsg[city == name, 0])) == 1 for name in set(city))


def test_no_city_is_in_two_splits(demo: Path) -> None:
    names = [name for split in SPLITS for name in set(read(demo, split, "city"))]
    assert len(names) == len(set(names)) == sum(CITIES.values())
    assert all(name.startswith(b"Simville-") for name in names)


def test_the_same_arguments_give_the_same_bytes(demo: Path, tmp_path: Path) -> None:
    assert contents(make(tmp_path / "again")) == contents(demo)


def test_another_seed_gives_other_patches(demo: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other", seed=2, patches=dict.fromkeys(SPLITS, 17))
    for key in ("sen1", "sen2"):
        different = read(other, "training", key)[:17] != read(demo, "training", key)[:17]
        assert different.mean(axis=(1, 2, 3)).min() > 0.5


def test_a_patch_depends_neither_on_how_many_follow_nor_on_its_batch(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation, "BATCH", 7)
    shorter = make(tmp_path / "shorter", patches={"training": 20, "validation": 5, "testing": 5})
    for key in ("sen1", "sen2", "label", "intended", "tfw", "city"):
        np.testing.assert_array_equal(read(shorter, "training", key), read(demo, "training", key)[:20])


def test_uniform_frequencies_give_every_class_its_equal_share(demo: Path) -> None:
    assert np.bincount(read(demo, "training", "intended"), minlength=17).tolist() == [51 // 17] * 17


def test_so2sat_frequencies_follow_the_published_counts() -> None:
    share = np.bincount(class_sequence(1, 0, 5000, "so2sat"), minlength=17) / 5000
    published = np.array(V2_CLASS_COUNTS["training"]) / 352_366
    assert np.abs(share - published).max() < 0.002
    assert set(class_sequence(1, 0, 17, "so2sat")) == set(range(17))


def test_label_noise_replaces_the_asked_share_by_neighbours() -> None:
    rng = np.random.default_rng(0)
    labels = Counter(CODES[noisy_label(CODES.index("8"), 0.15, rng)] for _ in range(4000))
    assert labels["8"] / 4000 == pytest.approx(0.85, abs=0.02)
    assert set(labels) == {"8", "5", "10", "2"}
    assert all(noisy_label(c, 0.0, rng) == c for c in range(17))


def test_labels_are_noisy_in_every_split(demo: Path) -> None:
    wrong = {s: (read(demo, s, "label").argmax(axis=1) != read(demo, s, "intended")).mean() for s in SPLITS}
    assert all(0.02 < share < 0.35 for share in wrong.values())


def test_reflectance_has_the_range_and_the_steps_of_so2sat(demo: Path) -> None:
    sen2 = read(demo, "training", "sen2")
    assert sen2.min() >= 0.0001
    assert sen2.max() <= 2.8005
    np.testing.assert_allclose(sen2 * 10_000, np.round(sen2 * 10_000), atol=1e-6)


def test_only_20_m_bands_are_constant_within_two_by_two_pixels(demo: Path) -> None:
    sen2 = read(demo, "training", "sen2")
    inside_block = np.abs(np.diff(sen2, axis=2))[:, :, 0::2].max(axis=(0, 1, 2))
    assert (inside_block[AT_20_M] == 0).all()
    assert (inside_block[~AT_20_M] > 0).all()


def test_band_statistics_are_near_the_published_ones() -> None:
    # The cities of the demo data, and classes as frequent as in So2Sat, since the published numbers are.
    codes = [CODES[i] for i in class_sequence(1, 0, 252, "so2sat")]
    cities = [draw_city(1, 0, number, "Simville-01") for number in range(21)] * 12
    sen1, sen2 = render(codes, cities, [np.random.default_rng(number) for number in range(252)])
    pixels = (0, 1, 2)
    np.testing.assert_allclose(sen2.mean(axis=pixels) / SEN2_MEAN, 1, atol=0.25)
    np.testing.assert_allclose(sen2.std(axis=pixels) / SEN2_STD, 1, atol=0.25)
    np.testing.assert_allclose(sen1.std(axis=pixels)[:4] / SEN1_STD, 1, atol=0.4)
    ratio = sen1.mean(axis=pixels)[4:6] / SEN1_INTENSITY_MEAN
    assert (ratio > 0.5).all()
    assert (ratio < 2).all()


def test_filtered_radar_channels_have_heavy_tails(demo: Path) -> None:
    filtered = np.abs(read(demo, "training", "sen1")[..., 4:]).reshape(-1, 4)
    high = np.percentile(filtered, 99.9, axis=0)
    assert (high > 0.5).all()
    assert (high < 20).all()
    assert (filtered.max(axis=0) > 10 * high).all()


def test_filtered_covariance_is_positive_semi_definite(demo: Path) -> None:
    sen1 = read(demo, "training", "sen1")
    assert sen1[..., 4:6].min() > 0
    product = sen1[..., 4] * sen1[..., 5]
    assert (sen1[..., 6] ** 2 + sen1[..., 7] ** 2 <= product * (1 + 1e-9) + 1e-12).all()


def uniform_speckle(size: int = 70) -> tuple[np.ndarray, np.ndarray]:
    one = np.ones((size, size))
    return speckle(0.04 * one, 0.2 * one, (0.03 + 0.02j) * one, np.random.default_rng(5))


def test_speckle_has_the_given_covariance() -> None:
    vh, vv = uniform_speckle(400)
    assert np.mean(np.abs(vh) ** 2) == pytest.approx(0.04, rel=0.03)
    assert np.mean(np.abs(vv) ** 2) == pytest.approx(0.2, rel=0.03)
    assert np.mean(vh * np.conj(vv)) == pytest.approx(0.03 + 0.02j, abs=0.002)
    # One look: the standard deviation of the intensity equals its mean.
    assert np.std(np.abs(vv) ** 2) == pytest.approx(0.2, rel=0.05)


def test_refined_lee_keeps_the_mean_and_removes_speckle() -> None:
    vh, vv = uniform_speckle()
    c11, c22, c12 = refined_lee(vh[None], vv[None])
    for filtered, raw in ((c11, np.abs(vh) ** 2), (c22, np.abs(vv) ** 2)):
        inner = raw[3:-3, 3:-3]
        assert filtered.mean() == pytest.approx(inner.mean(), rel=0.06)
        assert filtered.var() < inner.var() / 3
    assert c12.mean() == pytest.approx((vh * np.conj(vv))[3:-3, 3:-3].mean(), abs=0.006)


@pytest.mark.parametrize("turn", range(4))
def test_refined_lee_keeps_an_edge_where_a_mean_filter_blurs_it(turn: int) -> None:
    power = np.where(np.arange(40) < 20, 0.01, 1.0) * np.ones((40, 1))
    rng = np.random.default_rng(turn)
    noisy = np.rot90(power, turn)[None] * rng.exponential(size=(40, 40, 40))
    amplitude = np.sqrt(noisy / 2).astype(complex)
    dark = np.rot90(refined_lee(amplitude, amplitude)[1], -turn, axes=(1, 2))[:, :, 16].mean()
    # The last dark column: a 7x7 mean would mix in three bright columns of seven.
    assert dark < 0.3 * (4 * 0.01 + 3 * 1.0) / 7 / 2


def test_refined_lee_keeps_point_scatterers() -> None:
    vh, vv = uniform_speckle(21)
    vv = vv.copy()
    vv[10, 10] = 100.0
    # One look: the MMSE weight of a point tends to one half, where a 7x7 mean would leave a fiftieth.
    assert refined_lee(vh[None], vv[None])[1][0, 7, 7] > 0.4 * 100.0**2


def test_water_is_darker_in_radar_than_buildings() -> None:
    sen1, _ = render_classes(["G", "2"] * 8)
    power = np.median(sen1[..., 4:6], axis=(1, 2))
    assert (power[0::2].max(axis=0) < power[1::2].min(axis=0)).all()


def test_trees_depolarise_more_than_bare_soil() -> None:
    sen1, _ = render_classes(["A", "F"] * 10)
    ratio = np.median(sen1[..., 4], axis=(1, 2)) / np.median(sen1[..., 5], axis=(1, 2))
    assert ratio[0::2].mean() > 1.3 * ratio[1::2].mean()


def test_plants_have_a_red_edge_and_water_absorbs_infrared() -> None:
    _, sen2 = render_classes(["A", "G", "1"] * 6)
    red, infrared, short_wave = (sen2[..., band].mean(axis=(1, 2)) for band in (2, 6, 8))
    index = (infrared - red) / (infrared + red)
    assert index[0::3].min() > 0.4
    assert index[1::3].max() < 0
    assert index[2::3].max() < index[0::3].min()
    assert short_wave[1::3].max() < 0.03


def style(elevation: float, azimuth: float) -> Style:
    return Style(elevation, azimuth, 0.0, 1.0, 1.0, 1.0, {}, {}, 0.5)


def test_shadow_falls_away_from_the_sun_and_is_as_long_as_its_elevation_says() -> None:
    height = np.zeros((SCENE_SUBPIXELS, SCENE_SUBPIXELS), dtype=np.float32)
    height[80:84, 80:84] = 20
    south, east = cast_shadows(height, style(45.0, 180.0)), cast_shadows(height, style(45.0, 90.0))
    # Sun in the south: shade to the north, towards smaller rows.
    assert (~south[:80, 80:84]).sum(axis=0) * SUBPIXEL == pytest.approx(20, abs=SUBPIXEL)
    assert south[84:].all()
    assert (~east[80:84, :80]).sum(axis=1) * SUBPIXEL == pytest.approx(20, abs=SUBPIXEL)
    lower = cast_shadows(height, style(30.0, 180.0))
    assert (~lower[:80, 80:84]).sum() > 1.5 * (~south[:80, 80:84]).sum()


def test_shade_is_dark_and_blue() -> None:
    spectra = np.full((len(MATERIALS), 10), 0.3)
    ground = np.full((8, 8), MATERIAL["concrete"], dtype=np.uint8)
    bright = np.ones((8, 8), dtype=np.float32)
    lit = surface_reflectance(ground, bright, bright > 0, spectra, 4)
    shade = surface_reflectance(ground, bright, bright < 0, spectra, 4)
    np.testing.assert_allclose(lit, 0.3)
    assert (shade < 0.4 * lit).all()
    assert (np.diff(shade[0, 0]) <= 0).all()
    assert shade[0, 0, 0] > 1.4 * shade[0, 0, -1]


def test_pixels_mix_their_surfaces_linearly() -> None:
    spectra = city_spectra(Season(0.3, 0.0, 0.5, 0.2, (0.4, 0.3, 0.3), 0.5, 0.5))
    ground = np.full((4, 4), MATERIAL["asphalt"], dtype=np.uint8)
    ground[:, :1] = MATERIAL["water"]
    bright = np.ones((4, 4), dtype=np.float32)
    mixed = surface_reflectance(ground, bright, bright > 0, spectra, 4)[0, 0]
    np.testing.assert_allclose(mixed, 0.75 * spectra[MATERIAL["asphalt"]] + 0.25 * spectra[MATERIAL["water"]])


def test_haze_brightens_blue_over_dark_ground_and_blurs_contrast() -> None:
    ground = np.full((4, 4, 10), 0.03)
    ground[0, 0] = 0.4
    clear, hazy = (top_of_atmosphere(ground, Sky(aerosol, 1.3, 1.0)) for aerosol in (0.05, 0.6))
    gain = (hazy - clear)[2, 2]
    assert gain[0] > 0.01
    assert gain[0] > 3 * gain[-1]
    assert hazy[0, 0, 0] - hazy[2, 2, 0] < clear[0, 0, 0] - clear[2, 2, 0]


def test_every_end_member_is_a_reflectance() -> None:
    assert all(len(values) == 10 and 0 < min(values) <= max(values) < 1 for values in ENDMEMBERS.values())


def test_smooth_noise_has_unit_variance_and_the_asked_grain() -> None:
    rng = np.random.default_rng(0)
    fields = np.stack([smooth_noise(rng, 40.0) for _ in range(60)])
    assert fields.mean() == pytest.approx(0, abs=0.1)
    assert fields.std() == pytest.approx(1, abs=0.1)
    near, far = int(5 / SUBPIXEL), int(100 / SUBPIXEL)
    assert np.mean(fields[:, :, near:] * fields[:, :, :-near]) > 0.8
    assert abs(np.mean(fields[:, :, far:] * fields[:, :, :-far])) < 0.15


def test_a_failing_disk_leaves_the_old_data_and_nothing_else(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "demo"
    out.mkdir()
    (out / "training.h5").write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(simulation, "_write_split", fail)
    with pytest.raises(OSError, match="Errno 28"):  # the command turns it into one line
        make(out)
    assert contents(tmp_path / "demo") == {"training.h5": b"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_existing_data_are_replaced_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    out.mkdir()
    (out / "left_over.h5").write_bytes(b"old")
    make(out, patches=dict.fromkeys(SPLITS, 1), cities=dict.fromkeys(SPLITS, 1))
    expected = {f"{split}{suffix}.h5" for split in SPLITS for suffix in ("", "_geo")}
    assert {path.name for path in out.iterdir()} == expected
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"patches": {"training": 1}}, ", ".join(SPLITS)),
        ({"patches": PATCHES | {"testing": 0}}, "patches.testing is 0"),
        ({"cities": CITIES | {"training": -1}}, "cities.training is -1"),
        ({"label_noise": 1.0}, "label_noise is 1.0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_invalid_arguments_are_named(tmp_path: Path, changes: dict[str, object], fact: str) -> None:
    with refuses("simulate", fact):
        make(tmp_path / "demo", **changes)
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("not a folder")
    with refuses(tmp_path / "demo", "not a folder"):
        make(tmp_path / "demo")


@pytest.mark.slow
def test_held_out_cities_are_hard_and_optical_beats_radar(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    demo = make(
        tmp_path / "demo",
        patches={"training": 2100, "validation": 350, "testing": 600},
        cities={"training": 21, "validation": 5, "testing": 10},
    )

    def describe(split: str) -> tuple[np.ndarray, np.ndarray]:
        sen1, sen2 = read(demo, split, "sen1"), read(demo, split, "sen2")
        sen1[..., 4:6] = 10 * np.log10(sen1[..., 4:6])
        sen1[..., 6:8] = np.sign(sen1[..., 6:8]) * np.log1p(100 * np.abs(sen1[..., 6:8]))
        bands = np.concatenate([sen1, sen2], axis=-1)
        moments = np.concatenate([bands.mean(axis=(1, 2)), bands.std(axis=(1, 2))], axis=1)
        return moments, read(demo, split, "label").argmax(axis=1)

    (train, train_label), (test, test_label) = describe("training"), describe("testing")

    def accuracy(channels: range) -> float:
        columns = [c + shift for shift in (0, 18) for c in channels]
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        return model.fit(train[:, columns], train_label).score(test[:, columns], test_label)

    radar, optical, both = accuracy(range(8)), accuracy(range(8, 18)), accuracy(range(18))
    assert both < 0.80
    assert radar < 0.45
    assert optical > radar + 0.1


def test_intensities_alone_are_those_of_the_full_product(demo: Path, tmp_path: Path) -> None:
    reduced = make(tmp_path / "reduced", sen1="intensities")
    with h5py.File(demo / "testing.h5") as full, h5py.File(reduced / "testing.h5") as file:
        assert list(file["sen1"].attrs["bands"]) == ["VH_lee_intensity", "VV_lee_intensity"]
        np.testing.assert_array_equal(file["sen1"][:], full["sen1"][:][..., 4:6])
        np.testing.assert_array_equal(file["sen2"][:], full["sen2"][:])
    with open_split(reduced, "testing") as reader:
        assert reader.channels.sen1 == ("VH_lee_intensity", "VV_lee_intensity")
