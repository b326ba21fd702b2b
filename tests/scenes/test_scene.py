"""Strips of scenes on a grid of cells, whatever rows are asked for."""

from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import from_origin
from rasterio.warp import transform

from bp_lcz.errors import UserError
from bp_lcz.scenes.scene import SceneOptions, Strip, opened_scene
from tests.refusals import states
from tests.scenes.rasters import NORTH, WEST, optical, radar, write_tif


@pytest.mark.parametrize("side", [10.0, 13.0], ids=["as stored", "warped"])
def test_strips_are_the_same_whatever_was_asked_for_before(tmp_path, side):
    place = from_origin(WEST + 3, NORTH - 2, side, side)
    values = optical(150)
    values[8:, 40:90, 20:60] = 0  # whether these are water depends on their surroundings
    s2 = write_tif(tmp_path / "s2.tif", values, transform=place)
    s1 = write_tif(tmp_path / "s1.tif", radar(200), transform=from_origin(WEST - 100, NORTH + 100, 11, 11))
    with opened_scene(SceneOptions((s2,), (s1,))) as scene:
        whole = scene.strip(0, scene.grid.height)
    with opened_scene(SceneOptions((s2,), (s1,))) as scene:
        for row in (70, 0, 3, scene.grid.height - 32, 10):
            strip = scene.strip(row)
            for key, part in vars(strip).items():
                np.testing.assert_array_equal(part, getattr(whole, key)[..., row : row + 32, :])


def test_every_cell_that_the_scene_touches_has_its_patch_in_the_grid(tmp_path):
    s2 = write_tif(tmp_path / "s2.tif", optical(95), transform=from_origin(500_030, 4_000_070, 10, 10))
    with opened_scene(SceneOptions((s2,))) as scene:
        place = scene.grid.transform
        assert (place.c + 110, place.f - 110) == (500_000, 4_000_100)
        assert scene.cells == (10, 10)
        whole = scene.strip(0, scene.grid.height)
    assert (scene.grid.height, scene.grid.width) == (122, 122)
    assert whole.sen1.shape == (0, 122, 122)
    assert whole.sen1_known.all()
    inside = np.zeros((122, 122), dtype=bool)
    inside[14:109, 14:109] = True
    np.testing.assert_array_equal(whole.outside, ~inside)
    np.testing.assert_array_equal(whole.sen2_known, inside)
    assert scene.findings.files[0].name == "s2.tif"


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "nothing", "EPSG:32718", "EPSG:3395", "EPSG:6933"])
def test_a_grid_that_is_no_metres_of_the_ground_is_refused(tmp_path, crs):
    s2 = write_tif(tmp_path / "s2.tif", optical())
    with pytest.raises(UserError) as caught, opened_scene(SceneOptions((s2,), crs=crs)):
        pass
    assert caught.value.where == f"--crs {crs}"


@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:3035", "EPSG:25833"])
def test_a_grid_of_a_neighbouring_zone_or_of_the_continent_is_taken(tmp_path, crs):
    s2 = write_tif(tmp_path / "s2.tif", optical())
    with opened_scene(SceneOptions((s2,), crs=crs)) as scene:
        assert scene.grid.crs.to_string() == crs


def test_a_raster_in_metres_that_are_none_of_the_ground_is_warped(tmp_path):
    place = from_origin(1_450_000, 6_870_000, 10, 10)  # 6 m of the ground
    s2 = write_tif(tmp_path / "s2.tif", optical(), crs="EPSG:3395", transform=place)
    with opened_scene(SceneOptions((s2,))) as scene:
        assert scene.grid.crs.to_string() == "EPSG:32633"


def test_pixels_that_are_none_of_sentinel_2_are_refused_before_a_grid_is_made_of_them(tmp_path):
    s2 = write_tif(tmp_path / "s2.tif", optical(), transform=from_origin(WEST, NORTH, 5000, 5000))
    error = refused(s2)
    assert (error.where, states(error.what, "5,000 m")) == (str(s2), True)


def test_a_name_that_is_too_long_for_the_system_is_not_found():
    assert refused(Path("9" * 5000)).where == "9" * 5000


def whole(*s2, **said) -> Strip:
    with opened_scene(SceneOptions(s2, **said)) as scene:
        return scene.strip(0, scene.grid.height)


