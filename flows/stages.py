"""One DVC stage as a task: its graph, its process, its log, and what is worth another try."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import yaml
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed, Failed
from prefect.tasks import Task

from bp_lcz.errors import TemporaryError, UserError, one_line
from bp_lcz.files import locked
from bp_lcz.workspace import FLOW_LOCK, LOCK_FILE

CHECKOUT = Path(__file__).parents[1]
"""The clone that this code lies in; a Prefect worker starts flows in a folder of its own."""

UP_TO_DATE, RESTORED, RAN = "up to date", "restored from the cache", "ran"

_BUSY = "another DVC process is at work"
_LOCK_RACE = re.compile(r"^ERROR: .*(Unable to acquire lock|is busy, it is being blocked by)")
_PASSING = "may pass by itself"
_UNREACHABLE = re.compile("Max retries exceeded|Connection refused|Connection reset|timed out|error code 50[234]")
_OUTSIDE = {signal.SIGKILL, signal.SIGBUS}
"""Signals that come from outside the stage: too little memory, an impatient person, a disk that went away."""

_CHATTER = re.compile(
    r"\s*$|.*:\s+0%\||(Generating|Updating) lock file|To track the changes|\s+git add |To enable auto staging"
    r"|\s+dvc config core.autostage|Use `dvc push`|Data and pipelines are up to date"
)
"""Lines of DVC that are the same for every stage."""

_running: set[subprocess.Popen[str]] = set()
"""Child processes of this process, to be stopped when the flow is."""


def is_worth_another_try(_task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether a failure has nothing to do with data or parameters.

    Another DVC process that holds a lock is waited for; what came from outside (a signal, a server that did not
    answer) gets two more tries, since a machine with too little memory fails for ever.
    """
    message = state.message or ""
    return _BUSY in message or "another process is training" in message or (_PASSING in message and run.run_count <= 2)


def tried_again(*seconds: float) -> dict[str, Any]:
    """Options of a task that is tried again after so many seconds each, where that is worth it.

    Nothing is cached: DVC's cache is enough, and no file tells whether a server has been changed.
    """
    return {
        "cache_policy": NO_CACHE,
        "retries": len(seconds),
        "retry_delay_seconds": list(seconds),
        "retry_jitter_factor": 0.5,
        "retry_condition_fn": is_worth_another_try,
    }


LOCK_DELAYS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds between tries where another DVC process may hold a lock."""

SERVER_TASK = tried_again(2, 10)  # the server may not answer at once


@task(task_run_name="{stage}", **tried_again(*LOCK_DELAYS))
def run_stage(stage: str, workspace: Path, extra: Mapping[str, str] | None = None, pull: bool = False) -> State[str]:
    """Bring one stage up to date, its output line by line in the log.

    Args:
        stage: its name in dvc.yaml.
        workspace: checkout or workspace.
        extra: environment variables of the stage.
        pull: take what other machines have made from the DVC remote.
    """
    logger = get_run_logger()
    started = time.monotonic()
    lines = []
    process = _start_repro([*["--pull"] * pull, stage], workspace, extra or {})
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            if not _CHATTER.match(line):
                logger.info("%s", lines[-1])
        status = process.wait()
    finally:
        _running.discard(process)
    if status != 0:
        return Failed(message=f"stage {stage}: {dvc_failure(lines, status, workspace)}")
    outcome = _outcome(lines)
    return Completed(message=f"{outcome}, {time.monotonic() - started:.1f} s", data=outcome)


@task(task_run_name="{stage}", cache_policy=NO_CACHE)
def skip_stage(stage: str) -> State[str]:
    """A stage that DVC has found up to date."""
    get_run_logger().info("%s is up to date", stage)
    return Completed(message=UP_TO_DATE, data=UP_TO_DATE)


def stage_graph(workspace: Path, target: str) -> tuple[dict[str, set[str]], set[str]]:
    """The stages that a target needs, and what of them is up to date.

    Returns:
        Each stage with those that come right before it, in an order to run; and the stages that need not run.
        While another DVC process holds its lock, none is known to be up to date.

    Raises:
        UserError: if dvc.yaml cannot be read or has no such stage.
    """
    import networkx
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo, lock_repo

    try:
        with Repo(str(workspace)) as repo:
            graph = repo.index.graph
            last = next((stage for stage in graph if getattr(stage, "name", None) == target), None)
            if last is None:
                raise UserError(workspace / "dvc.yaml", f"no stage {target}")
            needed = graph.subgraph([last, *networkx.descendants(graph, last)])
            # Stages without a command are files that DVC tracks.
            order = [stage for stage in reversed(list(networkx.topological_sort(needed))) if stage.cmd]
            before = {stage.name: {each.name for each in needed[stage] if each.cmd} for stage in order}
            current = set[str]()
            with suppress(LockError), lock_repo(repo):
                for stage in order:
                    if before[stage.name] <= current and not stage.status():
                        current.add(stage.name)
    except DvcException as error:
        raise UserError(workspace, one_line(error)) from None
    return before, current


@contextmanager
def only_run(workspace: Path) -> Iterator[None]:
    """Wait until no other flow run is at work in the workspace, then mend what a killed one left of DVC's files."""
    logger = get_run_logger()
    with locked(workspace / FLOW_LOCK, f"another run is at work in {workspace}", tell=logger.info):
        for line in _mend(workspace):
            logger.warning("%s", line)
        yield


