import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from bp_lcz.model.checkpoint import load_classifier
from bp_lcz.registry.mirror import mirror_trials
from bp_lcz.registry.package import example_patches
from bp_lcz.registry.register import register_best
from flows.servers import Server, find_running, mlflow_server, prefect_server, start, stop
from tests.integration.postgres import Postgres, free_port, running_postgres
from tests.refusals import refuses
from tests.registry.conftest import FinishedWorkspace

ROOT = Path(__file__).parents[2]
PREFECT_DATABASE, MLFLOW_DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL", "MLFLOW_BACKEND_STORE_URI"
PASSWORD = "correct horse battery"
LOGIN = {"MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD, "MLFLOW_FLASK_SERVER_SECRET_KEY": "secret of a form"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".servers"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


def clean_environment(**settings: str) -> dict[str, str]:
    """This environment without settings that a developer may have, with some of our own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PG", "AWS_"))}
    kept = {key: value for key, value in kept.items() if not key.startswith(("PREFECT_API_", "PREFECT_SERVER_API_"))}
    return kept | settings


def answer(url: str, login: str | None = None, **headers: str) -> int:
    """HTTP status of a request."""
    if login is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def command_lines(server: psutil.Process) -> str:
    return "\n".join(" ".join(process.cmdline()) for process in (server, *server.children(recursive=True)))


def written_text(folder: Path) -> str:
    return "\n".join(file.read_text(errors="replace") for file in folder.iterdir())


# Without a server: what is refused, and how settings are read.


def test_without_settings_servers_bind_to_localhost_and_use_sqlite(folder: Path) -> None:
    prefect, mlflow = prefect_server({}), mlflow_server({}, folder)
    assert (prefect.host, prefect.port) == ("127.0.0.1", 4200)
    assert (mlflow.host, mlflow.port) == ("127.0.0.1", 5000)
    assert (prefect.page, mlflow.page) == ("", "/#/experiments?workflowType=machine_learning")
    assert mlflow.environment["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{folder.parent}/mlflow.db"
    assert prefect.clients == {"PREFECT_API_URL": "http://127.0.0.1:4200/api"}
    assert mlflow.clients == {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "team.example.org"])
def test_an_address_that_others_can_reach_needs_every_secret(host: str, folder: Path) -> None:
    with refuses("PREFECT_SERVER_API_AUTH_STRING", "not set", host):
        prefect_server({"PREFECT_SERVER_API_HOST": host})
    complete = {"MLFLOW_HOST": host, "MLFLOW_SERVER_ALLOWED_HOSTS": "team.example.org", **LOGIN}
    assert "basic-auth" in mlflow_server(complete, folder).command
    for variable in ("MLFLOW_SERVER_ALLOWED_HOSTS", *LOGIN):
        for missing in ({}, {variable: ""}):
            with refuses(variable, "not set", host):
                mlflow_server({key: value for key, value in complete.items() if key != variable} | missing, folder)


@pytest.mark.parametrize("login", ["admin", "admin:", ":" + PASSWORD, "admin:short"])
def test_a_weak_login_is_refused_wherever_the_server_binds(login: str, folder: Path) -> None:
    with refuses("PREFECT_SERVER_API_AUTH_STRING", "user:password", 12) as caught:
        prefect_server({"PREFECT_SERVER_API_AUTH_STRING": login})
    assert login not in str(caught.value)
    with refuses("MLFLOW_AUTH_ADMIN_PASSWORD", 12):
        mlflow_server(LOGIN | {"MLFLOW_AUTH_ADMIN_PASSWORD": "short"}, folder)


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "5e3"])
def test_a_port_that_is_none_is_refused(port: str, folder: Path) -> None:
    with refuses(f"MLFLOW_PORT={port}", 65535):
        mlflow_server({"MLFLOW_PORT": port}, folder)
    with refuses(f"PREFECT_SERVER_API_PORT={port}", 65535):
        prefect_server({"PREFECT_SERVER_API_PORT": port})


@pytest.mark.parametrize(
    "url", ["postgres://u:hidden@h/d", "mysql://u:hidden@h/d", "u:hidden", "postgresql://u:hidden@h:x/d"]
)
def test_a_wrong_database_url_is_one_line_without_the_password(url: str, folder: Path) -> None:
    for variable, make in (
        (PREFECT_DATABASE, lambda: prefect_server({PREFECT_DATABASE: url})),
        (MLFLOW_DATABASE, lambda: mlflow_server({MLFLOW_DATABASE: url}, folder)),
    ):
        with refuses(variable) as caught:
            make()
        assert "hidden" not in str(caught.value)


def test_a_path_from_which_mlflow_cannot_start_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/job%2Fmain/.venv")
    with refuses("/job%2Fmain/.venv"):
        mlflow_server({}, folder)


def test_no_secret_is_on_a_command_line_or_in_a_file(folder: Path) -> None:
    url = "postgresql://bp_lcz:p%40ss%25word@127.0.0.1/mlflow"
    server = mlflow_server(LOGIN | {"MLFLOW_BACKEND_STORE_URI": url}, folder)
    shown = " ".join(server.command) + written_text(folder)
    assert not any(secret in shown for secret in (*LOGIN.values(), "p@ss", "p%40ss", "p%%40ss"))
    assert "database_uri = postgresql://bp_lcz@127.0.0.1/mlflow\n" in shown
    assert server.environment["PGPASSWORD"] == "p@ss%word"
    prefect = prefect_server({"PREFECT_SERVER_API_AUTH_STRING": f"admin:{PASSWORD}"})
    assert PASSWORD not in " ".join(prefect.command)


def test_a_server_does_not_take_the_settings_of_a_client(folder: Path) -> None:
    client = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000", "MLFLOW_TRACKING_PASSWORD": "x"}
    assert not client.keys() & mlflow_server(client, folder).environment.keys()


def test_a_taken_port_and_a_missing_database_are_one_line(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        with refuses("mlflow", f"port {port}", "in use"):
            start(mlflow_server({"MLFLOW_PORT": port}, folder), folder)
    free = str(free_port())
    url = f"://bp_lcz:hidden@127.0.0.1:{free_port()}/nothing"
    missing = {"MLFLOW_PORT": free, MLFLOW_DATABASE: "postgresql" + url}
    with refuses(MLFLOW_DATABASE, "refused") as caught:
        start(mlflow_server(missing, folder), folder)
    assert "hidden" not in str(caught.value)
    missing = {"PREFECT_SERVER_API_PORT": free, PREFECT_DATABASE: "postgresql+asyncpg" + url}
    with refuses(PREFECT_DATABASE, "Connect call failed"):
        start(prefect_server(missing), folder)


def test_a_server_that_dies_is_an_error_with_its_own_last_line(folder: Path) -> None:
    program = "import sys; print('noise', file=sys.stderr); raise ValueError('no such table: flow')"
    server = Server(
        "prefect", [sys.executable, "-c", program], dict(os.environ), "127.0.0.1", free_port(), "/health", {}
    )
    with refuses("prefect", "status 1", "ValueError: no such table: flow", folder / "prefect.log"):
        start(server, folder)
    assert find_running("prefect", folder) is None


def test_a_process_that_got_the_number_of_a_dead_server_is_left_alone(folder: Path) -> None:
    folder.mkdir()
    (folder / "prefect.json").write_text(f'{{"pid": {os.getpid()}, "created": 1.0}}')
    assert find_running("prefect", folder) is None
    assert stop("prefect", folder) == "prefect: not running"


# With real servers.


@pytest.mark.slow
def test_a_prefect_server_is_started_once_and_stopped(tmp_path: Path) -> None:
    """As `make server` does, in a checkout of its own."""
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "flows", checkout / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "init", "--quiet", str(checkout)], check=True)
    port = str(free_port())
    environment = clean_environment(
        PREFECT_SERVER_API_PORT=port,
        PREFECT_SERVER_API_AUTH_STRING=f"admin:{PASSWORD}",
        PYTHONPATH=str(ROOT / "src"),
    )

    def servers(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flows.servers", *arguments]
        return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)

    try:
        first = servers("start", "prefect")
        assert first.returncode == 0, first.stderr
        url = f"http://127.0.0.1:{port}"
        assert f"prefect: healthy at {url}, " in first.stdout
        assert f"  export PREFECT_API_URL={url}/api\n  export PREFECT_API_AUTH_STRING=...\n" in first.stdout
        assert PASSWORD not in first.stdout + first.stderr + written_text(checkout / ".servers")
        running = find_running("prefect", checkout / ".servers")
        assert running is not None
        assert PASSWORD not in command_lines(running)
        assert answer(f"{url}/api/admin/version") == 401
        assert answer(f"{url}/api/admin/version", "admin:wrong") == 401
        assert answer(f"{url}/api/admin/version", f"admin:{PASSWORD}") == 200
        assert servers("start", "prefect").stdout.startswith(f"prefect: runs already, process {running.pid}\n")
        assert servers("status").stdout == f"prefect: process {running.pid}\nmlflow: not running\n"
    finally:
        stopped = servers("stop")
    assert stopped.stdout == "prefect: stopped\nmlflow: not running\n"
    assert not running.is_running()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(port))) != 0


@pytest.mark.slow
def test_a_wrong_database_password_is_one_line_without_it(folder: Path, postgres: Postgres) -> None:
    port, wrong = str(free_port()), Postgres(postgres.port, "hidden")
    environment = {
        "PREFECT_SERVER_API_PORT": port,
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": wrong.url("postgresql+asyncpg", "prefect"),
        "MLFLOW_PORT": port,
        "MLFLOW_BACKEND_STORE_URI": wrong.url("postgresql", "mlflow"),
    }
    for variable, server in (
        (PREFECT_DATABASE, prefect_server(environment)),
        (MLFLOW_DATABASE, mlflow_server(environment, folder)),
    ):
        with refuses(variable, 'password authentication failed for user "bp_lcz"') as caught:
            start(server, folder)
        assert "hidden" not in str(caught.value)


@pytest.mark.slow
def test_a_flow_runs_on_a_prefect_server_on_postgresql(folder: Path, postgres: Postgres) -> None:
    login = f"admin:{PASSWORD}"
    server = prefect_server(
        clean_environment(
            PREFECT_SERVER_API_PORT=str(free_port()),
            PREFECT_SERVER_API_AUTH_STRING=login,
            PREFECT_SERVER_DATABASE_CONNECTION_URL=postgres.url("postgresql+asyncpg", "prefect"),
        )
    )
    program = """
import prefect

@prefect.task
def double(number: int) -> int:
    return 2 * number

@prefect.flow(name="small")
def small() -> int:
    return sum(double.map([1, 2, 3]).result())

print(small())
"""
    start(server, folder)
    try:
        client = clean_environment(PREFECT_API_URL=server.clients["PREFECT_API_URL"] or "")
        run = [sys.executable, "-W", "ignore", "-c", program]
        refused = subprocess.run(run, env=client, capture_output=True, text=True, check=False)
        assert refused.returncode != 0
        assert "401" in refused.stderr
        done = subprocess.run(run, env=client | {"PREFECT_API_AUTH_STRING": login}, capture_output=True, text=True)
        assert done.stdout == "12\n", done.stderr
    finally:
        stop("prefect", folder)
    assert query(postgres, "prefect", "SELECT state_type FROM flow_run") == [("COMPLETED",)]


@pytest.mark.slow
def test_models_are_registered_on_an_mlflow_server_on_postgresql_and_s3(
    folder: Path, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    store = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    store.start()
    keys = {"AWS_ACCESS_KEY_ID": "team", "AWS_SECRET_ACCESS_KEY": "store secret", "AWS_DEFAULT_REGION": "eu-central-1"}
    endpoint = "http://{}:{}".format(*store.get_host_and_port())
    bucket = boto3.resource(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        region_name=keys["AWS_DEFAULT_REGION"],
    ).Bucket("models")
    bucket.create(CreateBucketConfiguration={"LocationConstraint": keys["AWS_DEFAULT_REGION"]})
    server = mlflow_server(
        clean_environment(
            MLFLOW_PORT=str(free_port()),
            MLFLOW_BACKEND_STORE_URI=postgres.url("postgresql", "mlflow"),
            MLFLOW_ARTIFACTS_DESTINATION="s3://models/team",
            MLFLOW_S3_ENDPOINT_URL=endpoint,
            **keys,
            **LOGIN,
        ),
        folder,
    )
    url = str(server.clients["MLFLOW_TRACKING_URI"])
    experiments = f"{url}/api/2.0/mlflow/experiments/search?max_results=1"
    start(server, folder)
    try:
        assert answer(f"{url}/health") == 200
        assert answer(experiments) == 401
        assert answer(experiments, "admin:password1234") == 401
        assert answer(experiments, f"admin:{PASSWORD}") == 200
        assert answer(experiments, f"admin:{PASSWORD}", Host="evil.example.org") == 403

        running = find_running("mlflow", folder)
        assert running is not None
        shown = command_lines(running) + written_text(folder)
        assert "uvicorn" in shown, "workers are looked at too"
        secrets = (PASSWORD, postgres.password, "store secret", LOGIN["MLFLOW_FLASK_SERVER_SECRET_KEY"])
        assert not any(secret in shown for secret in secrets)

        (tmp_path / "workspace").mkdir()
        workspace = FinishedWorkspace(tmp_path / "workspace")
        workspace.finish("one-plain", 0.7, weights_seed=1)
        workspace.finish("one-bp-lcz", 0.6, weights_seed=2)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
        runs = mirror_trials(workspace.folder, workspace.params)
        assert mirror_trials(workspace.folder, workspace.params) == runs
        registration = register_best(workspace.folder, workspace.params, runs)
        assert registration is not None
        assert not list(workspace.folder.glob("mlflow.db")), "nothing is kept beside the server"
        assert not list(workspace.folder.glob("mlartifacts"))

        keys_in_store = {entry.key for entry in bucket.objects.all()}
        assert any(key.startswith("team/") and key.endswith("model.safetensors") for key in keys_in_store)
        import mlflow

        model = mlflow.pyfunc.load_model(f"models:/{registration.name}@{registration.alias}")
        patches = example_patches(workspace.folder / "data/demo", count=4)
        expected = load_classifier(workspace.folder / "outputs/models/one-bp-lcz").predict_proba(**patches)
        np.testing.assert_array_equal(model.predict(patches), expected)
    finally:
        stop("mlflow", folder)
        store.stop()
    assert query(postgres, "mlflow", "SELECT name, version FROM model_versions") == [("bp-lcz-demo", 1)]
    assert query(postgres, "mlflow", "SELECT username, is_admin FROM users") == [("admin", True)]


@pytest.mark.slow
def test_a_second_user_changes_only_what_was_granted(folder: Path) -> None:
    """The permission that every user has by default."""
    server = mlflow_server(clean_environment(MLFLOW_PORT=str(free_port()), **LOGIN), folder)
    url = str(server.clients["MLFLOW_TRACKING_URI"])
    program = """
import os, sys
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client

client, users = MlflowClient(), get_app_client("basic-auth", os.environ["MLFLOW_TRACKING_URI"])
experiment = client.create_experiment("team")
users.create_user("reader", "a password of a reader")
os.environ.update(MLFLOW_TRACKING_USERNAME="reader", MLFLOW_TRACKING_PASSWORD="a password of a reader")
print(client.get_experiment(experiment).name)
try:
    client.create_run(experiment)
except MlflowException as error:
    print(error.get_http_status_code())
os.environ.update(MLFLOW_TRACKING_USERNAME="admin", MLFLOW_TRACKING_PASSWORD=sys.argv[1])
users.grant_user_permission("reader", "experiment", experiment, "EDIT")
os.environ.update(MLFLOW_TRACKING_USERNAME="reader", MLFLOW_TRACKING_PASSWORD="a password of a reader")
print(client.create_run(experiment).info.status)
"""
    start(server, folder)
    try:
        login = {"MLFLOW_TRACKING_URI": url, "MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD}
        run = [sys.executable, "-W", "ignore", "-c", program, PASSWORD]
        done = subprocess.run(run, env=clean_environment(**login), capture_output=True, text=True, check=False)
        assert done.stdout == "team\n403\nRUNNING\n", done.stderr
    finally:
        stop("mlflow", folder)


@pytest.mark.slow
def test_a_killed_server_starts_again_on_its_data(folder: Path) -> None:
    server = mlflow_server(clean_environment(MLFLOW_PORT=str(free_port())), folder)
    start(server, folder)
    try:
        running = find_running("mlflow", folder)
        assert running is not None
        for process in (*running.children(recursive=True), running):
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs([running], 10)
        assert find_running("mlflow", folder) is None
        assert "healthy" in start(server, folder)
        assert answer(f"{server.clients['MLFLOW_TRACKING_URI']}/health") == 200
    finally:
        stop("mlflow", folder)


def query(postgres: Postgres, database: str, statement: str) -> list[tuple[object, ...]]:
    import psycopg

    with psycopg.connect(postgres.url("postgresql", database)) as connection:
        return connection.execute(statement).fetchall()  # type: ignore[arg-type]