def refused(*s2, **said) -> UserError:
    with pytest.raises(UserError) as caught, opened_scene(SceneOptions(s2, **said)):
        pass
    assert "\n" not in str(caught.value)
    return caught.value


def test_later_scenes_fill_gaps_of_those_before(tmp_path):
    values = optical(100)
    holed = values.copy()
    holed[:, 30:40] = 0
    one = write_tif(tmp_path / "one.tif", holed[:, :, :70])
    other = write_tif(tmp_path / "other.tif", values[:, :, 40:] + 1, west=WEST + 400)
    expected = values.astype(float)
    expected[:, :, 70:] += 1
    expected[:, 30:40, 40:] = values[:, 30:40, 40:] + 1
    strip = whole(one, other, s2_offset=0.0)
    known = strip.sen2_known[20:120, 20:120]
    assert (~known).sum() == 400
    np.testing.assert_allclose(strip.sen2[:, 20:120, 20:120][:, known], expected[:, known] / 1e4, rtol=1e-6)


def test_a_scene_of_the_next_zone_fills_its_place_in_the_grid(tmp_path):
    ramp = 2000 + 5 * np.arange(300)[None, :, None] + np.zeros((10, 1, 300)) + 10 * np.arange(10)[:, None, None]
    own = np.random.default_rng(0).integers(-30, 30, (9, 300, 300))  # without it all bands are copies of one
    ramp[1:] += own
    ramp[:, :4, :4] = 20
    west, north = 770_000.0, 5_500_000.0
    zone = {"crs": "EPSG:32632", "transform": from_origin(west, north, 10, 10)}
    first = write_tif(tmp_path / "first.tif", ramp[:, :, :150].astype(np.uint16), **zone)
    (x,), (y,) = transform("EPSG:32632", "EPSG:32633", [west + 2250], [north - 1500])
    place = from_origin(round(x - 1300, -1), round(y + 1400, -1), 10, 10)
    across, down = np.meshgrid(place.c + 10 * np.arange(260) + 5, place.f - 10 * np.arange(280) - 5)
    _, back = transform("EPSG:32633", "EPSG:32632", across.ravel(), down.ravel())
    rows = (north - np.array(back).reshape(across.shape)) / 10 - 0.5
    other = np.round(2000 + 5 * rows + 10 * np.arange(10)[:, None, None])
    other[1:] += own[:, :280, :260]
    other[:, :4, :4] = 20
    second = write_tif(tmp_path / "second.tif", other.astype(np.uint16), crs="EPSG:32633", transform=place)
    with opened_scene(SceneOptions((first, second), s2_offset=0.0)) as scene:
        assert scene.grid.crs.to_epsg() == 32632
        strip, grid = scene.strip(0, scene.grid.height), scene.grid
    rows = np.arange(grid.height) - (grid.transform.f - north) / 10
    seen = strip.sen2_known.copy()
    seen[: round((grid.transform.f - north) / 10) + 40] = False
    beyond = np.arange(grid.width) > (west - grid.transform.c) / 10 + 160
    assert seen[:, beyond].sum() > 10_000
    error = np.abs(strip.sen2[0] * 1e4 - (2000 + 5 * rows[:, None]))[seen & beyond]  # of 5 a pixel
    assert np.quantile(error, 0.95) < 1.5
    assert error.max() < 3.5  # half a pixel beyond the last row


@pytest.mark.parametrize("more", [200, 400])
def test_parts_that_differ_are_refused(tmp_path, more):
    one = write_tif(tmp_path / "one.tif", optical(100))
    other = write_tif(tmp_path / "other.tif", optical(100) + np.uint16(more), west=WEST + 500)
    if more > 300:
        assert refused(one, other).where == str(other)
    else:
        assert whole(one, other).sen2_known.sum() == 15_000


