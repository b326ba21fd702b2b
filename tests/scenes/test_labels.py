"""Rasters that are taken for zones, and those that are not."""

import numpy as np
import pytest

from tests.refusals import refuses
from tests.scenes.rasters import arrays, run, write_tif, zones


def test_of_a_map_of_the_lcz_generator_the_band_of_zones_is_taken_and_said(scene, tmp_path):
    three = np.concatenate([np.full_like(zones(), 6), zones(), np.full_like(zones(), 80)]).astype(np.int16)
    scene["labels"] = write_tif(tmp_path / "map.tif", three, names=["lczFilter", "lcz", "classProbability"])
    lines = run(scene, tmp_path / "out")
    assert set(arrays(tmp_path / "out")["label"].argmax(axis=1)) == {1, 16}
    assert any(line.startswith("map.tif: band 2 (lcz) of 3") for line in lines)


@pytest.mark.parametrize("names", [None, ["zone", "filtered"]])
def test_several_bands_without_one_of_zones_are_refused(scene, tmp_path, names):
    scene["labels"] = write_tif(tmp_path / "map.tif", np.concatenate([zones(), zones()]), names=names)
    with refuses(tmp_path / "map.tif", "bands", "lcz"):
        run(scene, tmp_path / "out")


def test_interpolated_classes_are_refused(scene, tmp_path):
    scene["labels"] = write_tif(tmp_path / "map.tif", zones().astype(np.float32) / 2)
    with refuses(tmp_path / "map.tif", "whole numbers"):
        run(scene, tmp_path / "out")
