"""Blocks in which one band has one value while others vary are no data, whatever the value."""

import numpy as np
import pytest
from rasterio.transform import from_origin

from bp_lcz.bands import SEN2_BANDS
from bp_lcz.errors import UserError
from bp_lcz.scenes.scene import SceneOptions, opened_scene
from bp_lcz.sensors.still import is_still_at_rim, still
from tests.scenes.rasters import NORTH, WEST, optical, radar, run, write_tif

BLOCK = np.s_[30:52, 40:61]
"""Its rows lie on both sides of the seam of two chunks of 64."""


def unknown(s2, s1=None) -> tuple[np.ndarray, list[str]]:
    """Pixels of the raster without Sentinel-2, or without Sentinel-1 where it is given."""
    with opened_scene(SceneOptions((s2,), () if s1 is None else (s1,))) as scene:
        strip = scene.strip(0, scene.grid.height)
        return ~(strip.sen2_known if s1 is None else strip.sen1_known)[20:112, 20:112], scene.losses()


def block(shape: tuple[int, ...] = (92, 92)) -> np.ndarray:
    where = np.zeros(shape, dtype=bool)
    where[BLOCK] = True
    return where


@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("fill", [1, 255, -999, 1500])
def test_fill_of_one_band_of_sentinel_2_is_no_data_and_hides_no_offset(tmp_path, fill, offset):
    values = optical(offset=offset).astype(np.int16)
    values[SEN2_BANDS.index("B06")][BLOCK] = fill
    path = write_tif(tmp_path / "s2.tif", values)
    lost, said = unknown(path)
    np.testing.assert_array_equal(lost, block())
    assert "462" in said[0]
    lines = run({"s2": path}, tmp_path / "out")
    assert any(("1000 by its pixels" if offset else "offset 0 by its pixels") in line for line in lines)


@pytest.mark.parametrize("value", [1, 1400])
@pytest.mark.parametrize(
    "line", [np.s_[40], np.s_[41:44], np.s_[:, 70], np.s_[:, 33:35], np.s_[50, 20:60]], ids=lambda line: str(line)
)
def test_a_row_or_column_of_one_value_is_no_data(tmp_path, line, value):
    values = optical()
    values[SEN2_BANDS.index("B07")][line] = value
    expected = np.zeros((92, 92), dtype=bool)
    expected[line] = True
    lost, said = unknown(write_tif(tmp_path / "s2.tif", values))
    np.testing.assert_array_equal(lost, expected)
    assert str(expected.sum()) in said[0]


def test_a_row_of_one_value_in_a_wide_scene_is_found_in_half_of_it():
    values = np.random.default_rng(0).integers(300, 900, (10, 64, 4000))
    values[3, 17, 1500:3500] = 1
    found = still(values)
    assert found.sum() == found[3, 17, 1500:3500].sum() == 2000


@pytest.mark.parametrize(("bands", "fills", "is_lost"), [
    ((4, 8), (7, 9), True), ((3, 4, 5, 7, 8, 9), (255,) * 6, True), ((3, 4, 5), (500, 700, 900), False),
])  # fmt: skip
def test_few_bands_or_those_of_a_file_at_one_value_are_fill_and_a_flat_ground_is_not(tmp_path, bands, fills, is_lost):
    values = optical()
    for band, fill in zip(bands, fills, strict=True):
        values[band][BLOCK] = fill
    assert unknown(write_tif(tmp_path / "s2.tif", values))[0].sum() == 462 * is_lost


@pytest.mark.parametrize("unit", ["db", "linear"])
@pytest.mark.parametrize("band", [0, 1])
@pytest.mark.parametrize("fill", [0, -12.5])
def test_fill_of_one_polarisation_is_no_data(tmp_path, unit, band, fill):
    values = radar()
    values[band][BLOCK] = fill
    if unit == "linear":
        values = 10 ** (values / 10)
        values[band][BLOCK] = 10 ** (fill / 10) if fill else 0
    s2 = write_tif(tmp_path / "s2.tif", optical())
    lost, said = unknown(s2, write_tif(tmp_path / "s1.tif", values))
    np.testing.assert_array_equal(lost, block())
    assert "462" in said[0]


@pytest.mark.parametrize("bands", [[0], [1], [0, 1]], ids=["VV", "VH", "both"])
def test_a_block_of_linear_power_among_decibels_is_no_data(tmp_path, bands):
    values = radar()
    for band in bands:
        values[band][BLOCK] = 10 ** (values[band][BLOCK] / 10)
    lost, said = unknown(write_tif(tmp_path / "s2.tif", optical()), write_tif(tmp_path / "s1.tif", values))
    np.testing.assert_array_equal(lost, block())
    assert "462" in said[0]


def test_a_block_of_bright_roofs_is_measured(tmp_path):
    values = radar()
    values[0][BLOCK] += 14
    assert not unknown(write_tif(tmp_path / "s2.tif", optical()), write_tif(tmp_path / "s1.tif", values))[0].any()


def test_a_warp_mixes_no_fill_into_what_lies_beside_it(tmp_path):
    (tmp_path / "f").mkdir()
    for name, band in zip(SEN2_BANDS, optical(), strict=True):
        place = from_origin(WEST, NORTH, 10, 10)
        if name == "B06":
            band, place = band[:46, :46].copy(), from_origin(WEST, NORTH, 20, 20)
            band[10:22, 15:25] = 255
        write_tif(tmp_path / f"f/{name}.tif", band[None], transform=place)
    with opened_scene(SceneOptions((tmp_path / "f",))) as scene:
        strip = scene.strip(0, scene.grid.height)
    stored = strip.sen2[SEN2_BANDS.index("B06")][strip.sen2_known]
    assert strip.sen2_known.sum() == 92 * 92 - 26 * 22
    assert stored[stored > 0.01].min() > 0.13


def test_water_that_is_clipped_to_1_is_measured_and_land_is_not(tmp_path):
    values = optical()
    values[:, 30:60, 20:70] = np.array([300, 350, 150, 60, 30, 20, 15, 10, 1, 1])[:, None, None]
    values[:8, 30:60, 20:70] += np.random.default_rng(0).integers(0, 9, (8, 30, 50)).astype(np.uint16)
    assert not unknown(write_tif(tmp_path / "lake.tif", values))[0].any()
    values[9, :20, :20] = 1
    assert unknown(write_tif(tmp_path / "land.tif", values))[0].sum() == 400


def test_small_squares_of_20_m_are_measured():
    values = np.kron(np.random.default_rng(0).integers(0, 30, (10, 40, 40)), np.ones((2, 2), int))
    values[:, 8:14, 8:14] = np.arange(10)[:, None, None] % 30
    assert still(values) is None
    assert not is_still_at_rim(np.arange(10 * 16 * 40).reshape(10, 16, 40))


def test_real_scenes_hold_none(shared_data):
    for path in sorted(shared_data.glob("scenes/*/s[12]_*.tif")):
        option = "s2" if path.name.startswith("s2") else "s1"
        paths = {"s2": (next(path.parent.glob("s2_l1c*")),)} | {option: (path,)}
        with opened_scene(SceneOptions(**paths)) as scene:
            strip = scene.strip(0, scene.grid.height)
        assert getattr(strip, "sen2_known" if option == "s2" else "sen1_known").sum() == 224 * 224


def test_a_band_of_one_value_is_refused(tmp_path):
    values = optical()
    values[4] = 1700
    path = write_tif(tmp_path / "s2.tif", values)
    with pytest.raises(UserError) as caught:
        run({"s2": path}, tmp_path / "out")
    assert caught.value.where == str(path)
