"""The flow ``reproduce-paper``: the preparation of ``make paper``, then `train_bp_lcz`.

prefect deployment run reproduce-paper/so2sat --watch
"""

import contextlib
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import PositiveInt

from bp_lcz.errors import UserError
from flows.paper import paper
from flows.stages import CHECKOUT
from flows.train_bp_lcz import train_bp_lcz


@flow(name="reproduce-paper")
def reproduce_paper(
    dataset: Path | None = None, weights: Path | None = None, concurrency: PositiveInt = 2
) -> State[Any]:
    """Download and check the data, estimate the hours, and run everything. It fails if a comparable claim fails.

    Args:
        dataset: folder with the data, relative to the checkout; by default they are downloaded into ``data/so2sat``.
        weights: file with the published weights, for the check of the data.
        concurrency: number of stages at once on one device.
    """
    try:
        with contextlib.chdir(CHECKOUT):
            workspace = paper(dataset, weights, tell=get_run_logger().info)
    except UserError as error:
        return Failed(message=str(error))
    state = train_bp_lcz(workspace, concurrency, return_state=True)
    if not state.is_completed():
        return Failed(message=state.message)
    return Completed(message=f"report: {workspace / 'reports/index.html'}")
