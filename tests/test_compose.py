"""deploy/compose.yaml, as far as it can be judged without a container engine."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FILE = ROOT / "deploy/compose.yaml"
SECRETS = {
    "POSTGRES_PASSWORD",
    "PREFECT_SERVER_API_AUTH_STRING",
    "MLFLOW_AUTH_ADMIN_PASSWORD",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())["services"]


def test_every_secret_is_asked_for(services: dict[str, Any]) -> None:
    asked = set(re.findall(r"\$\{(\w+):\?", FILE.read_text()))
    assert asked == SECRETS
    for service in services.values():
        for variable, value in service["environment"].items():
            if re.search("PASSWORD|SECRET|KEY|AUTH_STRING", variable):
                assert value is None or re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), f"{variable} has a value of its own"
            assert not re.search(r"://[^/@]*:[^/@]*@", value or ""), f"{variable} has a password in a URL"


def test_services_start_after_the_healthy_ones_that_they_need(services: dict[str, Any]) -> None:
    assert services.keys() == {"postgres", "prefect", "mlflow", "worker"}
    for name, service in services.items():
        assert ("image" in service) != ("build" in service)
        for needed, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}
            assert "healthcheck" in services[needed], f"{name} waits for the health of {needed}"


def test_ports_are_published_on_localhost_by_default(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published == ["${BIND_ADDRESS:-127.0.0.1}:4200:4200", "${BIND_ADDRESS:-127.0.0.1}:5000:5000"]


def test_files_volumes_and_build_stages_exist(services: dict[str, Any]) -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\w+)", (FILE.parent / "Dockerfile").read_text(), re.MULTILINE))
    volumes = yaml.safe_load(FILE.read_text())["volumes"]
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (FILE.parent / source).exists() if source.startswith(".") else source in volumes
        if "build" in service:
            assert service["build"]["target"] in stages
            assert (FILE.parent / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("missing", [None, "MLFLOW_FLASK_SERVER_SECRET_KEY"])
def test_compose_reads_the_file_and_names_a_missing_secret(missing: str | None, tmp_path: Path) -> None:
    compose = shutil.which("docker-compose")
    if compose is None:
        pytest.skip("docker-compose not found: apt-get install docker-compose")
    # Version 1, which Debian has, does not know the project's name.
    text = re.sub("^name:.*$", "", FILE.read_text(), flags=re.MULTILINE)
    environment = {"PATH": "/usr/bin:/bin", **{name: "x" for name in SECRETS if name != missing}}
    done = subprocess.run(
        [compose, "-f", "-", "config", "--quiet"],
        input=text,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if missing is None:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode != 0
        assert f"${{{missing}:?" in done.stderr
