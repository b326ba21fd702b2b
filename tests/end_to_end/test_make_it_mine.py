"""From polygons that somebody drew to a model and maps of one's own: the commands of docs/own-data.md, as users type them.

The pixels are real. The polygons come from a map of land cover, so every number here is of weak labels.
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import rasterio
import yaml

from bp_lcz.records import Accuracy, Decision, Evaluation, MapReport
from bp_lcz.registry.connection import open_store
from bp_lcz.registry.versions import find_champion
from tests.end_to_end.test_deployments import free_port
from tests.end_to_end.test_smoke import Checkout
from tests.end_to_end.village import RADAR, areas, product, tiles
from tests.integration.test_flow import wait_for
from tests.so2sat.servers import Manners, http_server

pytestmark = [pytest.mark.slow, pytest.mark.shared, pytest.mark.timeout(3600)]

SITE = "scenes/433D_629L_3_1"
WEIGHTS = "weights/sen2lcz_drop_32_weights.best.hdf5"
CHAMPION = "models:/bp-lcz-araucania@champion"


class Terminal:
    """A shell in a fresh checkout with an environment and a server of its own."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.typed = Checkout(folder / "checkout"), folder / "typed.txt"
        environment = self.checkout.folder / ".venv"
        environment.mkdir()
        for part in Path(sys.prefix).iterdir():
            (environment / part.name).symlink_to(part)
        (environment / ".installed").unlink(missing_ok=True)
        (environment / ".installed").touch()
        self.environment = self.checkout.environment

    def run(self, command: str, status: int = 0) -> str:
        """What a command prints that ends so."""
        done = subprocess.run(
            shlex.split(command),
            cwd=self.checkout.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        with self.typed.open("a") as file:
            file.write(f"$ {command}\n{done.stdout}{done.stderr}\n")
        assert done.returncode == status, f"$ {command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def decision(self, floor: float, status: int) -> Decision:
        """What promotion comes to with a floor of kappa that stands in the parameters meanwhile."""
        file = self.checkout.folder / "params.yaml"
        committed = file.read_text()
        file.write_text(yaml.safe_dump({**yaml.safe_load(committed), "promote": {"kappa_floor": floor}}))
        try:
            return Decision.parse(self.run("bp-lcz promote bp-lcz-araucania --json", status).encode(), "decision")
        finally:
            file.write_text(committed)

    @contextmanager
    def background(self, command: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        with log.open("wb") as file:
            process = subprocess.Popen(
                shlex.split(command),
                cwd=self.checkout.folder,
                env=self.environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


@contextmanager
def workers(terminal: Terminal, folder: Path) -> Iterator[None]:
    """A Prefect server with its deployments, and a worker of each pool."""
    port = str(free_port())
    terminal.environment |= {
        "PREFECT_SERVER_API_PORT": port,
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
    }
    terminal.run("make server")
    try:
        terminal.run("make deploy")
        with ExitStack() as stack:
            for pool in ("bp-lcz", "bp-lcz-trials"):
                log = folder / f"{pool}.log"
                worker = stack.enter_context(terminal.background(f"make worker POOL={pool} LIMIT=1", log))
                wait_for(lambda log=log: "is online in work pool" in log.read_text(), worker, seconds=300)
            yield
    finally:
        terminal.run("make server-stop")


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Terminal:
    """With the published weights, from a server on this machine."""
    terminal = Terminal(tmp_path_factory.mktemp("mine"))
    weights = shared_data / WEIGHTS
    with http_server(weights.parent, Manners()) as address:
        terminal.run(f"bp-lcz pretrained sen2lcz-mf --url {address}/{weights.name} --out models/sen2lcz-mf")
    return terminal


def champion_of(terminal: Terminal) -> int | None:
    """Version that maps and serves."""
    with open_store(terminal.checkout.folder) as client:
        champion = find_champion(client, "bp-lcz-araucania")
    return None if champion is None else int(champion.version)


def test_four_commands_lead_from_polygons_to_a_region_by_a_model_of_one_s_own(
    terminal: Terminal, shared_data: Path, tmp_path: Path
) -> None:
    site, data = shared_data / SITE, tmp_path / "araucania"
    scene, region = product(site, tmp_path), tiles(site, tmp_path / "tiles")
    drawn, known = areas(site, tmp_path / "areas.kml"), areas(site, tmp_path / "areas_2.kml", beside=True)

    scenes = f"--s2 {scene} --s1 {site / RADAR}"
    tiled = terminal.run(f"bp-lcz tile {scenes} --labels {drawn} --out {data}")
    assert "weak labels" in tiled
    assert {path.name for path in data.glob("*[!o].h5")} == {"training.h5", "validation.h5", "testing.h5"}

    made = terminal.run(f"make reproduce DATASET={data} START=models/sen2lcz-mf")
    assert "weak labels" in made
    assert "registered  bp-lcz-araucania version 1 @challenger" in made
    workspace = terminal.checkout.folder / ".workspaces/araucania"
    assert "weak labels" in (workspace / "reports/index.html").read_text()

    # Whether a dozen patches exceed the floor of a checkout is chance: the floor stands where kappa is known to lie.
    evaluations = [Evaluation.read(file) for file in (workspace / "outputs/evaluations").glob("*/evaluation.json")]
    best = next(each for each in evaluations if f"(trial {each.trial})" in made)
    assert best.kappa is not None
    refused = terminal.decision(floor=best.kappa + 0.01, status=1)
    assert not refused.accepted
    assert champion_of(terminal) is None
    accepted = terminal.decision(floor=best.kappa - 0.01, status=0)
    assert accepted.accepted
    assert champion_of(terminal) == 1
    for decision in (refused, accepted):
        assert decision.candidate is not None
        assert decision.candidate.tags.trial == best.trial
        assert decision.candidate.kappa == pytest.approx(best.kappa)
        assert f"{best.kappa:.3f}" in decision.reason
        assert f"{decision.kappa_floor:.3f}" in decision.reason

    out = tmp_path / "village"
    mapped = terminal.run(f"bp-lcz map {CHAMPION} {scenes} --reference {known} --out {out}")
    assert "weak labels" in mapped
    found = Accuracy.read(out / "accuracy.json")
    assert found.units == 12
    assert found.metrics["oa"].value is not None
    report = MapReport.read(out / "report.json")
    assert report.model.name == "bp-lcz-araucania/1"
    with rasterio.open(out / "lcz.tif") as file:
        assert (file.read(1) > 0).sum() == sum(report.zones.values()) > 300
    assert "weak labels" in (out / "map.html").read_text()

    with workers(terminal, tmp_path):
        run = "prefect deployment run map-region/default"
        terminal.run(f"{run} --param tiles={region} --param model={CHAMPION} --watch")
    together = tmp_path / "tiles-lcz"
    with rasterio.open(together / "lcz-epsg-32718.vrt") as file:
        assert (file.read(1) > 0).sum() > 300
    page = (together / "index.html").read_text()
    assert page.count("<td>made</td>") == 2
    assert "weak labels" in page
