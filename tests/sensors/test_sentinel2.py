"""Bands, units and offset of optical scenes: what is found, by what evidence, and what contradicts it."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import rasterio

from bp_lcz.bands import SEN2_BANDS
from bp_lcz.errors import UserError
from bp_lcz.sensors.names import band_name
from bp_lcz.sensors.products import open_optical
from bp_lcz.sensors.sentinel2 import Optical, read_optical
from tests.scenes.rasters import optical, write_tif

NAMES = list(SEN2_BANDS)


def found(
    path: Path, named: tuple[str, ...] | None = None, units: str = "auto", offset: float | None = None
) -> Optical:
    with ExitStack() as stack:
        return read_optical(path, open_optical(stack, path), named, units, offset)


def tagged(path: Path, values: np.ndarray, scale: float, offset: float = 0.0) -> Path:
    write_tif(path, values, names=NAMES)
    with rasterio.open(path, "r+") as file:
        file.scales = [scale] * len(values)
        if offset:
            file.offsets = [offset] * len(values)
    return path


@pytest.mark.parametrize(
    ("text", "band"),
    [
        ("B2", "B02"), ("B02", "B02"), ("Band 2", "B02"), ("band_02", "B02"), ("2", "B02"), ("8A", "B8A"),
        ("B02_10m", "B02"), ("B2_median", "B02"), ("B02_p50", "B02"), ("20180710T101029_B8A", "B8A"),
        ("T32UQD_20220101T101401_B11", "B11"), ("B4, central wavelength 665 nm", "B04"), ("0_B12", "B12"),
        ("blue", "B02"), ("nir", "B08"), ("nir08", "B8A"), ("rededge1", "B05"), ("red_edge_2", "B06"),
        ("swir16", "B11"), ("B5 - Vegetation red edge", "B05"), ("B8A - narrow NIR", "B8A"), ("red", "B04"),
        ("SCL", ""), ("", ""), ("NDVI (B8-B4)", ""), ("B13", ""), ("Vegetation red edge", ""), ("near infra-red", ""),
        ("narrow nir", ""), ("S2B", ""), ("swir_2", ""),
    ],
)  # fmt: skip
def test_descriptions_of_many_tools_are_understood(text, band):
    assert band_name(text) == band


@pytest.mark.parametrize(
    "names",
    [
        [*NAMES[:-1], "last"],
        [f"Band {n}" for n in range(1, 11)],  # ordinals, not Sentinel-2's numbers
        ["B2_median", "B2_stdDev", *NAMES[1:]],
        ["blue", *[""] * 9],
    ],
)
def test_names_that_are_not_understood_are_shown_and_never_replaced_by_an_order(tmp_path, names):
    path = write_tif(tmp_path / "s2.tif", optical(bands=len(names)), names=names)
    with pytest.raises(UserError) as caught:
        found(path)
    assert names[0] in caught.value.what
    told = found(path, tuple(NAMES) if len(names) == 10 else ("B02", "-", *NAMES[1:]))
    assert tuple(told.bands) == SEN2_BANDS


def test_the_order_that_is_taken_is_always_said(tmp_path):
    for names in (None, NAMES[::-1], ["bands"] * 10):
        notes = found(write_tif(tmp_path / "s2.tif", optical(), names=names)).notes
        assert ("1 B12, 2 B11" if names == NAMES[::-1] else "1 B02, 2 B03") in notes[0]


def test_a_declared_scale_and_offset_are_used_where_the_pixels_agree(tmp_path):
    plain = optical()
    for path, stored in (
        (tagged(tmp_path / "plain.tif", plain, 1e-4), plain),
        (tagged(tmp_path / "offset.tif", plain + 1000, 1e-4, -0.1), plain + 1000),
    ):
        np.testing.assert_allclose(found(path).values(stored)[0], plain / 1e4, atol=1e-9)


@pytest.mark.parametrize(
    ("values", "offset"),
    [(optical() + 1000, 0.0), (optical(), -0.1)],
    ids=["offset left in", "offset taken off before"],
)
def test_tags_that_the_pixels_contradict_are_refused_with_both(tmp_path, values, offset):
    path = tagged(tmp_path / "s2.tif", values, 1e-4, offset)
    with pytest.raises(UserError) as caught:
        found(path)
    assert caught.value.where == str(path)
    assert "scale 0.0001" in caught.value.what
    assert "darkest pixels" in caught.value.what
    right = 1000.0 if offset == 0 else 0.0
    settled = found(path, offset=right)
    np.testing.assert_allclose(settled.values(values)[0], optical() / 1e4, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "tags", "carries"),
    [
        ("S2A_MSIL2A_20220310T101029_N0400_R022.tif", {}, True),
        ("S2A_MSIL1C_20180710T101029_N0206_R022.tif", {}, False),
        ("s2.tif", {"BOA_ADD_OFFSET": "-1000"}, True),
        ("s2.tif", {"RADIO_ADD_OFFSET_B02": "0"}, False),
        ("S2A_MSIL2A_20220310T101029_N0400_R022.tif", {"BOA_ADD_OFFSET": "0"}, False),  # the product goes first
    ],
)
def test_metadata_and_name_are_evidence_that_is_held_against_the_pixels(tmp_path, name, tags, carries):
    for offset in (0, 1000):
        path = write_tif(tmp_path / name, optical(offset=offset), names=NAMES)
        with rasterio.open(path, "r+") as file:
            file.update_tags(**tags)
        if carries == bool(offset):
            assert found(path).has_offset == carries
        else:
            with pytest.raises(UserError, match="darkest pixels"):
                found(path)


def test_between_with_and_without_the_offset_the_user_has_to_say(tmp_path):
    values = np.where(optical() < 900, optical() + 910, optical()).astype(np.uint16)
    path = write_tif(tmp_path / "s2.tif", values, names=NAMES)
    with pytest.raises(UserError, match="--s2-offset"):
        found(path)
    assert not found(path, offset=0.0).has_offset


@pytest.mark.parametrize(
    "values",
    [optical() / 1e2, optical() / 1e6, np.clip(optical() // 8, 1, 255).astype(np.uint8)],
    ids=["percent", "tiny", "bytes"],
)
def test_units_that_are_none_are_refused(tmp_path, values):
    if values.dtype == np.uint8:
        values = values // 6 + 1
    path = write_tif(tmp_path / "s2.tif", values, names=NAMES, dtype=np.dtype(values.dtype).newbyteorder("="))
    with pytest.raises(UserError) as caught:
        found(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("fill", [-9999, -1, 0, 32767])
def test_fill_that_no_tag_declares_hides_no_offset_and_becomes_no_reflectance(tmp_path, offset, fill):
    values = optical(offset=offset).astype(np.int16)
    values[:, :, :20] = fill
    if fill != -1:
        values[3, :5, 20:] = fill  # and in one band alone
    scene = found(write_tif(tmp_path / "s2.tif", values, names=NAMES))
    assert scene.has_offset == bool(offset)
    reflectance, known = scene.values(values)
    assert not known[:, :20].any()
    assert known[:5, 20:].any() == (fill == -1)
    assert known[5:, 20:].all()
    assert reflectance[:, known].max() < 0.3


def test_zeros_of_dark_water_at_long_wavelengths_are_measured(tmp_path):
    values = optical()
    lake = np.array([400, 300, 150, 60, 20, 10, 5, 0, 0, 0])
    values[:, :20] = lake[:, None, None]
    scene = found(write_tif(tmp_path / "s2.tif", values, names=NAMES))
    assert scene.values(values)[1].all()
    for band in (0, 2):  # a visible band that is dark where longer ones are not: another detector's edge
        torn = values.copy()
        torn[band, 40:45] = 0
        assert not scene.values(torn)[1][40:45].any()


def test_zeros_of_turbid_water_are_measured_and_those_of_land_are_not(tmp_path):
    scene = found(write_tif(tmp_path / "s2.tif", optical(), names=NAMES))
    values = np.zeros((10, 32, 60), np.uint16)
    values[:, :, 20:40] = np.array([600, 900, 1300, 1250, 700, 650, 600, 500, 0, 0])[:, None, None]  # river
    values[:, :, 40:] = np.array([500, 700, 600, 1000, 2200, 2600, 2700, 2900, 0, 0])[:, None, None]  # fields
    values[9, :, :10] = 1
    known = scene.values(values)[1]
    assert not known[:, :20].any()
    assert not known[:, 40:].any()
    values[:, :, :10] = 1500 + np.arange(10)[:, None, None]
    values[:, :, 10:20] = 1000 + np.arange(10)[:, None, None]
    assert scene.values(values)[1][:, 20:40].all()


def test_a_slanted_edge_of_views_over_dark_ground_is_no_water(tmp_path):
    scene = found(write_tif(tmp_path / "s2.tif", optical(), names=NAMES))
    values = (
        np.full((10, 32, 60), 1, np.uint16)
        * np.array([900, 800, 600, 900, 1000, 1000, 1000, 1000, 900, 800])[:, None, None]
    )
    for number in range(10):
        values[number, :, : 4 + number] = 0
    known = scene.values(values.astype(np.uint16))[1]
    assert not known[:, :13].any()
    assert known[:, 13:].all()


def test_zeros_of_level_1c_are_never_measured(tmp_path):
    values = optical()
    values[9, :5] = 0
    scene = found(write_tif(tmp_path / "S2A_MSIL1C_x.tif", values, names=NAMES))
    assert not scene.values(values // 10)[1][:5].any()


def test_a_dark_band_counts_although_another_has_zeros(tmp_path):
    values = optical(offset=1000)
    values[0, :, :3] = 0
    assert found(write_tif(tmp_path / "s2.tif", values, names=NAMES)).has_offset


@pytest.mark.parametrize(
    ("name", "bands", "level"),
    [
        ("S2A_MSIL2A_x.tif", 10, "L2A"),
        ("S2A_MSIL1C_x.tif", 10, "L1C"),
        ("s2.tif", 13, "L1C"),
        ("s2.tif", 12, "L2A"),
        ("s2.tif", 10, "unknown"),
    ],
)
def test_the_level_is_said(tmp_path, name, bands, level):
    values = optical(bands=bands)
    if bands == 13:
        values[10] = 12
    scene = found(write_tif(tmp_path / name, values))
    assert f"level {level}" in "".join(scene.notes)
    assert scene.level == (None if level == "unknown" else level)
