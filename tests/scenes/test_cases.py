"""Real sites changed in one respect, as scripts of the shared folder make them."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from bp_lcz.errors import UserError
from bp_lcz.gate.leakage import find_neighbours
from bp_lcz.scenes.scene import SceneOptions
from bp_lcz.scenes.split import SplitRule, split_folders
from bp_lcz.scenes.tile import TileOptions, cut_scenes
from bp_lcz.so2sat.geo import read_geo_of
from bp_lcz.so2sat.ground import near_across
from tests.scenes.rasters import arrays

pytestmark = pytest.mark.shared
OPTIONS = TileOptions(split=None, stride_m=320)
DENSE = TileOptions(split=None)


@pytest.fixture(scope="module")
def cases(shared_data, tmp_path_factory):
    """Runs a script once and gives the folder of what it made."""
    work = tmp_path_factory.mktemp("cases")
    made: set[str] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("W", str(work))
        patch.syspath_prepend(str(shared_data.parent / "cases"))

        def make(script: str) -> Path:
            if script not in made:
                runpy.run_path(str(shared_data.parent / f"cases/{script}.py"))
                made.add(script)
            return work / script.split("_")[0]

        yield make
    sys.modules.pop("lib", None)


def cut(folder: Path, s1: str, s2: str, out: Path, options: TileOptions = OPTIONS) -> dict[str, np.ndarray]:
    cut_scenes(SceneOptions((folder / f"{s2}.tif",), (folder / f"{s1}.tif",)), out, folder / "lcz.tif", None, options)
    return arrays(out)


def test_one_negative_pixel_makes_no_decibels_and_fill_is_no_data(cases, tmp_path):
    folder = cases("t01_s1_negative")
    clean, negative, filled = (
        cut(folder, f"s1_{name}", "s2", tmp_path / name, DENSE) for name in ("clean", "one_negative", "fill_undeclared")
    )
    np.testing.assert_allclose(negative["sen1"], clean["sen1"], atol=0.2)
    assert (negative["sen1"] != clean["sen1"]).sum(axis=(1, 2, 3)).max() == 1
    assert filled["sen1"].min() > 0


@pytest.mark.parametrize("name", ["db100", "amplitude"])
def test_radar_in_units_of_nobody_is_refused(cases, tmp_path, name):
    folder = cases("t02_s1_scaled_db")
    with pytest.raises(UserError) as caught:
        cut(folder, f"s1_{name}", "s2", tmp_path / "out")
    assert caught.value.where == str(folder / f"s1_{name}.tif")
    assert cut(folder, "s1_db_fill", "s2", tmp_path / "fill")["sen1"].min() > 1e-5


def test_names_of_several_tools_give_the_same_patches(cases, tmp_path):
    folder = cases("t03_s2_band_names")
    names = ("plain", "resolution_suffix", "reducer_suffix", "image_prefix", "common_names")
    first, *others = (cut(folder, "s1", name, tmp_path / name)["sen2"] for name in names)
    for other in others:
        np.testing.assert_array_equal(other, first)


@pytest.mark.parametrize("site", ["new", "new2"])
def test_half_right_tags_are_refused(cases, tmp_path, site):
    folder = cases("t04_s2_scale_tag") / site
    assert np.median(cut(folder, "s1", "untagged", tmp_path / "untagged")["sen2"][..., 0]) < 0.15
    for name in ("scale_only", "offset_twice"):
        with pytest.raises(UserError) as caught:
            cut(folder, "s1", name, tmp_path / name)
        assert caught.value.where == str(folder / f"{name}.tif")


@pytest.mark.parametrize("site", ["new", "new2"])
def test_strips_without_data_in_single_bands_are_dropped_and_hide_no_offset(cases, tmp_path, site):
    folder = cases("t05_s2_swath_edge") / site
    whole, edge, saturated = (
        cut(folder, "s1", name, tmp_path / name, DENSE)["sen2"] for name in ("whole", "edge", "saturated")
    )
    assert len(edge) < len(saturated) < len(whole)
    for values in (edge, saturated):
        assert values.max() <= whole.max()
        assert np.median(values) == pytest.approx(np.median(whole), abs=0.02)


def test_south_up_rasters_give_the_same_patches(cases, tmp_path):
    folder = cases("t06_south_up")
    plain = cut(folder, "s1", "s2", tmp_path / "plain")
    for s1, s2 in (("s1_up", "s2"), ("s1", "s2_up"), ("s1_up", "s2_up")):
        turned = cut(folder, s1, s2, tmp_path / f"{s1}{s2}")
        for key, values in plain.items():
            np.testing.assert_array_equal(turned[key], values)


def test_radar_geometry_is_refused(cases, tmp_path):
    with pytest.raises(UserError, match="terrain-corrected"):
        cut(cases("t07_gcps"), "s1_gcps", "s2", tmp_path / "out")


def test_one_place_in_two_utm_zones_is_divided_without_leakage(cases, tmp_path):
    folder = cases("t38_two_zones")
    parts = []
    for name in "ab":
        parts.append(tmp_path / name)
        scenes = SceneOptions((folder / f"{name}_s2.tif",), (folder / f"{name}_s1.tif",))
        cut_scenes(scenes, parts[-1], folder / f"{name}_lcz.tif", None, OPTIONS)
    one, other = (read_geo_of(part / "patches.h5") for part in parts)
    assert one.epsg[0] != other.epsg[0]
    assert len(near_across(one, other, 320.0)[0])
    with pytest.raises(UserError):  # all of it is seen from both zones
        split_folders(parts, tmp_path / "cities", SplitRule(by="city"))
    split_folders(parts, tmp_path / "blocks", SplitRule(block_m=640.0, shares=(0.4, 0.3, 0.3)))
    assert find_neighbours(tmp_path / "blocks").status == "none"
