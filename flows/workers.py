"""Runs a deployment on workers of the pool ``bp-lcz-trials``, once for each item; replaces runs of lost workers."""

import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from prefect import get_client, get_run_logger
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment

from flows.queues import TRIAL_POOL, is_polled, open_queue
from flows.screen import screen

_SECONDS_FOR_A_WORKER = 20.0
"""Seconds after which a warning says that no worker is there. The waiting goes on."""


class Errand(NamedTuple):
    """A request to the workers.

    Attributes:
        deployment: deployment that they run.
        commit: commit of their clones.
        key: part of the identity of each run, besides name and number. An errand with an equal key takes over its runs.
        tries: number of runs of an item before a crash, such as the end of its machine, counts as final.
    """

    deployment: str
    commit: str
    key: str
    tries: int


def run_on_workers(errand: Errand, parameters: Mapping[str, dict[str, Any]]) -> dict[str, State[Any]]:
    """Have workers run each item, and give a crashed run to another worker.

    Args:
        errand: the request.
        parameters: parameters of the deployment for each item, by name of the item.

    Returns:
        The final state of the last run of each item.
    """
    logger, started = get_run_logger(), datetime.now(UTC)
    states, left = dict[str, State[Any]](), dict.fromkeys(parameters, errand.tries)
    numbers, active = dict.fromkeys(parameters, 0), dict[UUID, str]()

    with get_client(sync_client=True) as client:
        queue = open_queue(client, errand.commit)

    def submit(name: str) -> None:
        run = run_deployment(
            errand.deployment,
            work_queue_name=queue,
            parameters=parameters[name],
            timeout=0,
            idempotency_key=f"{errand.key}-{name}-{numbers[name]}",
            flow_run_name=name,
        )
        assert isinstance(run, FlowRun)
        active[run.id] = name

    for name in parameters:
        submit(name)
    with get_client(sync_client=True) as client:
        patience = time.monotonic() + _SECONDS_FOR_A_WORKER
        while active:
            if time.monotonic() > patience:
                patience = math.inf
                if not is_polled(client, queue):
                    logger.warning(
                        "no worker takes runs of commit %s; start one (make worker POOL=%s) in a clone at it",
                        errand.commit[:10],
                        TRIAL_POOL,
                    )
            runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=list(active))))
            for run in runs:
                if run.state is None or not run.state.is_final():
                    continue
                name, state = active.pop(run.id), run.state
                is_old = run.created is not None and run.created < started
                left[name] -= not is_old
                if not state.is_completed() and (is_old or (state.is_crashed() and left[name] > 0)):
                    logger.warning("%s: %s; another run of it", name, state.message)
                    numbers[name] += 1
                    submit(name)
                    continue
                states[name] = state
                line = f"{name}: {state.message}; {len(active)} to go"
                logger.info("%s", line)
                screen.tell(line)
            time.sleep(2)
    return states
