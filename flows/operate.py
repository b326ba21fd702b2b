"""``make worker`` and ``make deploy``: each waits until what it needs is healthy, and says so.

    python -m flows.operate worker     a worker of the pool, in this clone, until it is stopped
    python -m flows.operate deploy     the deployments of prefect.yaml

The server is that of ``PREFECT_API_URL``, by default http://127.0.0.1:4200/api.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flows  # noqa: F401  settings of Prefect

POOL = "bp-lcz"
URL = os.environ.setdefault("PREFECT_API_URL", "http://127.0.0.1:4200/api")

from prefect import get_client  # noqa: E402
from prefect.client.orchestration import SyncPrefectClient  # noqa: E402
from prefect.client.schemas.actions import WorkPoolCreate  # noqa: E402
from prefect.client.schemas.objects import WorkerStatus  # noqa: E402
from prefect.exceptions import ObjectAlreadyExists  # noqa: E402

from bp_lcz.errors import UserError  # noqa: E402
from flows.stages import CHECKOUT, dying_with_parent, stage_environment  # noqa: E402


def start_worker(client: SyncPrefectClient, name: str, limit: int | None, wait: float) -> None:
    """Start a worker of the pool, say when the server knows it, and stay with it until it ends."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--type", "process", "--pool", POOL, "--name", name]
    worker = subprocess.Popen(
        [*dying_with_parent(), *command, *(["--limit", str(limit)] if limit else [])],
        cwd=CHECKOUT,
        env=stage_environment(CHECKOUT) | {"PYTHONPATH": f"{CHECKOUT}{os.pathsep}{CHECKOUT / 'src'}"},
    )
    signal.signal(signal.SIGTERM, lambda *_: worker.terminate())
    try:
        _wait_until(lambda: _is_online(client, name, worker), wait, f"worker {name} is not online after {wait:g} s")
        print(f"worker {name} is online in work pool {POOL} of {URL}", flush=True)
        status = worker.wait()
    except KeyboardInterrupt:
        status = worker.wait()  # the terminal has sent it the signal too
    finally:
        worker.terminate()
    if status not in (0, -signal.SIGTERM, -signal.SIGINT):
        raise UserError(f"worker {name}: exit status {status}")


def deploy(client: SyncPrefectClient) -> None:
    """Tell the server every deployment of prefect.yaml."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "prefect.yaml"],
        cwd=CHECKOUT,
        env=stage_environment(CHECKOUT) | {"PYTHONPATH": f"{CHECKOUT}{os.pathsep}{CHECKOUT / 'src'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise UserError(f"prefect.yaml: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1]}")
    flow_names = {flow.id: flow.name for flow in client.read_flows()}
    names = sorted(f"{flow_names[each.flow_id]}/{each.name}" for each in client.read_deployments())
    print(f"deployed to {URL}:", *(f"  {name}" for name in names), sep="\n")
    workers = [each for each in client.read_workers_for_work_pool(POOL) if each.status == WorkerStatus.ONLINE]
    if workers:
        print(f"work pool {POOL} is ready: {len(workers)} worker(s) online")
    else:
        print(f"work pool {POOL} has no worker yet: run `make worker`")
    print("run one: prefect deployment run train-bp-lcz/demo --watch")


def _await_pool(wait: float) -> SyncPrefectClient:
    """A client of a healthy server that has the work pool."""

    client = get_client(sync_client=True)
    missing = f"no Prefect server answers at {URL}; start one (`make server`) or set PREFECT_API_URL"
    _wait_until(lambda: client.api_healthcheck() is None, wait, missing)
    try:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        print(f"work pool {POOL} created at {URL}", flush=True)
    except ObjectAlreadyExists:
        print(f"work pool {POOL} found at {URL}", flush=True)
    return client


def _is_online(client: SyncPrefectClient, name: str, worker: subprocess.Popen[bytes]) -> bool:
    if worker.poll() is not None:
        raise UserError(f"worker {name}: ended at once with exit status {worker.returncode}")
    workers = client.read_workers_for_work_pool(POOL)
    return any(each.name == name and each.status == WorkerStatus.ONLINE for each in workers)


def _wait_until(condition: Callable[[], Any], seconds: float, otherwise: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise UserError(otherwise)
        time.sleep(0.5)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.operate",
        description="Start a worker, or tell a Prefect server the deployments of prefect.yaml.",
        epilog="Example: PREFECT_API_URL=http://127.0.0.1:4200/api python -m flows.operate deploy",
    )
    parser.add_argument("command", choices=["worker", "deploy"])
    parser.add_argument("--name", default=f"{os.uname().nodename}-{Path(CHECKOUT).name}", help="of the worker")
    parser.add_argument("--limit", type=int, help="flow runs that the worker takes at once (default: no limit)")
    parser.add_argument("--wait", type=float, default=60, help="seconds to wait for the server (default: 60)")
    arguments = parser.parse_args()
    try:
        client = _await_pool(arguments.wait)
        if arguments.command == "deploy":
            deploy(client)
        else:
            start_worker(client, arguments.name, arguments.limit, arguments.wait)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