def temporary(error: Exception) -> str:
    """One line for an error of a server, marked as worth another try; other errors are raised again."""
    line = one_line(error)
    if not isinstance(error, ConnectionError | TimeoutError | TemporaryError) and not _UNREACHABLE.search(line):
        raise error
    return f"{line}; {_PASSING}"


def registry_failure(step: str, error: Exception) -> str:
    """One line for what stopped a step at MLflow, marked where it is worth another try; faults are raised again."""
    if isinstance(error, TemporaryError):
        return temporary(error)
    return str(error) if isinstance(error, UserError) else f"{step}: {temporary(error)}"


def server_failure(url: str, error: httpx.HTTPError) -> str:
    """One line for a Prefect server that does not answer as it should; without passwords."""
    shown = httpx.URL(url).copy_with(username=None, password=None)
    if not isinstance(error, httpx.HTTPStatusError):
        return f"{shown}: no answer ({error or type(error).__name__}); `make server` starts one"
    status = error.response.status_code
    if status in (401, 403):
        return f"{shown}: the login is missing or wrong (HTTP {status}); set PREFECT_API_AUTH_STRING=user:password"
    return f"{shown}: HTTP {status}; is PREFECT_API_URL that of a Prefect server?"


def stop_running() -> None:
    """End all stages that this process has started."""
    for process in list(_running):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)


def dying_with_parent() -> list[str]:
    """Prefix by which the kernel ends a command when this process ends, however it ends."""
    setpriv = shutil.which("setpriv")  # util-linux
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


def stage_environment(workspace: Path) -> dict[str, str]:
    """A workspace runs its own code, and finds this environment's commands without activation."""
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


def _start_repro(arguments: list[str], workspace: Path, extra: Mapping[str, str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*dying_with_parent(), sys.executable, "-m", "dvc", "repro", "--single-item", *arguments],
        cwd=workspace,
        env=stage_environment(workspace) | dict(extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,  # so that the stage can be stopped together with DVC
    )
    _running.add(process)
    return process


def _outcome(lines: list[str]) -> str:
    if any(line.startswith("Running stage ") for line in lines):
        return RAN
    return RESTORED if any(" is cached - skipping run" in line for line in lines) else UP_TO_DATE


def dvc_failure(lines: list[str], status: int, workspace: Path) -> str:
    """One line: the signal that ended the stage, else the stage's own last error line, else DVC's."""
    last_first = lines[::-1]
    exits = (re.search(r"failed to run: .*, exited with (-?\d+)$", line) for line in last_first)
    stage_status = next((int(found[1]) for found in exits if found), status)
    if stage_status < 0:
        name = signal.Signals(-stage_status).name
        advice = f"{_PASSING}, e.g. too little memory; " if -stage_status in _OUTSIDE else ""
        return f"killed by signal {-stage_status} ({name}); {advice}run again, training goes on from its last epoch"
    own = next((line.removeprefix("error: ") for line in last_first if line.startswith("error: ")), None)
    if own is not None:
        return f"{own}; {_PASSING}" if stage_status == TemporaryError.status else own
    if any("No space left on device" in line for line in lines):
        return f"no space left on the disk of {workspace}; free some and run again"
    crash = next((line for line in last_first if re.match(r"[A-Za-z_.]+(Error|Exception): ", line)), None)
    if crash is not None:
        return f"{crash} (a fault of the program; the log has its traceback)"
    dvc = next((line for line in last_first if line.startswith("ERROR: ")), None)
    if dvc is not None and _LOCK_RACE.search(dvc):
        blockers = ", ".join(dict.fromkeys(re.findall(r"\(PID (\d+)\)", "\n".join(lines))))
        return f"{_BUSY} in {workspace}{f' (process {blockers})' * bool(blockers)}; wait for it, then run again"
    return dvc or f"exit status {status}"


def _mend(workspace: Path) -> Iterator[str]:
    """Put away files that DVC writes in place and so leaves half-written when it is killed or the disk is full.

    Nothing is lost with ``dvc.lock``: DVC's run cache restores what was done without running it.
    """
    from dvc.rwlock import SCHEMA as RWLOCK
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA as LOCKFILE

    locks, record = workspace / ".dvc/tmp/rwlock", workspace / LOCK_FILE
    if not _is_whole(locks, json.loads, RWLOCK):
        time.sleep(0.5)  # not one that a living DVC is writing
        if not _is_whole(locks, json.loads, RWLOCK):
            locks.unlink()
            yield f"{locks}: was half-written; removed"
    if not _is_whole(record, yaml.safe_load, LOCKFILE):
        record.replace(workspace / ".dvc/tmp/dvc.lock.damaged")
        yield f"{record}: was half-written; moved to .dvc/tmp, and stages are restored from DVC's run cache"


def _is_whole(file: Path, parse: Callable[[str], Any], schema: Callable[[Any], Any]) -> bool:
    from voluptuous import Invalid

    try:
        schema(parse(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return True
    except (ValueError, yaml.YAMLError, Invalid):
        return False
    return True
