"""A PostgreSQL server of the Debian package, for as long as the tests that need it run."""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

ROOT = Path(__file__).parents[2]


class Postgres:
    """A running server with the databases of deploy/databases.sql."""

    def __init__(self, port: int, password: str) -> None:
        self.port = port
        self.password = password

    def url(self, driver: str, database: str) -> str:
        return f"{driver}://bp_lcz:{quote(self.password, safe='')}@127.0.0.1:{self.port}/{database}"


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    if not programs:
        pytest.skip("no PostgreSQL in /usr/lib/postgresql: apt-get install postgresql")
    # PostgreSQL refuses to run as root; the package brings this user.
    user = pwd.getpwnam("postgres").pw_uid if os.geteuid() == 0 else os.geteuid()
    folder = Path(tempfile.mkdtemp(prefix="bp-lcz-postgres-"))
    postgres = Postgres(free_port(), secrets.token_hex(8) + "@/%:")
    try:
        (folder / "password").write_text(postgres.password)
        os.chown(folder, user, -1)
        os.chown(folder / "password", user, -1)

        def run(program: str, *arguments: str) -> None:
            command = [str(programs[-1] / program), *arguments]
            # A server inherits the pipes of the command that starts it, and would keep them open.
            done = subprocess.run(command, cwd=folder, user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            assert done.returncode == 0, f"{program}: status {done.returncode}"

        run("initdb", "-D", "data", "-U", "postgres", "--auth=scram-sha-256", "--pwfile=password", "--no-sync")
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={postgres.port} -c unix_socket_directories={folder} -c fsync=off"
        )
        run("pg_ctl", "-D", "data", "-l", "log", "-w", "-o", options, "start")
        try:
            role = f"CREATE ROLE bp_lcz LOGIN CREATEDB PASSWORD '{postgres.password}'"
            for user_name, what in (("postgres", ("-c", role)), ("bp_lcz", ("-f", ROOT / "deploy/databases.sql"))):
                subprocess.run(
                    [programs[-1] / "psql", "-q", "-v", "ON_ERROR_STOP=1", *what],
                    env={
                        "PGHOST": "127.0.0.1",
                        "PGPORT": str(postgres.port),
                        "PGUSER": user_name,
                        "PGDATABASE": "postgres",
                        "PGPASSWORD": postgres.password,
                    },
                    check=True,
                )
            yield postgres
        finally:
            run("pg_ctl", "-D", "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
