"""The flow ``promote``: the challenger becomes the champion if it is better. Otherwise the run fails and says why."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from bp_lcz.errors import UserError
from bp_lcz.params import PARAMS_FILE, load_params
from bp_lcz.registry.naming import model_name
from flows.artifacts import show_lines
from flows.stages import CHECKOUT, SERVER_TASK, failure

if TYPE_CHECKING:
    from bp_lcz.records import Decision


@task(task_run_name="decide", **SERVER_TASK)
def decide(workspace: Path, name: str, version: int | None, dry_run: bool) -> State["Decision"]:
    """Judge the candidate and, if it is better, move the alias."""
    from bp_lcz.registry.promote import promote_version

    try:
        decision = promote_version(workspace, name, version, dry_run)
    except Exception as error:
        return failure(error)
    return Completed(message=decision.reason, data=decision)


@flow(name="promote")
def promote(
    workspace: Path = Path(), name: str | None = None, version: int | None = None, dry_run: bool = False
) -> State[Any]:
    """Decide on a version of a registered model.

    Args:
        workspace: the checkout or workspace whose registry is meant; relative to the checkout.
        name: name of the registered model; None is the model of the workspace's data set.
        version: version of the candidate; None is the challenger.
        dry_run: decide and say so, but change nothing.
    """
    from bp_lcz.registry.promote import decision_lines

    workspace = (CHECKOUT / workspace).resolve()
    try:
        name = name or model_name(workspace, load_params(workspace / PARAMS_FILE).dataset.root)
    except UserError as error:
        return Failed(message=str(error))
    decided = decide(workspace, name, version, dry_run)
    if decided.is_failed():
        return Failed(message=decided.message)
    decision = decided.result()
    lines = decision_lines(decision)
    get_run_logger().info("\n%s", "\n".join(lines))
    show_lines(workspace, "promotion", lines, f"promotion of {name}")
    return (Completed if decision.accepted else Failed)(message=decision.reason)
