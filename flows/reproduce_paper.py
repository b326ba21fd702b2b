"""The flow ``reproduce-paper``: a workspace with a profile, `train_bp_lcz` in it, and its verdict on the claims.

prefect deployment run reproduce-paper/so2sat --watch
"""

import contextlib
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import PositiveInt

from bp_lcz.errors import UserError
from bp_lcz.so2sat.pinned import verify_pins
from bp_lcz.workspace import make_workspace
from flows.stages import CHECKOUT
from flows.train_bp_lcz import train_bp_lcz


@flow(name="reproduce-paper")
def reproduce_paper(
    profile: str = "paper", dataset: Path | None = Path("data/so2sat"), concurrency: PositiveInt = 2
) -> State[Any]:
    """Make or renew the workspace of a profile and run everything in it; fails where a comparable claim fails.

    Args:
        profile: file of ``profiles/``, also the name of the workspace.
        dataset: folder of So2Sat files, relative to the checkout; None is the profile's own.
        concurrency: stages side by side on one device.
    """
    try:
        with contextlib.chdir(CHECKOUT):
            if dataset is not None:
                verify_pins(dataset)
            workspace = make_workspace(profile, profile=profile, dataset=dataset)
    except UserError as error:
        return Failed(message=str(error))
    state = train_bp_lcz(workspace, concurrency, return_state=True)
    if not state.is_completed():
        return Failed(message=state.message)
    return Completed(message=f"report: {workspace / 'reports/index.html'}")
