"""The last look: what was stored is shown, and refused or warned of where it cannot be."""

import numpy as np
import pytest

from tests.refusals import refuses
from tests.scenes.rasters import optical, radar, run, write_tif


def warnings_of(lines: list[str]) -> str:
    return "\n".join(line for line in lines if line.startswith("warning"))


def test_stored_values_are_shown_beside_those_of_so2sat(scene, tmp_path):
    lines = run(scene, tmp_path / "out")
    shown = {
        line.split()[0]: [float(number) for number in line.split()[1:]] for line in lines if line[:2] in ("B0", "VV")
    }
    assert shown["B02"][1:] == pytest.approx([0.1024, 0.1049, 0.1238], abs=5e-3)
    low, median, high, published = shown["VV_lee_intensity"]
    assert low < median < high
    assert published == 0.2576


def test_an_offset_that_is_told_and_cannot_be_leaves_nothing(scene, tmp_path):
    scene["s2"] = write_tif(tmp_path / "dark.tif", (optical() // 2).astype(np.uint16))
    with refuses(tmp_path / "dark.tif"):
        run(scene, tmp_path / "out", s2_offset=1000.0)
    assert not (tmp_path / "out").exists()


def test_values_of_one_band_that_no_backscatter_has_leave_nothing(scene, tmp_path):
    values = 10 ** (radar() / 10)
    values[1, :, :20] = np.random.default_rng(0).uniform(200, 300, (92, 20))
    scene["s1"] = write_tif(tmp_path / "bright.tif", values)
    with refuses(tmp_path / "bright.tif"):
        run(scene, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_zones_that_are_too_large_or_have_other_colours_are_warned_of(scene, tmp_path):
    values = optical()
    values[6], values[7], values[9] = 6000, 6100, 500  # green everywhere
    scene["s2"] = write_tif(tmp_path / "green.tif", values)
    scene["labels"] = write_tif(tmp_path / "cover.tif", np.ones((1, 92, 92), np.uint8))
    said = warnings_of(run(scene, tmp_path / "out"))
    assert "LCZ 1 (Compact high-rise) are 100% of all patches" in said
    assert "NDVI" in said


def test_likely_zones_are_not_warned_of(scene, tmp_path):
    values = optical()
    values[3:, :, :46] = np.random.default_rng(2).integers(30, 70, (7, 92, 46))  # water in the west
    scene["s2"] = write_tif(tmp_path / "lake.tif", values)
    assert not warnings_of(run(scene, tmp_path / "out"))
