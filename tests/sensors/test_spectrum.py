"""Bands in another order, levels and numbers that no sensor gives, told by the pixels alone."""

import numpy as np
import pytest
import rasterio

from bp_lcz.bands import SEN2_BANDS
from bp_lcz.errors import UsageError, UserError
from bp_lcz.scenes.scene import SceneOptions, opened_scene
from tests.scenes.rasters import real_scenes, write_tif
from tests.scenes.safe import L1C

WOOD = [0.080, 0.055, 0.034, 0.075, 0.175, 0.209, 0.201, 0.232, 0.103, 0.039]
"""Of Level 1C, as are those below; the ten bands that are kept."""
TOWN = [0.150, 0.140, 0.135, 0.150, 0.190, 0.210, 0.200, 0.230, 0.240, 0.200]
POND = [0.081, 0.050, 0.031, 0.027, 0.021, 0.019, 0.015, 0.014, 0.003, 0.002]
RED_ROOFS = [0.100, 0.110, 0.260, 0.290, 0.300, 0.310, 0.300, 0.310, 0.330, 0.280]


def ground(*spectra: list[float], side: int = 90) -> np.ndarray:
    """Reflectance of strips of equal width, with a little noise."""
    rng = np.random.default_rng(0)
    strips = [
        np.array(one)[:, None, None] * rng.uniform(0.97, 1.03, (len(one), side, side // len(spectra)))
        for one in spectra
    ]
    return np.concatenate(strips, axis=2)


LAND = ground(WOOD, TOWN, POND)


def read(path, **said):
    with opened_scene(SceneOptions((path,), **said)):
        return path


def refused(path, **said) -> str:
    with pytest.raises(UserError) as caught:
        read(path, **said)
    assert caught.value.where == str(path)
    return caught.value.what


def numbers(reflectance: np.ndarray) -> np.ndarray:
    return np.round(reflectance * 10_000).astype(np.uint16)


@pytest.mark.parametrize(
    ("order", "facts"),
    [
        ("B02 B03 B04 B08 B05 B06 B07 B8A B11 B12", ["B05", "B06"]),
        ("B02 B03 B04 B05 B06 B07 B08 B11 B12 B8A", ["B12", "B11"]),
        ("B12 B11 B8A B08 B07 B06 B05 B04 B03 B02", ["B04", "B08"]),
        ("B04 B03 B02 B05 B06 B07 B08 B8A B11 B12", ["B02", "B04"]),
    ],
    ids=["by resolution", "by name", "reversed", "red first"],
)
def test_bands_without_names_in_another_order_are_refused_by_what_they_show(tmp_path, order, facts):
    shuffled = LAND[[SEN2_BANDS.index(band) for band in order.split()]]
    told = refused(write_tif(tmp_path / "s2.tif", numbers(shuffled) + 1000), s2_level="L1C")
    assert all(fact in told for fact in facts)
    read(write_tif(tmp_path / "named.tif", numbers(shuffled) + 1000, names=order.split()), s2_level="L1C")


def test_bands_that_the_user_names_are_taken_with_a_warning(tmp_path):
    shuffled = numbers(LAND[[0, 1, 2, 4, 3, *range(5, 10)]]) + 1000
    with opened_scene(SceneOptions((write_tif(tmp_path / "s2.tif", shuffled),), s2_bands=SEN2_BANDS)) as scene:
        assert any("warning" in line and "B05" in line for line in scene.lines)


def test_thirteen_bands_in_the_order_of_their_names_hold_no_cirrus_in_the_eleventh(tmp_path):
    rest = {"B01": 0.1, "B09": 0.05, "B10": 0.001}
    bands = {band: LAND[SEN2_BANDS.index(band)] if band in SEN2_BANDS else LAND[0] * 0 + rest[band] for band in L1C}
    by_name = np.stack([bands[band] for band in sorted(bands)])
    assert "B10" in refused(write_tif(tmp_path / "s2.tif", numbers(by_name) + 1000))
    read(write_tif(tmp_path / "right.tif", numbers(np.stack(list(bands.values()))) + 1000))


@pytest.mark.parametrize(
    "land", [ground(WOOD), ground(RED_ROOFS), ground(TOWN, POND), LAND], ids=["wood", "red", "town", "all"]
)
def test_true_land_is_taken_with_and_without_the_offset(tmp_path, land):
    read(write_tif(tmp_path / "old.tif", numbers(land)), s2_level="L1C", s2_offset=0.0)
    read(write_tif(tmp_path / "new.tif", numbers(land) + 1000), s2_level="L1C", s2_offset=1000.0)


def test_a_scene_without_the_blue_of_the_air_is_no_level_1c_unless_its_offset_is_said(tmp_path):
    corrected = LAND.copy()
    corrected[:3] -= np.array([0.075, 0.045, 0.025])[:, None, None]
    path = write_tif(tmp_path / "s2.tif", numbers(corrected))
    told = refused(path, s2_level="L1C")
    assert "L2A" in told
    read(path, s2_level="L2A")
    read(path, s2_level="L1C", s2_offset=0.0)


def test_a_bright_desert_does_not_tell_whether_it_has_the_offset(tmp_path):
    desert = ground([0.18, 0.2, 0.24, 0.26, 0.28, 0.3, 0.29, 0.31, 0.4, 0.35])
    path = write_tif(tmp_path / "s2.tif", numbers(desert))
    assert "--s2-offset" in refused(path)
    read(path, s2_offset=0.0)


@pytest.mark.parametrize(
    "stored",
    [LAND * 65_535, LAND * 1_000, LAND * 255, (LAND / 0.3 * 255).clip(0, 255).astype(np.uint8)],
    ids=["of 65535", "of 1000", "of 255", "picture"],
)
def test_whole_numbers_of_another_scale_are_no_reflectance(tmp_path, stored):
    stored = stored if stored.dtype == np.uint8 else stored.astype(np.uint16)
    refused(write_tif(tmp_path / "s2.tif", stored))


def test_an_offset_of_the_wrong_sign_is_refused(tmp_path):
    path = write_tif(tmp_path / "s2.tif", numbers(LAND) + 1000)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = [1e-4] * 10, [0.1] * 10
    assert "sign" in refused(path)


@pytest.mark.parametrize("odd", [LAND[2] * 10_000, LAND[2]], ids=["without the offset", "of another unit"])
def test_one_band_that_is_unlike_the_others_is_refused(tmp_path, odd):
    bands = numbers(LAND).astype(np.float32) + 1000
    bands[2] = odd
    (tmp_path / "f").mkdir()
    write_tif(tmp_path / "f/B10.tif", np.full((1, 90, 90), 1012, np.float32))
    for name, band in zip(SEN2_BANDS, bands, strict=True):
        write_tif(tmp_path / f"f/{name}.tif", band[None])
    assert "B04" in refused(tmp_path / "f")


def test_files_that_are_named_by_bands_are_named_by_nothing_else(tmp_path):
    for name, band in zip(SEN2_BANDS, numbers(LAND), strict=True):
        (tmp_path / "f").mkdir(exist_ok=True)
        write_tif(tmp_path / f"f/T33UUU_20220101T101401_{name}.tif", band[None])
    with pytest.raises(UsageError) as caught:
        read(tmp_path / "f", s2_bands=SEN2_BANDS[::-1])
    assert caught.value.where == "--s2-bands"
    (tmp_path / "f/T33UUU_20220101T101401_B11.tif").rename(tmp_path / "f/T33UUU_20210101T101401_B11.tif")
    assert "20210101T101401" in refused(tmp_path / "f")
    (tmp_path / "f/T33UUU_20210101T101401_B11.tif").unlink()
    told = refused(tmp_path / "f")
    assert "B11" in told
    assert "--s2-bands" not in told


def test_a_mask_of_percent_is_no_scene_classification(tmp_path):
    s2 = write_tif(tmp_path / "s2.tif", numbers(LAND))
    mask = write_tif(tmp_path / "percent.tif", np.full((1, 90, 90), 40, np.uint8))
    with pytest.raises(UserError) as caught:
        read(s2, mask=mask)
    assert caught.value.where == str(mask)
    read(s2, mask=mask, mask_values=tuple(range(50, 101)))


def test_one_band_under_two_names_is_refused_by_both(tmp_path):
    twice = numbers(LAND)
    twice[2] = twice[1]
    told = refused(write_tif(tmp_path / "s2.tif", twice + 1000), s2_level="L1C")
    assert "B03" in told
    assert "B04" in told


@pytest.mark.parametrize(("factor", "plus"), [(1, 1), (1, 300), (0.9, 0), (1.7, -200)])
def test_a_copy_times_and_plus_a_constant_is_one_band(tmp_path, factor, plus):
    twice = numbers(LAND)
    twice[2] = np.round(twice[1] * factor + plus)
    told = refused(write_tif(tmp_path / "s2.tif", twice, names=list(SEN2_BANDS)), s2_level="L2A", s2_offset=0.0)
    assert "B03" in told
    assert "B04" in told


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_two_bands_that_agree_in_many_pixels_are_one(tmp_path, share):
    twice = numbers(LAND)
    is_copied = np.random.default_rng(0).random(twice[0].shape) < share
    twice[5][is_copied] = twice[8][is_copied]
    told = refused(write_tif(tmp_path / "s2.tif", twice + 1000))
    assert "B07" in told
    assert "B11" in told


@pytest.mark.parametrize("bands", [
    [0, 1, 2, 6], [3, 4, 5, 7, 8, 9], [0, 2, 4, 6, 8], [0, 1, 2, 3, 4], [3, 4, 5], [0, 1, 2, 3], [4, 5, 6, 7, 8, 9],
])  # fmt: skip
@pytest.mark.parametrize("land", [ground(TOWN, TOWN, POND), ground(WOOD, WOOD, TOWN, POND)], ids=["town", "wood"])
def test_some_bands_with_another_offset_are_refused(tmp_path, bands, land):
    mixed = numbers(land)
    mixed[bands] += 1000
    refused(write_tif(tmp_path / "s2.tif", mixed, names=list(SEN2_BANDS)), s2_level="L2A")


def test_blue_for_red_is_refused_by_order_and_warned_of_by_name(tmp_path):
    order = [2, 1, 0, *range(3, 10)]
    swapped = numbers(ground(WOOD, TOWN, RED_ROOFS, POND))[order]
    told = refused(write_tif(tmp_path / "s2.tif", swapped), s2_level="L2A", s2_offset=0.0)
    assert "--s2-bands" in told
    named = write_tif(tmp_path / "named.tif", swapped, names=list(SEN2_BANDS))
    with opened_scene(SceneOptions((named,), s2_offset=0.0)) as scene:
        assert any("warning" in line and "B02" in line for line in scene.lines)


def test_a_band_that_is_turned_round_is_warned_of(tmp_path):
    turned = numbers(ground(*([factor * value for value in TOWN] for factor in (0.5, 1.0, 1.6))))
    turned[3] = turned[3, :, ::-1]
    with opened_scene(SceneOptions((write_tif(tmp_path / "s2.tif", turned),), s2_offset=0.0)) as scene:
        assert any("warning" in line and "B05" in line for line in scene.lines)


def test_names_of_the_user_against_clear_descriptions_are_warned_of(tmp_path):
    path = write_tif(tmp_path / "s2.tif", numbers(LAND), names=list(SEN2_BANDS))
    swapped = ("B03", "B02", *SEN2_BANDS[2:])
    for named, warns in ((swapped, True), (SEN2_BANDS, False)):
        with opened_scene(SceneOptions((path,), s2_bands=named)) as scene:
            assert any("warning" in line and "B03 is band 1" in line for line in scene.lines) == warns


@pytest.mark.shared
def test_real_scenes_and_crops_pass_and_other_orders_do_not(tmp_path, shared_data):
    for ten in real_scenes(shared_data):
        for row, column in ((0, 0), (0, 112), (112, 0), (112, 112)):
            crop = ten[:, row : row + 112, column : column + 112]
            with opened_scene(SceneOptions((write_tif(tmp_path / "crop.tif", crop),), s2_level="L2A")) as scene:
                assert not any("warning" in line for line in scene.lines)
            for bands in (slice(4), slice(4, 10)):
                mixed = crop.astype(np.int32)
                mixed[bands] += 1000 if crop.min() < 800 else -1000
                refused(write_tif(tmp_path / "mixed.tif", mixed.clip(1)), s2_level="L2A")
        for order in (range(9, -1, -1), (2, 1, 0, *range(3, 10)), (0, 1, 2, 6, 3, 4, 5, 7, 8, 9)):
            refused(write_tif(tmp_path / "order.tif", ten[list(order)]), s2_level="L2A")
