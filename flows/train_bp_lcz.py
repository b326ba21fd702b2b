"""The flow ``train-bp-lcz``: the report, the paper's claims, every stage that they need, then MLflow.

The stages and their order come from dvc.yaml through DVC; each is a task that runs ``dvc repro -s <stage>``,
so what is up to date is not run. After them the cells are mirrored to MLflow and the best one is registered.

    python -m flows.train_bp_lcz
    python -m flows.train_bp_lcz --workspace .workspaces/mydata --concurrency 4
"""

import argparse
import logging
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from prefect import flow, get_client, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import Task
from pydantic import PositiveInt

from bp_lcz.data.provenance import leak_mark
from bp_lcz.errors import UserError
from bp_lcz.params import PARAMS_FILE, Params, load_params
from bp_lcz.paths import EVALUATIONS, REPORTS
from bp_lcz.registry.lineage import read_json
from bp_lcz.registry.store import file_lock
from bp_lcz.workspace import main_checkout

if TYPE_CHECKING:
    from bp_lcz.registry.register import Registration

TARGET = "verify"
UP_TO_DATE, RESTORED, RAN = "up to date", "restored from the cache", "ran"

_LOCK_RACE = re.compile(r": ERROR: .*(Unable to acquire lock|is busy, it is being blocked by)")
_CHATTER = re.compile(
    r"\s*$|.*:\s+0%\||(Generating|Updating) lock file|To track the changes|\s+git add |To enable auto staging"
    r"|\s+dvc config core.autostage|Use `dvc push`|Data and pipelines are up to date"
)
"""Lines of DVC that are the same for every stage."""

_running: set[subprocess.Popen[str]] = set()
"""Child processes of this process, to be stopped when the flow is."""


@dataclass
class Summary:
    """What a flow run ends with.

    Attributes:
        workspace: where it ran.
        outcomes: of each stage, ``ran``, ``restored from the cache`` or ``up to date``.
        scores: overall accuracy and kappa of each cell on the testing split.
        kind: of the data set, such as ``simulated``.
        leak_mark: ``leaky split`` where the splits of the data set overlap, else nothing.
        registration: the registered version, or None without a cell of variant ``bp-lcz``.
    """

    workspace: Path
    outcomes: Mapping[str, str]
    scores: Mapping[str, tuple[float | None, float | None]]
    kind: str
    leak_mark: str
    registration: "Registration | None"

    @property
    def report(self) -> Path:
        """The static page, relative to the current folder where it lies below it."""
        page = self.workspace / REPORTS / "index.html"
        return page.relative_to(Path.cwd()) if page.is_relative_to(Path.cwd()) else page

    def lines(self) -> list[str]:
        """The summary as plain text."""
        width = max(len("cell"), *(len(cell) for cell in self.scores))
        return [
            f"{', '.join(filter(None, [_HEADS.get(self.kind, 'testing split'), self.leak_mark]))}:",
            f"{'cell':<{width}}  {'OA':>5}  {'kappa':>5}",
            *(f"{cell:<{width}}  {_score(oa)}  {_score(kappa)}" for cell, (oa, kappa) in self.scores.items()),
            "",
            f"stages      {self._counted()}",
            f"report      {self.report}",
            f"registered  {_registered(self.registration)}",
        ]

    def _counted(self) -> str:
        outcomes = list(self.outcomes.values())
        if set(outcomes) == {UP_TO_DATE}:
            return f"all {len(outcomes)} were up to date, none ran"
        counts = {outcome: outcomes.count(outcome) for outcome in (RAN, RESTORED, UP_TO_DATE)}
        return ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)


_HEADS = {
    "simulated": "testing split of simulated data, not comparable with published results",
    "weak labels": "testing split with weak labels, not comparable with published results",
    "unstated": "testing split of data whose provenance is not stated",
}


