"""Queues for trials of a matrix and tiles of a region. Each commit has its own queue, so that a worker takes only runs
that its clone can run."""

from contextlib import suppress

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import WorkQueueStatus
from prefect.exceptions import ObjectAlreadyExists

TRIAL_POOL = "bp-lcz-trials"


def open_queue(client: SyncPrefectClient, commit: str) -> str:
    """Name of the queue of a commit, which is created if needed."""
    name = commit[:12]
    with suppress(ObjectAlreadyExists):
        client.create_work_queue(name, work_pool_name=TRIAL_POOL)
    return name


def is_polled(client: SyncPrefectClient, queue: str) -> bool:
    """Whether a worker has asked a queue for runs recently."""
    return client.read_work_queue_by_name(queue, work_pool_name=TRIAL_POOL).status is WorkQueueStatus.READY