@pytest.mark.parametrize("turn", [np.s_[:, ::-1], np.s_[:, :, ::-1], np.s_[:, ::-1, ::-1]])
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("sensor", ["s1", "s2"])
def test_parts_that_are_turned_round_are_refused_although_their_medians_agree(tmp_path, turn, is_first, sensor):
    rng = np.random.default_rng(0)
    hills = np.kron(rng.integers(0, 400, (1, 13, 16)), np.ones((1, 10, 10), int))
    values = optical(160)[:, :130] + hills.astype(np.uint16) if sensor == "s2" else radar(160)[:, :130] + hills / 50
    left, right = values[:, :, :100].copy(), values[:, :, 60:].copy()
    whole_place = write_tif(tmp_path / "s2.tif", optical(160))
    right += np.array(5 if sensor == "s2" else 0.1, right.dtype)  # of another day

    def look(*parts):
        files = [
            write_tif(tmp_path / f"{number}.tif", part.astype(values.dtype), west=WEST + 600 * number)
            for number, part in enumerate(parts)
        ]
        scenes = SceneOptions(tuple(files)) if sensor == "s2" else SceneOptions((whole_place,), tuple(files))
        with opened_scene(scenes):
            return files

    look(left, right)
    with pytest.raises(UserError) as caught:
        look(*((left[turn], right) if is_first else (left, right[turn])))
    assert caught.value.where in [str(tmp_path / f"{number}.tif") for number in (0, 1)]


def test_radar_that_differs_is_refused(tmp_path):
    s2 = write_tif(tmp_path / "s2.tif", optical(100))
    one, other = (write_tif(tmp_path / f"{more}.tif", radar(100) + np.float32(more)) for more in (0, 3))
    assert refused(s2, s1=(one, other)).where == str(other)


def test_parts_that_lie_apart_and_parts_of_two_levels_are_refused(tmp_path):
    one = write_tif(tmp_path / "S2A_MSIL1C_one.tif", optical(100))
    apart = write_tif(tmp_path / "apart.tif", optical(100), west=WEST + 5000)
    assert refused(one, apart).where == str(apart)
    other_side = write_tif(tmp_path / "other.tif", optical(100), crs="EPSG:32753")
    assert refused(one, other_side).where == str(other_side)
    other = write_tif(tmp_path / "S2A_MSIL2A_other.tif", optical(100), west=WEST + 1000)
    assert refused(one, other).where == str(other)


def test_a_level_that_is_told_is_held_against_what_is_found(tmp_path):
    path = write_tif(tmp_path / "S2A_MSIL1C_x.tif", optical())
    error = refused(path, s2_level="L2A")
    assert error.where == str(path)
    assert "L1C" in error.what
    with opened_scene(SceneOptions((write_tif(tmp_path / "x.tif", optical()),), s2_level="L2A")) as scene:
        assert scene.level == scene.findings.level == "L2A"


def test_pixels_of_unwanted_values_are_masked_and_so_is_what_the_mask_does_not_know(tmp_path):
    s2 = write_tif(tmp_path / "s2.tif", optical(100))
    classes = np.full((1, 50, 30), 4, np.uint8)
    classes[0, 10:20] = 9
    scl = write_tif(tmp_path / "scl.tif", classes, transform=from_origin(WEST, NORTH, 20, 20), nodata=0)
    masked = whole(s2, mask=scl).masked[20:120, 20:120]
    assert masked[20:40, :60].all()
    assert masked[:, 60:].all()
    assert not masked[40:, :60].any()
    np.testing.assert_array_equal(whole(s2, mask=scl, mask_values=(4,)).masked[20:120, 20:80], ~masked[:, :60])


def test_the_lee_filter_smooths_speckle_and_keeps_the_mean(tmp_path):
    rng = np.random.default_rng(0)
    power = np.array([0.2, 0.05])[:, None, None] * rng.gamma(4.4, 1 / 4.4, (2, 100, 100))
    s2, s1 = write_tif(tmp_path / "s2.tif", optical(100)), write_tif(tmp_path / "s1.tif", power)
    raw, filtered = (whole(s2, s1=(s1,), s1_filter=name).sen1[:, 20:120, 20:120] for name in ("none", "lee"))
    np.testing.assert_allclose(filtered.mean(axis=(1, 2)), [0.05, 0.2], rtol=0.02)
    assert (filtered.std(axis=(1, 2)) < 0.5 * raw.std(axis=(1, 2))).all()
    eight = write_tif(tmp_path / "eight.tif", np.concatenate([power * 0.1] * 4).astype(np.float32))
    assert refused(s2, s1=(eight,), s1_filter="lee").where == "--s1-filter lee"