def is_lock_race(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether a stage failed only because another DVC process held a lock at that moment."""
    return bool(_LOCK_RACE.search(state.message or ""))


@task(
    task_run_name="{stage}",
    cache_policy=NO_CACHE,  # DVC's cache is enough
    retries=6,
    retry_delay_seconds=[1, 2, 4, 8, 15, 30],
    retry_jitter_factor=0.5,
    retry_condition_fn=is_lock_race,
)
def run_stage(stage: str, workspace: Path) -> State[str]:
    """Bring one stage up to date, its output line by line in the log."""
    logger = get_run_logger()
    started = time.monotonic()
    lines = []
    process = subprocess.Popen(
        [*_dying_with_parent(), sys.executable, "-m", "dvc", "repro", "--single-item", stage],
        cwd=workspace,
        env=_stage_environment(workspace),
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
        for line in process.stdout:
            lines.append(line.rstrip())
            if not _CHATTER.match(line):
                logger.info("%s", lines[-1])
        status = process.wait()
    finally:
        _running.discard(process)
    if status != 0:
        return Failed(message=f"stage {stage}: {_cause(lines, status)}")
    outcome = _outcome(lines)
    return Completed(message=f"{outcome}, {time.monotonic() - started:.1f} s", data=outcome)


@task(task_run_name="mirror", cache_policy=NO_CACHE, retries=1, retry_condition_fn=is_lock_race)
def mirror(workspace: Path, params: Params) -> State[dict[str, str]]:
    """One MLflow run for each cell that has none yet."""
    from bp_lcz.registry.mirror import mirror_cells

    try:
        runs = mirror_cells(workspace, params)
    except UserError as error:
        return Failed(message=str(error))
    return Completed(message=f"{len(runs)} cells", data=runs)


@task(task_run_name="register", cache_policy=NO_CACHE, retries=1, retry_condition_fn=is_lock_race)
def register(workspace: Path, params: Params, runs: dict[str, str]) -> State["Registration | None"]:
    """The best ``bp-lcz`` cell as the challenger of the data set's model."""
    from bp_lcz.registry.register import register_best

    try:
        registration = register_best(workspace, params, runs)
    except UserError as error:
        return Failed(message=str(error))
    return Completed(message=_registered(registration), data=registration)


@flow(name="train-bp-lcz", task_runner=ThreadPoolTaskRunner(max_workers=64))  # type: ignore[arg-type]
def train_bp_lcz(workspace: Path = Path(), concurrency: PositiveInt = 2) -> Summary | State[Any]:
    """From a data set to a report and a registered model.

    Args:
        workspace: the checkout, or a workspace made by ``bp-lcz workspace``.
        concurrency: stages that may run side by side, such as cells that share a device.

    Returns:
        The summary, or a failed state whose message is one line.
    """
    workspace = workspace.resolve()
    try:
        params = load_params(workspace / PARAMS_FILE)
        outcomes, failures = _run_graph(stage_graph(workspace), workspace, concurrency)
        # A claim of the paper that fails is a result like another: the model is registered all the same.
        failed_claim = failures.pop(TARGET, None)
        if failures:
            return Failed(message="; ".join(failures.values()))
        mirrored = mirror(workspace, params)
        if mirrored.is_failed():
            return Failed(message=mirrored.message)
        registered = register(workspace, params, mirrored.result())
        if registered.is_failed():
            return Failed(message=registered.message)
        summary = _summary(workspace, params, outcomes, registered.result())
    except UserError as error:
        return Failed(message=str(error))
    finally:
        _stop_running()  # nothing runs here but after an interrupt or a signal
    create_markdown_artifact("\n".join(f"    {line}" for line in summary.lines()), key="train-bp-lcz")
    if failed_claim is not None:
        get_run_logger().info("\n%s", "\n".join(summary.lines()))
        return Failed(message=failed_claim)
    return summary


def stage_graph(workspace: Path) -> dict[str, set[str]]:
    """The last stage and those it needs, each with the stages that come right before it, in an order to run.

    Raises:
        UserError: if dvc.yaml cannot be read or has no stage ``verify``.
    """
    import networkx
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(workspace)) as repo:
            graph = repo.index.graph
    except DvcException as error:
        raise UserError(f"{workspace}: {' '.join(str(error).split())}") from None
    target = next((stage for stage in graph if getattr(stage, "name", None) == TARGET), None)
    if target is None:
        raise UserError(f"{workspace / 'dvc.yaml'}: no stage {TARGET}")
    needed = graph.subgraph([target, *networkx.descendants(graph, target)])
    # Stages without a command are files that DVC tracks.
    order = [stage for stage in reversed(list(networkx.topological_sort(needed))) if stage.cmd]
    return {stage.name: {before.name for before in needed[stage] if before.cmd} for stage in order}


