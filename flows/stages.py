"""Runs one DVC stage as a task: its process, its log, and which failures are tried again."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import httpx
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed, Failed
from prefect.tasks import Task

from bp_lcz.dvc_internals import UP_TO_DATE, mend
from bp_lcz.errors import STATUS_FILE, BusyError, DeviceError, Ending, TemporaryError, UserError
from bp_lcz.files import locked
from bp_lcz.params import Params
from bp_lcz.progress import PROGRESS_FILE
from bp_lcz.registry.live import LiveRun
from bp_lcz.workspace import FLOW_LOCK
from flows.devices import Devices
from flows.screen import screen

CHECKOUT = Path(__file__).parents[1]
"""The clone that holds this code. A Prefect worker starts flows in a folder of its own."""

_CHATTER = re.compile(
    r"\s*$|.*:\s+0%\||(Generating|Updating) lock file|To track the changes|\s+git add |To enable auto staging"
    r"|\s+dvc config core.autostage"
)
"""Lines of DVC that are the same for every stage."""

_running: set[subprocess.Popen[str]] = set()
"""Child processes of this process, which stop when the flow stops."""
_shown: set[LiveRun] = set()
"""MLflow runs of stages that have not ended."""


LOST_DEVICE = "Device"
_KINDS = {BusyError.status: "Busy", TemporaryError.status: "Temporary", DeviceError.status: LOST_DEVICE}
"""Exit statuses whose failures are tried again, and the names of their failed states."""


def failed(status: int, message: str) -> State[Any]:
    """The failed state for an exit status; its name is the kind of failure."""
    return Failed(name=_KINDS.get(status, "Failed"), message=message)


def is_worth_another_try(_task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether a failure does not come from data or parameters.

    A stage waits for another process that holds a lock. A failure from outside (a signal, a server that does not
    answer) gets two more tries and no more, since a machine with too little memory fails every time.
    """
    return state.name == "Busy" or (state.name in ("Temporary", LOST_DEVICE) and run.run_count <= 2)


def tried_again(*seconds: float) -> dict[str, Any]:
    """Options of a task that is tried again after these delays, if the failure is worth it.

    Nothing is cached: DVC's cache is enough, and no file tells whether a server has changed.
    """
    return {
        "cache_policy": NO_CACHE,
        "retries": len(seconds),
        "retry_delay_seconds": list(seconds),
        "retry_jitter_factor": 0.5,
        "retry_condition_fn": is_worth_another_try,
    }


LOCK_DELAYS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds between tries of a task that another DVC process may block by a lock."""

SERVER_TASK = tried_again(2, 10)  # the server may not answer at once


@task(task_run_name="{stage}", **tried_again(*LOCK_DELAYS))
def run_stage(stage: str, workspace: Path, devices: Devices, params: Params, pull: bool = False) -> State[str]:
    """Bring one stage up to date on a device of its own, and log its output line by line.

    Args:
        stage: name of the stage in dvc.yaml.
        workspace: checkout or workspace.
        devices: devices of this machine.
        params: the workspace's parameters.
        pull: take results of other machines from the DVC remote.
    """
    logger, trial = get_run_logger(), stage.partition("@")[2]
    try:
        with devices.take(stage, params, logger.log) as slot, tempfile.TemporaryDirectory(prefix="bp-lcz-") as folder:
            started = time.monotonic()
            file = Path(folder) / "progress.jsonl"
            extra = slot.environment | {PROGRESS_FILE: str(file)}
            live, is_done = LiveRun(workspace, params, trial, file, logger.warning), False
            _shown.add(live)
            screen.begin(stage, params.trial(trial).train.epochs if stage.startswith("train@") else None)

            def follow() -> None:
                live.follow()
                screen.reach(stage, live.epoch)

            try:
                ending = run_dvc(workspace, ["repro", *["--pull"] * pull, stage], extra, follow)
                is_done = ending.status == 0
                if is_done:
                    devices.tell_done(stage)  # before another stage gets the device
            finally:
                screen.end(stage)
                live.end(is_done)
                _shown.discard(live)
    except UserError as error:
        return failed(error.status, str(error))
    if ending.status != 0:
        return failed(ending.status, f"stage {stage}: {ending.message}")
    return Completed(message=f"{ending.message}, {time.monotonic() - started:.1f} s", data=ending.message)


@task(task_run_name="{stage}", cache_policy=NO_CACHE)
def skip_stage(stage: str) -> State[str]:
    """A stage that DVC has found up to date."""
    get_run_logger().info("%s is up to date", stage)
    return Completed(message=UP_TO_DATE, data=UP_TO_DATE)


@contextmanager
def only_run(workspace: Path) -> Iterator[None]:
    """Wait until no other flow run works in the workspace, then repair DVC's files after a killed run."""
    logger = get_run_logger()
    with locked(workspace / FLOW_LOCK, f"another run is at work in {workspace}", tell=logger.warning):
        for line in mend(workspace):
            logger.warning("%s", line)
        yield


