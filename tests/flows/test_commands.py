"""What the commands of the flows say where the Prefect server does not answer as it should."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bp_lcz.errors import TemporaryError
from tests.conftest import ROOT
from tests.registry.conftest import server_that_answers

TRAIN = ("flows.train_bp_lcz", "--workspace")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout as far as these commands come."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    return tmp_path


def last_line(folder: Path, url: str, *arguments: str, status: int = 1, **variables: str) -> str:
    """Of a command that must end with this status and without a traceback."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", *arguments],
        cwd=ROOT,
        env=environment | {"PREFECT_API_URL": url, "PREFECT_HOME": str(folder)} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert "hidden" not in done.stdout + done.stderr
    return done.stderr.splitlines()[-1]


def test_a_flow_whose_server_is_not_there_says_how_to_start_one(folder: Path) -> None:
    line = last_line(folder, "http://me:hidden@127.0.0.1:9/api", *TRAIN, str(folder))
    assert line.startswith("error: http://127.0.0.1:9/api: no answer (")
    assert line.endswith("; `make server` starts one")


def test_a_flow_whose_own_server_does_not_start_in_time_says_so(folder: Path) -> None:
    never = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "0"}
    line = last_line(folder, "", *TRAIN, str(folder), status=TemporaryError.status, **never)
    assert line.startswith("error: Prefect: ")


@pytest.mark.parametrize("arguments", [TRAIN, ("flows.operate", "deploy"), ("flows.operate", "worker")])
def test_a_wrong_login_is_one_line_that_names_the_setting(folder: Path, arguments: tuple[str, ...]) -> None:
    with server_that_answers(401) as url:
        line = last_line(folder, f"{url}/api", *arguments, *[str(folder)] * (arguments == TRAIN))
    shown = url.replace("me:hidden@", "")
    assert line == (
        f"error: {shown}/api: the login is missing or wrong (HTTP 401); set PREFECT_API_AUTH_STRING=user:password"
    )


def test_another_server_than_prefect_is_named(folder: Path) -> None:
    with server_that_answers(404) as url:
        line = last_line(folder, f"{url}/api", *TRAIN, str(folder))
    assert line.endswith("/api: HTTP 404; is PREFECT_API_URL the address of a Prefect server?")


def test_the_worker_of_compose_is_a_command_of_this_project(folder: Path) -> None:
    """So it makes its pool and sends the heartbeats by which the server knows a lost machine."""
    worker = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]["worker"]
    python, module, *arguments = [part.replace("${WORK_POOL:-bp-lcz}", "bp-lcz") for part in worker["command"]]
    assert (python, module) == ("python", "-m")
    line = last_line(folder, "http://127.0.0.1:9/api", *arguments, "--wait", "0")
    assert line.startswith("error: http://127.0.0.1:9/api: ")
