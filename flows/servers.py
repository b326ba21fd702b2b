"""Starts and stops the two servers of a team, Prefect's and MLflow's. A server that is not healthy is stopped again.

    python -m flows.servers start prefect
    python -m flows.servers start mlflow
    python -m flows.servers stop

All settings and secrets come from environment variables with the names of Prefect and MLflow (docs/servers.md). A
secret is never on a command line or in a file. A server that other machines can reach does not start without a
password.
"""

import argparse
import asyncio
import importlib.util
import ipaddress
import json
import os
import re
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen

import asyncpg
import httpx
import psutil
from sqlalchemy import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from bp_lcz.addresses import is_local, sqlite_url
from bp_lcz.errors import UserError
from bp_lcz.files import locked, staged_file
from bp_lcz.workspace import main_checkout
from flows.ending import one_line

FOLDER = Path(".servers")
"""Process id, log and configuration of each server, in the main checkout."""

_LOCALHOST = "127.0.0.1"
_HEALTHY_WITHIN = 300  # seconds: the first start on a new database makes its tables
_STOPPED_WITHIN = 30  # seconds before a server that does not end is killed


@dataclass(frozen=True)
class Server:
    """How to start a server and to check that it is healthy.

    Attributes:
        name: ``prefect`` or ``mlflow``.
        command: command line without secrets, since every user of a machine can read it.
        environment: settings and secrets.
        host: address to bind to.
        port: port of that address.
        health: path that answers 200 without a password once the server is healthy.
        clients: environment variables of a client of the server; None stands for a secret.
        page: path of the page that shows this project's runs.
    """

    name: str
    command: list[str]
    environment: dict[str, str]
    host: str
    port: int
    health: str
    clients: dict[str, str | None]
    page: str = ""


