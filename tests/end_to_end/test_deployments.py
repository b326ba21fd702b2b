"""A real server, worker and deployments, as `make server`, `make worker` and `make deploy` start them."""

import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml

from tests.conftest import ROOT
from tests.end_to_end.test_smoke import Checkout, set_train
from tests.integration.test_flow import is_alive, wait_for
from tests.so2sat.patches import write_dataset


def test_every_deployment_is_a_flow_of_this_project_on_the_pool() -> None:
    from prefect import Flow
    from prefect.utilities.importtools import import_object

    from flows.operate import POOLS

    content = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    names = set()
    for deployment in content["deployments"]:
        flow = import_object(deployment["entrypoint"])
        assert isinstance(flow, Flow)
        names.add(f"{flow.name}/{deployment['name']}")
        assert deployment["work_pool"]["name"] in POOLS
        assert set(deployment.get("parameters", {})) <= set(flow.parameters.properties)
    assert names >= {
        "train-bp-lcz/demo",
        "train-bp-lcz/paper",
        "reproduce-paper/so2sat",
        "promote/demo",
        "promote/paper",
        "train-trial/trials",
        "map-region/default",
        "map-tile/tiles",
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("command", ["deploy", "worker"])
def test_without_a_server_the_command_says_so_in_one_line(command: str, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    done = subprocess.run(
        [sys.executable, "-m", "flows.operate", command, "--wait", "1"],
        cwd=ROOT,
        env=os.environ | {"PREFECT_API_URL": url, "PREFECT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {url}: ")
    assert "Traceback" not in done.stderr


class Site:
    """A checkout with a server of its own."""

    def __init__(self, checkout: Checkout, home: Path, port: int) -> None:
        self.checkout = checkout
        self.url = f"http://127.0.0.1:{port}/api"
        self.environment = checkout.environment | {
            "PREFECT_API_URL": self.url,
            "PREFECT_HOME": str(home),
            "CUDA_VISIBLE_DEVICES": "",
            "DO_NOT_TRACK": "true",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }

    def command(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.checkout.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, log: Path, *command: str) -> subprocess.Popen[bytes]:
        # As in the background of a script, where SIGINT is ignored.
        background = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
        with log.open("ab") as file:
            return subprocess.Popen(
                [*background, sys.executable, "-m", *command],
                cwd=self.checkout.folder,
                env=self.environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    @contextmanager
    def worker(self, log: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
        worker = self.start(log, "flows.operate", "worker", "--name", name)
        try:
            yield worker
        finally:
            worker.terminate()
            worker.wait()

    def watch(self, deployment: str, **parameters: str) -> subprocess.CompletedProcess[str]:
        options = [option for key, value in parameters.items() for option in ("--param", f"{key}={value}")]
        return self.command("prefect", "deployment", "run", deployment, *options, "--watch")

    def is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    checkout, port = Checkout(folder / "checkout"), free_port()
    site = Site(checkout, folder / "prefect", port)
    server = site.start(folder / "server.log", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    try:
        wait_for(site.is_healthy, server, seconds=600)
        yield site
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_deployment_is_run_by_a_worker_and_watched_to_its_end(site: Site, tmp_path: Path) -> None:
    deployed = site.command("flows.operate", "deploy")
    assert deployed.returncode == 0, deployed.stderr
    assert "  train-bp-lcz/demo" in deployed.stdout.splitlines()
    assert "work pool bp-lcz: no worker yet: run `make worker`" in deployed.stdout

    log = tmp_path / "worker.log"
    with site.worker(log, "first") as worker:
        wait_for(lambda: "worker first is online in work pool bp-lcz" in log.read_text(), worker, seconds=300)
        workspace = site.checkout.workspace("smoke", "--profile", "smoke")

        done = site.watch("train-bp-lcz/demo", workspace=".workspaces/smoke")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:] + log.read_text()[-5000:]
        assert (workspace / "reports/index.html").is_file()

        again = site.watch("train-bp-lcz/demo", workspace=".workspaces/smoke")
        assert again.returncode == 0
        assert "were up to date, none ran" in log.read_text()

        dataset = write_dataset(tmp_path / "so2sat")
        reproduced = site.watch("reproduce-paper/so2sat", dataset=str(dataset))
        assert reproduced.returncode == 1
        assert f"{dataset}: no proof" in log.read_text()
        assert "params.yaml: train.device" in log.read_text(), "the device is asked for before a stage runs"

        claims = site.command("prefect", "artifact", "inspect", "smoke-claims")
        assert "not comparable" in claims.stdout

        promoted = site.watch("promote/demo", workspace=".workspaces/smoke")
        assert promoted.returncode == 0, promoted.stdout[-2000:] + log.read_text()[-5000:]
        assert "bp-lcz-demo version 1: champion" in log.read_text()
        refused = site.watch("promote/demo", workspace=".workspaces/smoke", name="bp-lcz-other")
        assert refused.returncode == 1
        assert "bp-lcz-other: no such registered model" in log.read_text()

        failed = site.watch("train-bp-lcz/demo", workspace=".workspaces/nowhere")
        assert failed.returncode == 1
        assert ".workspaces/nowhere/params.yaml: not found" in log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_run_ends_with_its_killed_worker_and_the_next_goes_on(site: Site, tmp_path: Path) -> None:
    assert site.command("flows.operate", "deploy").returncode == 0
    workspace = site.checkout.workspace("next", "--profile", "smoke")
    set_train(workspace, epochs=8, patience=8)
    log = tmp_path / "worker.log"
    deployment = (
        "prefect",
        "deployment",
        "run",
        "train-bp-lcz/demo",
        "--param",
        "workspace=.workspaces/next",
        "--watch",
    )
    with site.worker(log, "second") as worker:
        run = site.start(tmp_path / "run.log", *deployment)
        wait_for(lambda: ": epoch 3/" in log.read_text(), run, seconds=1200)
        tree = psutil.Process(worker.pid).children(recursive=True)
        (server_side,) = (each for each in tree if "worker start" in " ".join(each.cmdline()))
        server_side.kill()
        assert run.wait(600) == 1
        assert "Crashed" in (tmp_path / "run.log").read_text()
        for process in tree:
            wait_for(lambda process=process: not is_alive(process.pid))
        assert worker.wait(60) == 1
        assert "error: worker second: exit status -9" in log.read_text()

    # A log of its own: the killed worker may have lost lines of epochs that its checkpoint holds.
    log = tmp_path / "third.log"
    with site.worker(log, "third"):
        done = site.command(*deployment)
        assert done.returncode == 0, done.stdout[-2000:] + log.read_text()[-4000:]
        resumed = re.findall(r"(\S+): resuming from", log.read_text())
        assert resumed
        for trial in yaml.safe_load((workspace / "params.yaml").read_text())["trials"]:
            assert log.read_text().count(f"{trial}: epoch 1/") == (trial not in resumed)
