"""deploy/compose.yaml, as far as it can be judged without a container engine."""

import inspect
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FILE = ROOT / "deploy/compose.yaml"
DOCKERFILE = (FILE.parent / "Dockerfile").read_text()
PINS = (ROOT / "constraints.txt").read_text().splitlines()
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
    stages = set(re.findall(r"^FROM \S+ AS (\w+)", DOCKERFILE, re.MULTILINE))
    volumes = yaml.safe_load(FILE.read_text())["volumes"]
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (FILE.parent / source).exists() if source.startswith(".") else source in volumes
        if "build" in service:
            assert service["build"]["target"] in stages
            assert (FILE.parent / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_what_the_images_copy_is_committed_and_all_that_the_engine_gets() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE)
    paths = {path for line in copied for path in line.split()}
    sent = set(re.findall("^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert paths == sent
    for path in paths:
        assert subprocess.run(["git", "-C", ROOT, "ls-files", "--", path], capture_output=True, check=True).stdout, path
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {settings["readme"], "LICENSE"} <= paths  # what a build of the package reads
    assert "flows" in settings["optional-dependencies"]


def test_libraries_of_the_images_are_pinned_and_those_of_the_extra_servers() -> None:
    (line,) = re.findall(r"^RUN pip install -c /tmp/constraints.txt (prefect .+)$", DOCKERFILE, re.MULTILINE)
    wanted = set(map(name_of, shlex.split(line)))
    pinned = {name_of(text) for text in PINS if "==" in text}
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["servers"]
    assert wanted <= pinned
    assert wanted - {"prefect", "mlflow", "fastapi"} == set(map(name_of, extra)) - {"botocore"}


def test_commands_have_the_options_that_they_are_started_with(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.cli import cli
    from prefect.cli.server import start

    from flows import operate

    commands = {name: [expanded(word) for word in service.get("command", [])] for name, service in services.items()}
    assert commands["prefect"][:3] == ["prefect", "server", "start"]
    assert options(commands["prefect"]) <= {f"--{name}" for name in inspect.signature(start).parameters}
    assert commands["mlflow"][:2] == ["mlflow", "server"]
    assert options(commands["mlflow"]) <= {name for param in cli.commands["server"].params for name in param.opts}
    started: list[tuple[Any, ...]] = []
    monkeypatch.setattr(operate, "_await_server", lambda _: "client")
    monkeypatch.setattr(operate, "start_worker", lambda *arguments: started.append(arguments))
    assert commands["worker"][:3] == ["python", "-m", operate.__name__]
    monkeypatch.setattr("sys.argv", commands["worker"][2:])
    operate.main()
    assert started[0][:2] == ("client", "bp-lcz")


def test_servers_listen_beyond_their_container_and_are_reached_at_their_own_ports(services: dict[str, Any]) -> None:
    ports = {"prefect": "4200", "mlflow": "5000"}
    for name, port in ports.items():
        command = services[name]["command"]
        assert command[command.index("--host") + 1] == "0.0.0.0"
        assert f"http://127.0.0.1:{port}/" in services[name]["healthcheck"]["test"][-1]
    worker = services["worker"]["environment"]
    assert worker["PREFECT_API_URL"] == f"http://prefect:{ports['prefect']}/api"
    assert worker["MLFLOW_TRACKING_URI"] == f"http://mlflow:{ports['mlflow']}"
    # MLflow answers no other host names than these.
    assert "mlflow:5000" in services["mlflow"]["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")


def test_every_setting_is_one_that_its_server_knows(services: dict[str, Any]) -> None:
    """A mistyped one would be ignored without a word."""
    import mlflow.environment_variables
    from mlflow.cli import cli
    from prefect.settings import Settings
    from prefect.settings.legacy import _get_settings_fields

    known = set(_get_settings_fields(Settings)) | set(vars(mlflow.environment_variables))
    known |= {param.envvar for param in cli.commands["server"].params if isinstance(param.envvar, str)}
    used = {name for service in services.values() for name in service["environment"]}
    used |= set(re.findall(r"(\w+)=", "".join(re.findall(r"^ENV (.+\n.+)$", DOCKERFILE, re.MULTILINE))))
    assert len(used) > 20
    assert {name for name in used if name.startswith(("PREFECT_", "MLFLOW_"))} <= known


def name_of(requirement: str) -> str:
    (name,) = re.findall(r"^[\w-]+", requirement)
    return name.lower()


def expanded(word: str) -> str:
    """As compose gives it where the environment says nothing."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word)


def options(command: list[str]) -> set[str]:
    return {word for word in command if word.startswith("--")}


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
