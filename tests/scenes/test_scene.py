"""Strips of scenes on a grid of cells, whatever rows are asked for."""

import numpy as np
import pytest
from rasterio.transform import from_origin

from bp_lcz.errors import UserError
from bp_lcz.scenes.scene import SceneOptions, opened_scene
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


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "nothing"])
def test_a_grid_that_is_no_metres_of_the_ground_is_refused(tmp_path, crs):
    s2 = write_tif(tmp_path / "s2.tif", optical())
    with pytest.raises(UserError) as caught, opened_scene(SceneOptions((s2,), crs=crs)):
        pass
    assert caught.value.where == f"--crs {crs}"
