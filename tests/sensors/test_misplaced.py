"""Bands that do not lie on each other are warned of."""

import numpy as np
import pytest

from bp_lcz.bands import SEN2_BANDS
from bp_lcz.scenes.scene import SceneOptions, opened_scene
from tests.scenes.rasters import real_scenes, write_tif


def said(tmp_path, values: np.ndarray) -> list[str]:
    path = write_tif(tmp_path / "s2.tif", values, names=list(SEN2_BANDS))
    with opened_scene(SceneOptions((path,), s2_level="L2A")) as scene:
        return [line for line in scene.lines if "do not lie on each other" in line]


def fields(side: int = 220) -> np.ndarray:
    """Digital numbers of fields of 5 x 5 pixels, each as bright as it is in all bands, with noise."""
    rng = np.random.default_rng(0)
    bright = np.kron(rng.uniform(0.5, 1.5, (side // 5, side // 5)), np.ones((5, 5)))
    level = np.array([900, 800, 700, 900, 1200, 1300, 1400, 1500, 1600, 1300])[:, None, None]
    return (level * bright + rng.normal(0, 30, (10, side, side))).clip(20).astype(np.uint16)


@pytest.mark.parametrize(("moved", "names"), [("B06", ["B05", "B07"]), ("B12", ["B11"]), ("B02", ["B03"])])
def test_a_band_that_is_moved_is_told_with_its_neighbours(tmp_path, moved, names):
    values = fields()
    band = SEN2_BANDS.index(moved)
    values[band] = np.roll(values[band], (4, 10), axis=(0, 1))
    lines = said(tmp_path, values)
    assert len(lines) == len(names)
    for line, name in zip(lines, names, strict=True):
        assert {moved, name} <= set(line.replace(":", "").split())
        assert "4 rows" in line
        assert "10 columns" in line


def test_bands_that_lie_on_each_other_and_noise_are_not_warned_of(tmp_path):
    assert not said(tmp_path, fields())
    noise = np.random.default_rng(0).integers(900, 1100, (10, 220, 220)).astype(np.uint16)
    noise[:, :5] = np.arange(300, 1300, 100)[:, None, None]
    assert not said(tmp_path, noise + np.linspace(0, 400, 220).astype(np.uint16))


@pytest.mark.shared
def test_real_bands_lie_on_each_other_until_one_is_moved(tmp_path, shared_data):
    for ten in real_scenes(shared_data):
        for row, column in ((0, 0), (0, 112), (112, 0), (112, 112)):
            assert not said(tmp_path, ten[:, row : row + 112, column : column + 112])
        ten[1] = np.roll(ten[1], 10, axis=1)
        assert any("B03" in line for line in said(tmp_path, ten))
