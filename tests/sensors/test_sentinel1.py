"""Bands and units of radar scenes, and values that no backscatter has."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import rasterio

from bp_lcz.bands import SEN1_BANDS
from bp_lcz.errors import UserError
from bp_lcz.sensors.products import open_radar
from bp_lcz.sensors.sentinel1 import Radar, read_radar
from tests.refusals import refuses
from tests.scenes.rasters import radar, write_tif


def found(path: Path, named: tuple[str, ...] | None = None, units: str = "auto") -> Radar:
    with ExitStack() as stack:
        (scene,) = open_radar(stack, (path,))
        return read_radar(path, scene, named, units)


def power() -> np.ndarray:
    return 10 ** (radar() / 10)


@pytest.mark.parametrize("units", ["auto", "linear"])
@pytest.mark.parametrize("share", [0.0001, 0.02])
def test_values_just_below_0_are_linear_power_without_noise(tmp_path, units, share):
    values = power()
    values[0][np.random.default_rng(0).random(values[0].shape) < share] = -0.0002
    scene = found(write_tif(tmp_path / "s1.tif", values), units=units)
    assert scene.unit == "linear"
    kept, known = scene.values(values)
    assert known.all()
    np.testing.assert_allclose(kept, np.maximum(values, 0))


@pytest.mark.parametrize("fill", [-9999.0, -32768.0, 3.4e38, -999.0, 9999.0, -1.0])
@pytest.mark.parametrize("unit", ["db", "linear"])
@pytest.mark.parametrize("columns", [3, 80])
def test_a_fill_that_no_tag_declares_is_no_data(tmp_path, fill, unit, columns):
    values = radar() if unit == "db" else power()
    values[:, :, :columns] = fill
    scene = found(write_tif(tmp_path / "s1.tif", values))
    assert (scene.unit, scene.fill) == (unit, np.float32(fill))
    _, known = scene.values(values)
    assert not known[:, :columns].any()
    assert known[:, columns:].all()


def test_equal_values_by_chance_are_no_fill(tmp_path):
    values = radar()
    values[1, 5, 5] = values[0, 5, 5]
    scene = found(write_tif(tmp_path / "s1.tif", values))
    assert scene.fill is None
    assert scene.values(values[::-1])[1].all()


@pytest.mark.parametrize("unit", ["db", "linear"])
def test_co_polarised_0_beside_ground_that_scatters_is_no_data(tmp_path, unit):
    values = radar() if unit == "db" else power()
    values[:, 10:30, 10:30] = [[[0.0]], [[0.02 if unit == "linear" else -17.0]]]
    scene = found(write_tif(tmp_path / "s1.tif", values))
    _, known = scene.values(values[::-1])
    assert not known[10:30, 10:30].any()
    assert known.sum() == known.size - 400
    if unit == "linear":  # noise removal leaves zeros where nothing comes back
        values[:, :10] = [[[0.0]], [[0.001]]]
        assert scene.values(values[::-1])[1][:10].all()


def test_co_polarised_0_of_whole_decibels_is_measured(tmp_path):
    values = np.round(radar()).astype(np.int16)
    values[0, 10, 10] = 0
    scene = found(write_tif(tmp_path / "s1.tif", values))
    assert scene.values(values[::-1])[1].all()


def test_one_polarisation_under_two_names_is_refused_whatever_the_units(tmp_path):
    path = write_tif(tmp_path / "s1.tif", radar()[[1, 1]], names=["VV", "VH"])
    with refuses(path):
        found(path, units="db")


def test_cross_polarised_0_in_decibels_is_no_data(tmp_path):
    values = radar()
    values[1, :5] = 0
    scene = found(write_tif(tmp_path / "s1.tif", values))
    known = scene.values(values[::-1])[1]
    assert not known[:5].any()
    assert known[5:].all()


@pytest.mark.parametrize(
    "values",
    [
        np.round(radar() * 100).astype(np.int16),
        np.round(radar() * 10).astype(np.int16),
        -np.abs(radar()) / 100,  # between the units
        radar() + 40,
        power() * 1e4,
        np.sqrt(power() * [[[1]], [[3]]]),
    ],
    ids=["times 100", "times 10", "between", "no decibels", "no power", "amplitude"],
)
def test_values_of_neither_unit_are_refused(tmp_path, values):
    path = write_tif(tmp_path / "s1.tif", values.astype(np.float32))
    with pytest.raises(UserError) as caught:
        found(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize(("stored", "units"), [("db", "linear"), ("linear", "db"), ("db", "amplitude")])
def test_units_that_are_told_are_held_against_the_values(tmp_path, stored, units):
    path = write_tif(tmp_path / "s1.tif", radar() if stored == "db" else power())
    with pytest.raises(UserError):
        found(path, units=units)


def test_a_declared_scale_is_used(tmp_path):
    path = write_tif(tmp_path / "s1.tif", np.round(radar() * 100).astype(np.int16))
    with rasterio.open(path, "r+") as file:
        file.scales = (0.01, 0.01)
    scene = found(path)
    assert scene.unit == "db"
    kept, _ = scene.values(np.round(radar() * 100).astype(np.int16))
    np.testing.assert_allclose(kept, power(), rtol=2e-3)


def test_amplitudes_are_squared_when_told_so(tmp_path):
    values = np.sqrt(power())
    scene = found(write_tif(tmp_path / "s1.tif", values), units="amplitude")
    np.testing.assert_allclose(scene.values(values)[0], power(), rtol=1e-5)


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["Gamma0_VH_db", "Gamma0_VV_db"], (1, 2)),
        (["VV", "VH", "VV/VH"], (2, 1)),
        (["angle", "vv", "vh"], (3, 2)),
        (["bands", "bands"], (2, 1)),  # the same for all: names nothing
        (None, (2, 1)),
    ],
)
def test_bands_are_taken_by_name_where_they_have_names(tmp_path, names, order):
    vv, vh = radar()
    values = np.stack([{1: vh, 2: vv, 3: vh}[n] for n in range(1, len(names or "VV") + 1)])
    if order[0] > order[1]:
        values = np.stack([vv, vh, vv - vh])[: len(names or "VV")]
    if order == (3, 2):
        values = np.stack([vv - vh, vv, vh])
    scene = found(write_tif(tmp_path / "s1.tif", values, names=names))
    assert tuple(scene.bands.values()) == order
    assert any("bands 1" in note or "bands 2" in note for note in scene.notes)


@pytest.mark.parametrize("names", [["HH", "HV"], ["VV_mean", "VV_std"], ["first", "VH"]])
def test_names_that_are_not_understood_are_shown_and_never_replaced_by_an_order(tmp_path, names):
    path = write_tif(tmp_path / "s1.tif", radar(), names=names)
    with pytest.raises(UserError) as caught:
        found(path)
    assert all(name in caught.value.what for name in names)


def test_eight_channels_are_found_by_name_in_any_order_and_checked(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.2, (8, 92, 92)).astype(np.float32)
    values[4], values[5] = rng.exponential(0.04, (92, 92)), rng.exponential(0.2, (92, 92))
    values[:, 0, 0], values[5, 0, 1] = -9999, -9999
    backwards = write_tif(tmp_path / "s1.tif", values[::-1], names=list(SEN1_BANDS[::-1]))
    scene = found(backwards)
    assert scene.bands == {band: 8 - number for number, band in enumerate(SEN1_BANDS)}
    kept, known = scene.values(values)
    assert (~known).sum() == 2
    np.testing.assert_array_equal(kept[:, 1:], values[:, 1:])
    with pytest.raises(UserError):
        found(backwards, units="db")


def test_ground_control_points_are_no_map(tmp_path):
    path = write_tif(
        tmp_path / "s1.tif",
        radar(),
        crs="EPSG:4326",
        transform=None,
        gcps=[rasterio.control.GroundControlPoint(r, c, 13 + c / 1e4, 52 - r / 1e4) for r in (0, 92) for c in (0, 92)],
    )
    with pytest.raises(UserError, match="RTC"):
        found(path)
