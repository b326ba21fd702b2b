"""The flow ``reproduce-paper``: what ``make paper`` does before its first trial, then `train_bp_lcz`.

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
    """Bring the data, prove them, tell the hours, and run everything; fails where a comparable claim fails.

    Args:
        dataset: folder that has the data, relative to the checkout; without it ``data/so2sat``, into which they come.
        weights: the published weights on this machine, for the proof.
        concurrency: stages side by side on one device.
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
