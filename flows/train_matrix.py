"""The flow ``train-matrix``: runs the trials of a workspace on several machines, then `train_bp_lcz` on the results.

Each trial is a run of ``train-trial/trials`` that any worker of the pool ``bp-lcz-trials`` takes, in its own clone.
Inputs, results and the run cache travel through the DVC remote, so no machine repeats finished work of another.

    prefect deployment run train-matrix/demo --watch
"""

import contextlib
import hashlib
from pathlib import Path
from typing import Any

import yaml
from prefect import flow, task
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import BaseModel, PositiveInt

from bp_lcz.dvc_internals import stage_graph
from bp_lcz.errors import UserError
from bp_lcz.files import locked
from bp_lcz.params import PARAMS_FILE, load_params
from bp_lcz.workspace import LOCK_FILE, git, make_workspace, share_dvc_settings
from flows.devices import Devices, find_gpus
from flows.stages import (
    CHECKOUT,
    LOCK_DELAYS,
    failed,
    only_run,
    run_dvc,
    run_stage,
    stop_running,
    tried_again,
)
from flows.train_bp_lcz import TARGET, Summary, run_stages, train_bp_lcz
from flows.workers import Errand, run_on_workers

TRIAL_DEPLOYMENT = "train-trial/trials"
_CODE = ("src", "dvc.yaml")


class Job(BaseModel):
    """Everything besides its name that determines the result of a trial."""

    commit: str
    params: str
    """Text of params.yaml."""
    lock: str
    """Text of dvc.lock with the stages that training reads from."""

    @property
    def key(self) -> str:
        """Short name, equal for equal jobs."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]


@flow(name="train-matrix")
def train_matrix(
    workspace: Path = Path(), concurrency: PositiveInt = 2, tries: PositiveInt = 3
) -> Summary | State[Any]:
    """Run data and prompts here, trials on workers of the pool ``bp-lcz-trials``, and all later stages here.

    Args:
        workspace: the checkout or a workspace, with a DVC remote that all workers reach; relative to the checkout.
        concurrency: number of stages at once on one device of this machine.
        tries: number of runs of a trial before a crash, such as the end of its machine, counts as final.
    """
    workspace = (CHECKOUT / workspace).resolve()
    try:
        params = load_params(workspace / PARAMS_FILE)
        changed = git(workspace, "status", "--porcelain", "--", *_CODE)
        if changed:
            raise UserError(workspace, "has uncommitted changes of code, but workers run only committed code")
        with only_run(workspace):
            graph, current = stage_graph(workspace, TARGET)
            inputs = graph[f"train@{next(iter(params.trials))}"]
            shared = inputs | _before(inputs, graph)
            _, failures = run_stages(
                workspace, params, {stage: graph[stage] for stage in graph if stage in shared}, current, concurrency
            )
            if failures:
                return Failed(message="; ".join(failures.values()))
            pushed = exchange("push", sorted(inputs), workspace)
            if pushed.is_failed():
                return Failed(message=pushed.message)
            lock = yaml.safe_load((workspace / LOCK_FILE).read_text(encoding="utf-8"))
            lock["stages"] = {name: entry for name, entry in lock["stages"].items() if name in inputs}
            job = Job(
                commit=git(workspace, "rev-parse", "HEAD"),
                params=(workspace / PARAMS_FILE).read_text(encoding="utf-8"),
                lock=yaml.safe_dump(lock, sort_keys=False),
            )
            states = run_on_workers(
                Errand(TRIAL_DEPLOYMENT, job.commit, job.key, tries),
                {trial: {"trial": trial, "job": job.model_dump()} for trial in params.trials},
            )
        lost = [f"{trial}: {state.message}" for trial, state in states.items() if not state.is_completed()]
        if lost:
            return Failed(message="; ".join(lost))
    except UserError as error:
        return Failed(message=str(error))
    finally:
        stop_running()
    state: State[Any] = train_bp_lcz(workspace, concurrency, pull=True, return_state=True)
    return Failed(message=state.message) if state.is_failed() else state


@flow(name="train-trial", flow_run_name="{trial}")
def train_trial(trial: str, job: Job) -> State[Any]:
    """Train and evaluate one trial in a workspace of this clone, and send the results to the DVC remote."""
    try:
        workspace = _job_workspace(job)
        params = load_params(workspace / PARAMS_FILE)
        stages = [f"train@{trial}", f"evaluate@{trial}"]
        pulled = exchange("pull", sorted(yaml.safe_load(job.lock)["stages"]), workspace)
        if pulled.is_failed():
            return Failed(message=pulled.message)
        devices, outcomes = Devices(1, find_gpus()), []
        for stage in stages:
            state = run_stage(stage, workspace, devices, params, pull=True, return_state=True)
            if not state.is_completed():
                return Failed(message=state.message)
            outcomes.append(f"{stage} {state.result()}")
        pushed = exchange("push", stages, workspace)
        return Failed(message=pushed.message) if pushed.is_failed() else Completed(message=", ".join(outcomes))
    except UserError as error:
        return Failed(message=str(error))
    finally:
        stop_running()


@task(task_run_name="{direction} {stages}", **tried_again(*LOCK_DELAYS))
def exchange(direction: str, stages: list[str], workspace: Path) -> State[None]:
    """Push or pull outputs of stages and the run cache, to or from the DVC remote."""
    ending = run_dvc(workspace, [direction, *stages])
    if ending.status != 0:
        return failed(ending.status, f"dvc {direction}: {ending.message}")
    return Completed(message=f"{direction} of {', '.join(stages)}")


def _before(stages: set[str], graph: dict[str, set[str]]) -> set[str]:
    """All stages that these need."""
    found = set[str]().union(*(graph[stage] for stage in stages))
    return found | _before(found, graph) if found else found


def _job_workspace(job: Job) -> Path:
    """The workspace of a job in this clone. It is made once, and always gets the clone's present DVC settings."""
    here = git(CHECKOUT, "rev-parse", "HEAD")
    if here != job.commit:
        raise UserError(CHECKOUT, f"is at commit {here[:10]}, the job at {job.commit[:10]}; `git pull` here")
    name = f"trials-{job.key}"
    with locked(CHECKOUT / ".dvc/tmp/trials.lock"), contextlib.chdir(CHECKOUT):
        folder = CHECKOUT / ".workspaces" / name
        ready = folder / ".dvc/tmp/ready"
        if not ready.exists():
            make_workspace(name)
            (folder / PARAMS_FILE).write_text(job.params, encoding="utf-8")
            (folder / LOCK_FILE).write_text(job.lock, encoding="utf-8")
            ready.parent.mkdir(exist_ok=True)
            ready.touch()
        share_dvc_settings(CHECKOUT, folder)
    return folder
