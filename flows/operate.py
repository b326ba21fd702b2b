"""``make worker`` and ``make deploy``. Each waits until what it needs is healthy, and reports that.

    python -m flows.operate worker     a worker of the pool, in this clone, until it is stopped
    python -m flows.operate deploy     the deployments of prefect.yaml

``PREFECT_API_URL`` is the address of the server, by default http://127.0.0.1:4200/api.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

import flows  # noqa: F401  settings of Prefect

HEARTBEAT, HEARTBEAT_SECONDS = "prefect.flow-run.heartbeat", 30
URL = os.environ.setdefault("PREFECT_API_URL", "http://127.0.0.1:4200/api")

from prefect import get_client  # noqa: E402
from prefect.client.orchestration import SyncPrefectClient  # noqa: E402
from prefect.client.schemas.actions import WorkPoolCreate  # noqa: E402
from prefect.client.schemas.objects import StateType, WorkerStatus  # noqa: E402
from prefect.events import ResourceSpecification  # noqa: E402
from prefect.events.actions import ChangeFlowRunState  # noqa: E402
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture  # noqa: E402
from prefect.exceptions import ObjectAlreadyExists  # noqa: E402

from bp_lcz.errors import UserError  # noqa: E402
from bp_lcz.workspace import git  # noqa: E402
from flows.ending import one_line  # noqa: E402
from flows.queues import TRIAL_POOL, open_queue  # noqa: E402
from flows.stages import CHECKOUT, dying_with_parent, server_failure, stage_environment  # noqa: E402

POOLS = ("bp-lcz", TRIAL_POOL)
"""Pools for whole flows, and for parts that flows give away: trials of train-matrix, tiles of map-region."""


def start_worker(client: SyncPrefectClient, pool: str, name: str, limit: int | None, wait: float) -> None:
    """Start a worker of a pool, report when the server knows it, and wait until it ends."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--type", "process", "--pool", pool, "--name", name]
    if pool == TRIAL_POOL:
        commit = git(CHECKOUT, "rev-parse", "HEAD")
        command += ["--work-queue", open_queue(client, commit)]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A background job of a script ignores this signal, but Prefect needs it to end its worker.
        signal.signal(signal.SIGINT, lambda *_: None)
    worker = subprocess.Popen(
        [*dying_with_parent(), *command, *(["--limit", str(limit)] if limit else [])],
        cwd=CHECKOUT,
        # The second variable limits progress bars, which are many lines in a log.
        env=_environment() | {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS), "TQDM_MININTERVAL": "10"},
    )
    signal.signal(signal.SIGTERM, lambda *_: worker.terminate())
    try:
        _wait_until(
            lambda: _is_online(client, pool, name, worker), wait, (f"worker {name}", f"is not online after {wait:g} s")
        )
        print(f"worker {name} is online in work pool {pool} of {URL}", flush=True)
        status = worker.wait()
    except KeyboardInterrupt:
        status = worker.wait()  # the terminal has sent the signal to the worker, too
    finally:
        worker.terminate()
    if status not in (0, -signal.SIGTERM, -signal.SIGINT):
        raise UserError(f"worker {name}", f"exit status {status}")


def deploy(client: SyncPrefectClient) -> None:
    """Register every deployment of prefect.yaml with the server."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "prefect.yaml"],
        cwd=CHECKOUT,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise UserError("prefect.yaml", f"{(done.stderr.strip() or done.stdout.strip()).splitlines()[-1]}")
    _declare_the_silent_crashed(client)
    flow_names = {flow.id: flow.name for flow in client.read_flows()}
    names = sorted(f"{flow_names[each.flow_id]}/{each.name}" for each in client.read_deployments())
    print(f"deployed to {URL}:", *(f"  {name}" for name in names), sep="\n")
    for pool in POOLS:
        online = [each for each in client.read_workers_for_work_pool(pool) if each.status == WorkerStatus.ONLINE]
        state = f"{len(online)} worker(s) online" if online else "no worker yet: run `make worker`"
        print(f"work pool {pool}: {state}")
    print(f"run one: PREFECT_API_URL={URL} prefect deployment run train-bp-lcz/demo --watch")


def _environment() -> dict[str, str]:
    """Environment in which only this clone's flows and package are imported."""
    return stage_environment(CHECKOUT) | {"PYTHONPATH": f"{CHECKOUT}{os.pathsep}{CHECKOUT / 'src'}"}


def _declare_the_silent_crashed(client: SyncPrefectClient) -> None:
    """Let the server end runs after three missing heartbeats, since their machine is gone."""
    name = "bp-lcz: a run that is silent has crashed"
    if any(each.name == name for each in client.read_automations_by_name(name)):
        return
    ends = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
    trigger = EventTrigger(
        after={HEARTBEAT},
        expect={HEARTBEAT, *ends},
        match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=3 * HEARTBEAT_SECONDS),
    )
    message = "no heartbeat: its machine or process has gone"
    action = ChangeFlowRunState(name="Crashed", state=StateType.CRASHED, message=message, force=False)
    client.create_automation(AutomationCore(name=name, trigger=trigger, actions=[action]))


def _await_server(wait: float) -> SyncPrefectClient:
    """A client of a healthy server that has the work pools."""

    client = get_client(sync_client=True)
    missing = URL, "no Prefect server answers; start one (`make server`) or set PREFECT_API_URL"
    _wait_until(lambda: client.api_healthcheck() is None, wait, missing)
    for pool in POOLS:
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
    return client


def _is_online(client: SyncPrefectClient, pool: str, name: str, worker: subprocess.Popen[bytes]) -> bool:
    if worker.poll() is not None:
        raise UserError(f"worker {name}", f"ended at once with exit status {worker.returncode}")
    workers = client.read_workers_for_work_pool(pool)
    return any(each.name == name and each.status == WorkerStatus.ONLINE for each in workers)


def _wait_until(condition: Callable[[], Any], seconds: float, otherwise: tuple[str, str]) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise UserError(*otherwise)
        time.sleep(0.5)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.operate",
        description="Start a worker, or register the deployments of prefect.yaml with a Prefect server.",
        epilog="Example: PREFECT_API_URL=http://127.0.0.1:4200/api python -m flows.operate deploy",
    )
    parser.add_argument("command", choices=["worker", "deploy"])
    parser.add_argument("--name", default=f"{os.uname().nodename}-{Path(CHECKOUT).name}", help="name of the worker")
    parser.add_argument("--pool", choices=POOLS, default=POOLS[0], help=f"pool of the worker (default: {POOLS[0]})")
    parser.add_argument("--limit", type=int, help="flow runs that the worker takes at once (default: no limit)")
    parser.add_argument("--wait", type=float, default=60, help="seconds to wait for the server (default: 60)")
    arguments = parser.parse_args()
    with one_line():
        try:
            client = _await_server(arguments.wait)
            if arguments.command == "deploy":
                deploy(client)
            else:
                start_worker(client, arguments.pool, arguments.name, arguments.limit, arguments.wait)
        except httpx.HTTPError as error:
            sys.exit(f"error: {server_failure(URL, error)}")


if __name__ == "__main__":
    main()
