"""The tiles of a region on two workers, of which one is killed at work."""

from pathlib import Path

import psutil
import pytest

from bp_lcz.model.checkpoint import write_checkpoint
from tests.end_to_end.test_deployments import Site, site  # noqa: F401
from tests.end_to_end.test_matrix import clones, power_off, start_worker  # noqa: F401
from tests.integration.test_flow import wait_for
from tests.maps.scenes import classifier_of
from tests.scenes.rasters import WEST, optical, write_tif

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SIDE = 932
"""Pixels along a side of a tile, which is at work long enough to be killed with some rows done."""


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("region") / "tiles"
    folder.mkdir()
    for number, name in enumerate("abc"):
        write_tif(folder / f"{name}.tif", optical(SIDE, seed=number), west=WEST + 8_000 * number)
    model = folder.parent / "model"
    model.mkdir()
    classifier = classifier_of("sen2lcz_mf")
    write_checkpoint(model, classifier.network, classifier.description)
    return folder


def at_work(out: Path, worker: psutil.Process) -> str | None:
    """The tile that a worker makes, once some of its rows are on the disk."""
    own = {worker.pid, *(child.pid for child in worker.children(recursive=True))}
    for rows in out.glob("tiles/.*.work/*.rows"):
        tile = rows.parent.name[1:].removesuffix(".work")
        holder = (out / "tiles" / f".{tile}.lock").read_text()
        if rows.stat().st_size and holder.isdecimal() and int(holder) in own:
            return tile
    return None


def results(region: Path) -> dict[str, bytes]:
    """Files of a region whose bytes do not tell where it lies or what was kept."""
    files = [*region.glob("*.vrt"), region / "areas.csv", *region.glob("tiles/[a-z]/*.*")]
    return {str(file.relative_to(region)): file.read_bytes() for file in files}


def test_a_killed_worker_s_tile_is_finished_by_the_other_with_equal_bytes(
    site: Site,  # noqa: F811
    clones: list[Path],  # noqa: F811
    tiles: Path,
    tmp_path: Path,
) -> None:
    assert site.command("flows.operate", "deploy").returncode == 0
    out, model = tmp_path / "shared", str(tiles.parent / "model")
    common = ("flows.map_region", "--tiles", str(tiles), "--model", model)
    logs = [tmp_path / f"{clone.name}.log" for clone in clones]
    workers = [start_worker(site, clone, log) for clone, log in zip(clones, logs, strict=True)]
    run_log = tmp_path / "run.log"
    try:
        run = site.start(run_log, *common, "--workers", "--verbose", "--out", str(out))
        first = psutil.Process(workers[0].pid)
        wait_for(lambda: at_work(out, first), run, seconds=600)
        killed = at_work(out, first)
        power_off(workers[0])
        assert killed is not None
        assert not (out / "tiles" / killed).exists()
        assert run.wait(1200) == 0, run_log.read_text()[-4000:]
        assert f"{killed}: no heartbeat" in run_log.read_text()
        assert "goes on from row" in logs[1].read_text()

        alone = site.command(*common, "--out", str(tmp_path / "alone"))
        assert alone.returncode == 0, alone.stderr[-4000:]
        assert results(out) == results(tmp_path / "alone")

        log = tmp_path / "region.log"
        with site.worker(log, "region") as worker:
            wait_for(lambda: "worker region is online" in log.read_text(), worker, seconds=300)
            again = site.watch("map-region/default", tiles=str(tiles), model=model, out=str(out))
            assert again.returncode == 0, again.stdout[-2000:] + log.read_text()[-4000:]
        assert (out / "index.html").read_text().count("<td>kept</td>") == 3
        assert results(out) == results(tmp_path / "alone")
    finally:
        for process in workers:
            if process.poll() is None:
                power_off(process)