def prefect_server(environment: Mapping[str, str]) -> Server:
    """Prefect's server: schedules, work pools, runs and their logs.

    Args:
        environment: ``PREFECT_SERVER_API_HOST``, ``PREFECT_SERVER_API_PORT``, ``PREFECT_SERVER_API_AUTH_STRING``
            (user:password) and ``PREFECT_SERVER_DATABASE_CONNECTION_URL`` (default: SQLite in ``.prefect``).

    Raises:
        UserError: if a setting is wrong, or the password is missing on an address that others can reach.
    """
    host, port = _address(environment, "PREFECT_SERVER_API_HOST", "PREFECT_SERVER_API_PORT", 4200)
    login = environment.get("PREFECT_SERVER_API_AUTH_STRING", "")
    if not is_local(host):
        _require(environment, host, "PREFECT_SERVER_API_AUTH_STRING")
    if login and not re.fullmatch("[^:]+:.{12,}", login):
        raise UserError(
            "PREFECT_SERVER_API_AUTH_STRING", "expected user:password with a password of 12 characters or more"
        )
    _database(
        environment, "PREFECT_SERVER_DATABASE_CONNECTION_URL", {"postgresql+asyncpg": "asyncpg", "sqlite+aiosqlite": ""}
    )
    url = _url(host, port)
    return Server(
        "prefect",
        [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", str(port)],
        # By default, Prefect lets pages of any site call the server; its own page needs only its own address.
        {"PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"{url},http://localhost:{port}", **environment},
        host,
        port,
        "/api/health",
        {"PREFECT_API_URL": f"{url}/api"} | ({"PREFECT_API_AUTH_STRING": None} if login else {}),
    )


def mlflow_server(environment: Mapping[str, str], folder: Path) -> Server:
    """MLflow's server: runs, artifacts and the model registry.

    With ``MLFLOW_AUTH_ADMIN_PASSWORD`` it asks for a login and keeps its users in the same database. Artifacts go
    through the server, so clients need no credentials of the artifact store.

    Args:
        environment: ``MLFLOW_HOST``, ``MLFLOW_PORT``, ``MLFLOW_BACKEND_STORE_URI`` and
            ``MLFLOW_ARTIFACTS_DESTINATION`` (default: the same places as without a server),
            ``MLFLOW_SERVER_ALLOWED_HOSTS``, ``MLFLOW_AUTH_ADMIN_USERNAME`` (default: admin),
            ``MLFLOW_AUTH_ADMIN_PASSWORD``, ``MLFLOW_FLASK_SERVER_SECRET_KEY``.
        folder: folder for the configuration of the login, which holds no secret.

    Raises:
        UserError: if a setting is wrong, or a secret is missing on an address that others can reach.
    """
    if "%" in sys.prefix:  # MLflow gives the path to Alembic, which reads % as the start of a name
        raise UserError(sys.prefix, "MLflow's server cannot start from a path with %; start it in a clone elsewhere")
    host, port = _address(environment, "MLFLOW_HOST", "MLFLOW_PORT", 5000)
    needs_login = bool(environment.get("MLFLOW_AUTH_ADMIN_PASSWORD")) or not is_local(host)
    if not is_local(host):
        # MLflow's default accepts every name that starts like a private address, even 10.example.org.
        _require(environment, host, "MLFLOW_SERVER_ALLOWED_HOSTS")
    if needs_login:
        _require(environment, host, "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY")
        if len(environment["MLFLOW_AUTH_ADMIN_PASSWORD"]) < 12:
            raise UserError("MLFLOW_AUTH_ADMIN_PASSWORD", "expected 12 characters or more")
        _installed("flask_wtf", "a login")

    checkout = folder.parent
    settings = {
        "MLFLOW_BACKEND_STORE_URI": sqlite_url(checkout / "mlflow.db"),
        "MLFLOW_ARTIFACTS_DESTINATION": (checkout / "mlartifacts").as_uri(),
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"{_url(host, port).removeprefix('http://')},localhost:{port}",
        "MLFLOW_WORKERS": "2",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # these jobs evaluate language models, in extra processes
        **environment,
    }
    for client_setting in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        settings.pop(client_setting, None)
    if settings["MLFLOW_ARTIFACTS_DESTINATION"].startswith("s3://"):
        _installed("boto3", "an S3-compatible store")
    drivers = {"postgresql": "psycopg", "postgresql+psycopg": "psycopg", "sqlite": ""}
    database = _database(settings, "MLFLOW_BACKEND_STORE_URI", drivers)
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    if needs_login:
        command += ["--app-name", "basic-auth"]
        settings.setdefault("MLFLOW_AUTH_ADMIN_USERNAME", "admin")
        if "MLFLOW_AUTH_CONFIG_PATH" not in settings:
            settings["MLFLOW_AUTH_CONFIG_PATH"] = str(_write_login_configuration(folder, database))
            if database.password:
                settings.setdefault("PGPASSWORD", str(database.password))
    login = dict.fromkeys(["MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"]) if needs_login else {}
    return Server(
        "mlflow",
        command,
        settings,
        host,
        port,
        "/health",
        {"MLFLOW_TRACKING_URI": _url(host, port), **login},
        "/#/experiments?workflowType=machine_learning",  # its first page is about language models
    )


def start(server: Server, folder: Path) -> str:
    """Start a server in the background and wait until it is healthy.

    Args:
        server: what to start.
        folder: folder for its process id and log.

    Returns:
        A line that says where it is. A server that runs already is left as it is.

    Raises:
        UserError: if the port is taken, the database cannot be reached, or the server ends or is not healthy in time.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    with locked(folder / f"{server.name}.lock"):
        running = find_running(server.name, folder)
        if running is not None:
            return f"{server.name}: runs already, process {running.pid}"
        _check_startable(server)
        log = folder / f"{server.name}.log"
        with log.open("w") as output:
            process = Popen(
                server.command,
                cwd=folder.parent,
                env=server.environment,
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                start_new_session=True,  # so that Ctrl-C in this terminal does not end it
            )
        try:
            with staged_file(folder / f"{server.name}.json") as file:
                created = psutil.Process(process.pid).create_time()
                file.write_text(json.dumps({"pid": process.pid, "created": created}), encoding="utf-8")
            _await_health(server, process, log)
        except BaseException:
            with suppress(psutil.NoSuchProcess):
                _end(psutil.Process(process.pid))
            raise
        return f"{server.name}: healthy at {_url(server.host, server.port)}{server.page}, log {log}"


def stop(name: str, folder: Path) -> str:
    """Stop a server and its workers, and kill those that do not end in time.

    Returns:
        A line that says what happened.
    """
    server = find_running(name, folder)
    if server is None:
        return f"{name}: not running"
    with suppress(psutil.NoSuchProcess):
        _end(server)
    (folder / f"{name}.json").unlink(missing_ok=True)
    return f"{name}: stopped"


def find_running(name: str, folder: Path) -> psutil.Process | None:
    """The process of a server that was started here, if it is alive; never another process with the same id."""
    with suppress(OSError, ValueError, KeyError, psutil.Error):
        started = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        process = psutil.Process(started["pid"])
        if process.create_time() == started["created"] and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def _address(environment: Mapping[str, str], host: str, port: str, default: int) -> tuple[str, int]:
    number = environment.get(port) or str(default)
    if not number.isascii() or not number.isdecimal() or not 0 < int(number) < 65536:
        raise UserError(f"{port}={number}", "expected a port, 1 to 65535")
    return environment.get(host) or _LOCALHOST, int(number)


def _require(environment: Mapping[str, str], host: str, *variables: str) -> None:
    for variable in variables:
        if not environment.get(variable):
            where = "" if is_local(host) else f" on {host}, which other machines can reach"
            raise UserError(variable, f"not set; needed{where} (docs/servers.md)")


def _database(environment: Mapping[str, str], variable: str, drivers: Mapping[str, str]) -> URL:
    """URL of the database. Its driver must be installed for PostgreSQL. Messages never quote the URL."""
    text = environment.get(variable)
    if not text:
        return URL.create("sqlite")
    try:
        url = make_url(text)
    except (SQLAlchemyError, ValueError):
        raise UserError(variable, "not a database URL; write special characters of a password as %XX") from None
    if url.drivername not in drivers:
        raise UserError(variable, f"{url.drivername}:// is not supported; expected {'://, '.join(drivers)}://")
    if drivers[url.drivername]:
        _installed(drivers[url.drivername], "PostgreSQL")
    return url


def _installed(module: str, what: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise UserError(f"{what} needs {module}", "pip install -c constraints.txt -e '.[servers]'")


def _write_login_configuration(folder: Path, database: URL) -> Path:
    file = folder / "mlflow-login.ini"
    folder.mkdir(mode=0o700, exist_ok=True)
    # set(password=None) would keep the password. The driver takes it from PGPASSWORD.
    uri = database._replace(password=None).render_as_string(hide_password=False)
    with staged_file(file) as new:
        new.write_text(
            "[mlflow]\n"
            "default_permission = READ\n"
            f"database_uri = {uri.replace('%', '%%')}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            # Checking a password is slow on purpose, and logging a model takes dozens of requests.
            "auth_cache_ttl_seconds = 30\n",
            encoding="utf-8",
        )
    return file


def _check_startable(server: Server) -> None:
    """Refuse a taken port or a missing database in one line instead of a long log."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(server.name, f"cannot listen on {server.host} port {server.port}: {reason}") from None
    for variable in ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "MLFLOW_BACKEND_STORE_URI"):
        url = server.environment.get(variable, "")
        if variable.startswith(server.name.upper()) and url.startswith("postgresql"):
            try:
                asyncio.run(_connect(url))
            except (SQLAlchemyError, asyncpg.PostgresError, OSError) as error:
                raise UserError(variable, f"{' '.join(str(getattr(error, 'orig', error)).split())}") from None


async def _connect(url: str) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(url)
    try:
        async with engine.connect():
            pass
    finally:
        await engine.dispose()


def _await_health(server: Server, process: "Popen[bytes]", log: Path) -> None:
    print(f"{server.name}: starting ...", file=sys.stderr)
    deadline = time.monotonic() + _HEALTHY_WITHIN
    while time.monotonic() < deadline:
        status = process.poll()
        if status is not None:
            raise UserError(server.name, f"ended with status {status}: {_cause(log)}; see {log}")
        with suppress(httpx.HTTPError):
            # Without the proxy of the environment, which would answer for a missing server.
            if httpx.get(_url(server.host, server.port) + server.health, timeout=5, trust_env=False).is_success:
                return
        time.sleep(0.2)
    raise UserError(server.name, f"not healthy after {_HEALTHY_WITHIN} s: {_cause(log)}; see {log}")


def _cause(log: Path) -> str:
    """The last line of a log that names an exception, else its last line."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (named or lines or ["no output"])[-1]


def _end(server: psutil.Process) -> None:
    processes = [server, *server.children(recursive=True)]  # a worker that outlived its server would keep the port
    server.terminate()
    _, alive = psutil.wait_procs(processes, _STOPPED_WITHIN)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive)


def _url(host: str, port: int) -> str:
    """URL by which this machine reaches a server bound to one address or to all."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified:
        host = _LOCALHOST if address.version == 4 else "::1"
    return f"http://[{host}]:{port}" if address.version == 6 else f"http://{host}:{port}"


def main() -> None:
    """Start, stop or show the servers of this checkout."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.servers",
        description="The Prefect server and the MLflow server of a team. Settings and secrets come from the "
        "environment (docs/servers.md); without any, both bind to 127.0.0.1 and use SQLite in this checkout.",
        epilog="Example: MLFLOW_PORT=5001 python -m flows.servers start mlflow",
    )
    names = ["prefect", "mlflow"]
    parser.add_argument("action", choices=["start", "run", "stop", "status"], help="run: in the foreground")
    parser.add_argument("server", choices=names, nargs="?", help="for stop and status by default both")
    arguments = parser.parse_args()
    folder = main_checkout(Path(__file__).parent) / FOLDER
    with one_line():
        if arguments.action in ("stop", "status"):
            for name in [arguments.server] if arguments.server else names:
                running = find_running(name, folder)
                shown = f"{name}: process {running.pid}" if running else f"{name}: not running"
                print(stop(name, folder) if arguments.action == "stop" else shown)
            return
        if arguments.server is None:
            parser.error(f"{arguments.action} needs a server: {' or '.join(names)}")
        is_prefect = arguments.server == "prefect"
        server = prefect_server(os.environ) if is_prefect else mlflow_server(os.environ, folder)
        if arguments.action == "run":
            _check_startable(server)
            os.execve(sys.executable, server.command, server.environment)
        print(start(server, folder))
        for variable, value in server.clients.items():
            print(f"  export {variable}={'...' if value is None else value}")


if __name__ == "__main__":
    main()
