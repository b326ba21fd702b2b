"""Two maps of the same scenes against a reference."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio

from bp_lcz.maps.contest import contest
from bp_lcz.maps.map import MapOptions, make_map
from bp_lcz.maps.outputs import REPORT
from bp_lcz.records import MapContest
from bp_lcz.scenes.scene import SceneOptions
from bp_lcz.scoring.metrics import confusion_matrix, kappa
from tests.maps.rasters import patchy, write_cells
from tests.maps.scenes import classifier_of
from tests.refusals import refuses
from tests.scenes.rasters import optical, write_tif

SIDE = 452


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``own`` and ``theirs`` of two models, and the scene of both."""
    folder = tmp_path_factory.mktemp("contest")
    write_tif(folder / "scene.tif", optical(SIDE))
    options = MapOptions(SceneOptions((folder / "scene.tif",)))
    report = make_map(classifier_of(), "own", options, folder / "own", lambda _: None)
    shutil.copytree(folder / "own", folder / "theirs")
    other = report.model.model_copy(update={"weights_sha256": "1" * 64})
    report.model_copy(update={"model": other}).write(folder / "theirs" / REPORT)
    return folder


def between(folder: Path, reference: Path) -> MapContest:
    return contest(folder / "own", folder / "theirs", reference, samples=200, seed=1)


def test_the_lead_is_that_of_the_cells_with_all_three_zones_and_sees_blocks(maps: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    zones = {}
    for name in ("own", "theirs"):
        with rasterio.open(maps / name / "lcz.tif") as file:
            zones[name], place = file.read(1), file.transform
    true = patchy(max(zones["own"].shape))[: zones["own"].shape[0], : zones["own"].shape[1]].copy()
    true[rng.random(true.shape) < 0.1] = 0
    folder = tmp_path / "maps"
    shutil.copytree(maps, folder)
    for name, right in (("own", 0.9), ("theirs", 0.5)):
        guessed = np.where(rng.random(true.shape) < right, true, rng.integers(1, 18, true.shape)).astype(np.uint8)
        zones[name] = np.where(zones[name] > 0, guessed, 0)
        write_cells(folder / name / "lcz.tif", zones[name], transform=place, nodata=0)
    reference = write_cells(tmp_path / "zones.tif", true, transform=place, nodata=0)
    found = between(folder, reference)
    known = (true > 0) & (zones["own"] > 0) & (zones["theirs"] > 0)
    assert found.cells == known.sum() > 500
    kappas = [
        float(kappa(confusion_matrix(true[known].astype(int) - 1, zones[name][known].astype(int) - 1)))
        for name in ("own", "theirs")
    ]
    assert [found.candidate_kappa, found.champion_kappa] == pytest.approx(kappas)
    low, high = found.lead_interval or (0, 0)
    assert 0 < low < (found.lead or 0) < high
    ground = {((place.f - 100 * n - 50) // 1000, (place.c + 100 * e + 50) // 1000) for n, e in np.argwhere(known)}
    assert (found.unit, found.units) == ("block of 1 km", len(ground))
    assert (found.candidate_sha256 == "1" * 64, found.champion_sha256) == (False, "1" * 64)


def test_maps_of_other_scenes_or_options_decide_nothing(maps: Path, tmp_path: Path) -> None:
    reference = write_cells(tmp_path / "zones.tif", patchy(), nodata=0)
    write_tif(tmp_path / "other.tif", optical(SIDE, seed=3))
    options = MapOptions(SceneOptions((tmp_path / "other.tif",)))
    make_map(classifier_of(), "other", options, tmp_path / "theirs", lambda _: None)
    with refuses(tmp_path / "theirs", maps / "own", "inputs"):
        contest(maps / "own", tmp_path / "theirs", reference, samples=20, seed=1)
    with refuses(maps / "nowhere" / REPORT):
        contest(maps / "nowhere", maps / "theirs", reference, samples=20, seed=1)
    with refuses(tmp_path / "far.tif"):
        far = write_cells(
            tmp_path / "far.tif", patchy(), nodata=0, transform=rasterio.transform.from_origin(0, 0, 100, 100)
        )
        between(maps, far)
