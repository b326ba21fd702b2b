"""Scenes in whatever direction and projection, also across the meridian of 180 degrees."""

import itertools

import numpy as np
import pytest
from affine import Affine
from rasterio.transform import from_origin
from rasterio.warp import transform

from bp_lcz.errors import UserError
from tests.scenes.rasters import NORTH, WEST, arrays, optical, radar, run, write_tif, zones


def test_rasters_stored_in_other_directions_give_the_same_patches(scene, tmp_path):
    run(scene, tmp_path / "plain")
    expected = arrays(tmp_path / "plain"), arrays(tmp_path / "plain", "patches_geo.h5")
    contents = {"s1": radar(), "s2": optical(), "labels": zones()}
    for number, (key, down, right) in enumerate(itertools.product(contents, (1, -1), (1, -1))):
        place = Affine(10 * right, 0, WEST if right > 0 else WEST + 920, 0, -10 * down, NORTH - 920 * (down < 0))
        turned = write_tif(tmp_path / f"{number}.tif", contents[key][:, ::down, ::right], transform=place)
        run(scene | {key: turned}, tmp_path / f"out{number}")
        out = tmp_path / f"out{number}"
        for before, after in zip(expected, (arrays(out), arrays(out, "patches_geo.h5")), strict=True):
            for name in before.keys() - {"city"}:
                np.testing.assert_array_equal(after[name], before[name])


@pytest.mark.parametrize("west", [179.98, -180.02], ids=["from the west", "from the east"])
@pytest.mark.parametrize("grid", ["10 m", "20 m", "degrees", "Mercator"])
def test_nothing_is_lost_across_180_degrees(tmp_path, west, grid):
    (x,), (y,) = transform("EPSG:4326", "EPSG:32701", [180.0], [-17.0])
    side, step = 400, 0.04 / 400
    degrees = {"crs": "EPSG:4326", "transform": from_origin(west, -16.98, step, step)}
    metres = int(grid[:2]) if grid.endswith(" m") else 0
    own = {"crs": "EPSG:32701", "transform": from_origin(round(x - 500, -1), round(y + 500, -1), metres, metres)}
    own |= {"crs": "EPSG:4326", "transform": from_origin(west + 0.015, -16.995, step, step)} if not metres else {}
    if grid == "Mercator":
        (middle,), (top,) = transform("EPSG:4326", "EPSG:3857", [np.sign(west) * 180], [-16.995])
        own = {"crs": "EPSG:3857", "transform": from_origin(middle - 500, top, 10.5, 10.5)}
    scene = {
        "s1": write_tif(tmp_path / "s1.tif", radar(side), **degrees),
        "s2": write_tif(tmp_path / "s2.tif", optical(100), **own),
        "labels": write_tif(tmp_path / "lcz.tif", np.full((1, side, side), 17, np.uint8), **degrees),
    }
    lines = run(scene, tmp_path / "out")
    # Only where a rectangle in degrees is none in metres is a rim without data.
    lost = next(int(line.split()[0]) for line in lines if "without data" in line)
    assert lost <= (0 if metres else 30)
    assert set(arrays(tmp_path / "out", "patches_geo.h5")["epsg"].ravel()) <= {32701, 32760}


def test_outside_a_raster_of_labels_there_are_none(scene, tmp_path):
    (tmp_path / "map.json").write_text('{"0": "D", "17": "G"}')
    scene["labels"] = write_tif(tmp_path / "half.tif", np.full((1, 92, 46), 17, np.uint8))
    run(scene, tmp_path / "out", label_map=tmp_path / "map.json")
    assert (arrays(tmp_path / "out")["label"].argmax(axis=1) == 16).all()


@pytest.mark.parametrize("key", ["s1", "s2"])
@pytest.mark.parametrize("fill", [-9999, 0, 9999])
def test_fill_does_not_bleed_into_its_neighbours_where_a_scene_is_warped(scene, tmp_path, key, fill):
    values = (radar() if key == "s1" else optical()).astype(np.float32)
    low, high = values.min(axis=(1, 2)), values.max(axis=(1, 2))
    values[:, 40:43, 40:43] = fill
    scene[key] = write_tif(tmp_path / "holed.tif", values, transform=from_origin(WEST - 3, NORTH + 3, 10.4, 10.4))
    run(scene, tmp_path / "out")
    found = arrays(tmp_path / "out")["sen1" if key == "s1" else "sen2"]
    low, high = [10 ** (bound[::-1] / 10) for bound in (low, high)] if key == "s1" else (low / 1e4, high / 1e4)
    assert 0 < len(found) < 49
    assert (found >= low * 0.999).all()
    assert (found <= high * 1.001).all()


@pytest.mark.parametrize(
    "profile",
    [
        {"crs": 'LOCAL_CS["a site",UNIT["metre",1]]'},
        {"transform": Affine(10, 0, WEST, 10, 0, NORTH)},
        {"transform": from_origin(1e30, NORTH, 10, 10)},
    ],
    ids=["a system of its own", "a grid without area", "beyond the Earth"],
)
def test_a_raster_that_lies_nowhere_is_refused(scene, tmp_path, profile):
    with pytest.raises(UserError) as caught:
        run(scene | {"s2": write_tif(tmp_path / "nowhere.tif", optical(), **profile)}, tmp_path / "out")
    assert caught.value.where == str(tmp_path / "nowhere.tif")
    assert not (tmp_path / "out").exists()
