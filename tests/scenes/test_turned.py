"""Radar that is turned round against the optical scene is warned of, and no other."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from bp_lcz.bands import SEN2_BANDS
from bp_lcz.scenes.scene import SceneOptions, opened_scene
from tests.scenes.rasters import optical, radar, write_tif

BARE = np.array([900, 1000, 1200, 1400, 1500, 1600, 1700, 1800, 2300, 2000])
LEAF = np.array([300, 500, 300, 800, 2200, 2800, 3000, 3200, 1700, 800])
ALL, BACK = slice(None), slice(None, None, -1)
TURNS = {"upside down": (BACK, ALL), "mirrored": (ALL, BACK), "turned by 180 degrees": (BACK, BACK)}


def warnings(s2: Path, s1: Path, **options: object) -> list[str]:
    with opened_scene(SceneOptions((s2,), (s1,), **options)) as scene:
        noted = [note for file in scene.findings.files for note in file.evidence if "turned back" in note]
        assert noted == [line for line in scene.lines if "turned back" in line]
        return noted


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A scene of fields, greener or barer, and the radar that goes with it, brighter where it is greener."""
    rng = np.random.default_rng(0)
    green = np.kron(rng.uniform(0, 1, (14, 14)), np.ones((8, 8)))
    values = BARE[:, None, None] + (LEAF - BARE)[:, None, None] * green + rng.normal(0, 20, (10, 112, 112))
    values[:, -8:, -8:] = 30
    s2 = write_tif(tmp_path_factory.mktemp("fields") / "s2.tif", values.astype(np.uint16), names=list(SEN2_BANDS))
    power = np.stack([-12 + 4 * green, -20 + 6 * green]) + rng.normal(0, 2, (2, 112, 112))
    return s2, power.astype(np.float32)


@pytest.mark.parametrize("name", TURNS)
def test_radar_that_is_turned_round_is_told_with_how(tmp_path, fields, name):
    s2, power = fields
    (line,) = warnings(s2, write_tif(tmp_path / "s1.tif", power[:, *TURNS[name]]), s2_offset=0.0)
    assert {"s1.tif:", "s2.tif"} <= set(line.split())
    assert f" is {name}:" in line


def test_radar_that_lies_right_or_shows_nothing_of_the_ground_is_not_warned_of(tmp_path, fields):
    s2, power = fields
    assert not warnings(s2, write_tif(tmp_path / "s1.tif", power), s2_offset=0.0)
    assert not warnings(s2, write_tif(tmp_path / "noise.tif", radar(112)), s2_offset=0.0)
    sea = write_tif(tmp_path / "sea.tif", optical(112), names=list(SEN2_BANDS))
    assert not warnings(sea, write_tif(tmp_path / "s1.tif", power[:, BACK]))


def test_a_part_of_scenes_that_an_area_cuts_out_is_not_looked_at(tmp_path, fields):
    s2, power = fields
    s1 = write_tif(tmp_path / "s1.tif", power[:, BACK])
    with rasterio.open(s2) as file:
        west, south, east, north = rasterio.warp.transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    half = f"{west},{south},{(west + east) / 2},{north}"
    assert warnings(s2, s1, s2_offset=0.0)
    assert not warnings(s2, s1, s2_offset=0.0, area=half)


@pytest.mark.shared
def test_real_radar_lies_right_until_it_is_turned_round(tmp_path, shared_data):
    for site, turn in zip(sorted((shared_data / "scenes").iterdir()), TURNS.values(), strict=True):
        with rasterio.open(site / "s1_rtc_vv_vh_db.tif") as file:
            stored, place = file.read(), {"crs": file.crs, "transform": file.transform}
        for s2 in sorted(site.glob("s2_*.tif")):
            assert not warnings(s2, site / "s1_rtc_vv_vh_db.tif")
        turned = write_tif(tmp_path / "turned.tif", stored[:, *turn], names=["VV", "VH"], **place)
        assert len(warnings(s2, turned)) == 1


def test_pixels_that_are_looked_at_are_not_counted_before_they_are_read(tmp_path, fields):
    s2, power = fields
    spoiled = power.copy()
    spoiled[:, 40:42, 40:42] = 300
    with opened_scene(SceneOptions((s2,), (write_tif(tmp_path / "s1.tif", spoiled),), s2_offset=0.0)) as scene:
        assert scene.losses() == []
        scene.strip(0, scene.grid.height)
        of_radar, _ = scene.losses()  # the other is the corner of one value
    assert of_radar.startswith("s1.tif: 4 pixels ")