def failure(error: Exception) -> State[Any]:
    """The failed state for an error at MLflow; faults are raised again."""
    from bp_lcz.registry.connection import is_unanswered, reason

    if is_unanswered(error) and not isinstance(error, UserError):
        error = TemporaryError("MLflow", f"does not answer ({reason(error)})")
    if not isinstance(error, UserError):
        raise error
    return failed(error.status, str(error))


def server_failure(url: str, error: httpx.HTTPError) -> str:
    """One line, without passwords, for a Prefect server that does not answer as it should."""
    shown = httpx.URL(url).copy_with(username=None, password=None)
    if not isinstance(error, httpx.HTTPStatusError):
        return f"{shown}: no answer ({error or type(error).__name__}); `make server` starts one"
    status = error.response.status_code
    if status in (401, 403):
        return f"{shown}: the login is missing or wrong (HTTP {status}); set PREFECT_API_AUTH_STRING=user:password"
    return f"{shown}: HTTP {status}; is PREFECT_API_URL the address of a Prefect server?"


def stop_running() -> None:
    """End all stages that this process has started."""
    for process in list(_running):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)


def end_live_runs(seconds: float) -> None:
    """Tell MLflow, within so many seconds, that the trainings of this process have been stopped."""
    ends = [Thread(target=live.end, args=(False,), daemon=True) for live in list(_shown)]
    for end in ends:
        end.start()
    for end in ends:
        end.join(seconds / len(ends))


def dying_with_parent() -> list[str]:
    """Command prefix with which the kernel ends a command when this process ends for any reason."""
    setpriv = shutil.which("setpriv")  # util-linux
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


def stage_environment(workspace: Path) -> dict[str, str]:
    """Environment in which a workspace runs its own code and finds this environment's commands without activation."""
    # Not resolve(): python in a virtual environment is a link out of it.
    commands = Path(sys.executable).parent

    def before(folder: Path, variable: str) -> str:
        return os.pathsep.join(filter(None, [str(folder), os.environ.get(variable)]))

    return {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": before(workspace / "src", "PYTHONPATH"),
        "PATH": before(commands, "PATH"),
    }


class DvcEnding(NamedTuple):
    """How an action of DVC ended: an exit status of `bp_lcz.errors`, and the outcome of the stage or the error."""

    status: int
    message: str


def run_dvc(
    workspace: Path,
    arguments: list[str],
    extra: Mapping[str, str] | None = None,
    follow: Callable[[], None] = lambda: None,
) -> DvcEnding:
    """Run an action of DVC in a process of its own and log its lines; see `bp_lcz.dvc_internals`.

    Args:
        workspace: checkout or workspace.
        arguments: the action and its targets.
        extra: environment variables.
        follow: called after each line.
    """
    logger = get_run_logger()
    with tempfile.TemporaryDirectory(prefix="bp-lcz-") as folder:
        file = Path(folder) / "ending.json"
        process = subprocess.Popen(
            [*dying_with_parent(), sys.executable, "-m", "bp_lcz.dvc_internals", *arguments],
            cwd=workspace,
            env=stage_environment(workspace) | dict(extra or {}) | {STATUS_FILE: str(file)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,  # so that the stage can be stopped together with DVC
        )
        _running.add(process)
        try:
            assert process.stdout is not None
            with process.stdout:
                for line in process.stdout:
                    if not _CHATTER.match(line):
                        logger.info("%s", line.rstrip())
                    follow()
            status = process.wait()
        finally:
            _running.discard(process)
        ending = Ending.read(file)
    if status < 0 or ending is None or ending.status is None:
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return DvcEnding(TemporaryError.status, f"DVC was ended from outside ({how}); run again")
    return DvcEnding(ending.status, ending.message)