def _run_graph(graph: dict[str, set[str]], workspace: Path, concurrency: int) -> tuple[dict[str, str], dict[str, str]]:
    """Run each stage as soon as those before it are done; after a failure, only what does not need it.

    Returns:
        Outcome of each stage that succeeded, and a line for each that failed.
    """
    outcomes: dict[str, str] = {}
    failures: dict[str, str] = {}
    waiting, active = list(graph), dict[PrefectFuture[Any], str]()
    done = queue.SimpleQueue[PrefectFuture[Any]]()
    while True:
        ready = [stage for stage in waiting if graph[stage] <= outcomes.keys()]
        for stage in ready[: concurrency - len(active)]:
            waiting.remove(stage)
            future = run_stage.submit(stage, workspace)
            active[future] = stage
            future.add_done_callback(done.put)
        if not active:
            return outcomes, failures
        finished = done.get()
        finished.wait()
        stage, state = active.pop(finished), finished.state
        if state.is_completed():
            outcomes[stage] = state.result()
        else:
            failures[stage] = state.message or f"stage {stage}: {state.name}"


def _stage_environment(workspace: Path) -> dict[str, str]:
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


def _dying_with_parent() -> list[str]:
    """Prefix by which the kernel ends a command when this process ends, however it ends."""
    setpriv = shutil.which("setpriv")  # util-linux
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


def _stop_running() -> None:
    for process in list(_running):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)


def _outcome(lines: list[str]) -> str:
    if any(line.startswith("Running stage ") for line in lines):
        return RAN
    return RESTORED if any(" is cached - skipping run" in line for line in lines) else UP_TO_DATE


def _cause(lines: list[str], status: int) -> str:
    """The stage's own last error line, else DVC's, else the exit status."""
    for start in ("error: ", "ERROR: "):
        for line in reversed(lines):
            if line.startswith(start):
                return line if start == "ERROR: " else line.removeprefix(start)
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"


def _summary(workspace: Path, params: Params, outcomes: dict[str, str], registration: "Registration | None") -> Summary:
    evaluations = {cell: read_json(workspace / EVALUATIONS / cell / "evaluation.json") for cell in params.cells}
    scores = {cell: (evaluation["oa"], evaluation["kappa"]) for cell, evaluation in evaluations.items()}
    first = next(iter(evaluations.values()))
    return Summary(workspace, outcomes, scores, first["kind"], leak_mark(first["leakage"]), registration)


def _registered(registration: "Registration | None") -> str:
    if registration is None:
        return "nothing: no cell of variant bp-lcz"
    version = f"{registration.name} version {registration.version} @{registration.alias}"
    return f"{version} (cell {registration.cell})"


def _score(value: float | None) -> str:
    return " " * 4 + "-" if value is None else f"{value:.3f}"


def main() -> None:
    """Run the flow here and print its summary."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.train_bp_lcz",
        description="Bring the report, the claims and every stage that they need up to date, then mirror the cells "
        "to MLflow and register the best one.",
        epilog="Example: python -m flows.train_bp_lcz --workspace .workspaces/mydata --concurrency 4",
    )
    parser.add_argument("--workspace", type=Path, default=Path(), help="checkout or workspace (default: here)")
    parser.add_argument("--concurrency", type=int, default=2, help="stages side by side (default: 2)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, _interrupted)
    try:
        _await_server(arguments.workspace)
        state = train_bp_lcz(arguments.workspace, arguments.concurrency, return_state=True)
    except UserError as error:
        sys.exit(f"error: {error}")
    if not state.is_completed():
        sys.exit(f"error: {state.message}")
    summary = state.result()
    assert isinstance(summary, Summary)
    print("", *summary.lines(), sep="\n")


def _interrupted(*_: object) -> None:
    """Ctrl-C: end everything that this process has started, and this process at once.

    A terminal sends the signal to the flow's own server as well, and Prefect would go on asking that server for a
    minute before it gave up.
    """
    _stop_running()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            process.terminate()
    os.write(2, b"interrupted; run again to go on from here\n")
    os._exit(130)


def _await_server(workspace: Path) -> None:
    """Start the flow's server, one process at a time: two that make its database at once would collide."""
    print("starting Prefect ...", file=sys.stderr)
    logging.getLogger("prefect").addFilter(lambda record: "temporary server" not in record.getMessage())
    with file_lock(main_checkout(workspace) / ".prefect/start.lock"), get_client(sync_client=True) as client:
        client.hello()


if __name__ == "__main__":
    main()
