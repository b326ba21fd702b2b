"""The flow ``train-bp-lcz``: makes the report, the claims and every stage that they need, then fills MLflow.

The stages and their order come from dvc.yaml through DVC. Each stage is a task that does what ``dvc repro -s <stage>``
does, so stages that are up to date do not run. Then the trials are mirrored to MLflow, and the best one is registered.

    python -m flows.train_bp_lcz
    python -m flows.train_bp_lcz --workspace .workspaces/mydata --concurrency 4
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, as_completed
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import PositiveInt

from bp_lcz.committed import compare_bytes
from bp_lcz.dvc_internals import RAN, RESTORED, UP_TO_DATE, stage_graph
from bp_lcz.errors import UserError
from bp_lcz.params import PARAMS_FILE, Params, load_params
from bp_lcz.paths import CLAIMS, EVALUATIONS, REPORTS, SUMMARY
from bp_lcz.records import Claims, Evaluation
from bp_lcz.so2sat.releases import PROTOCOLS
from flows.artifacts import artifact_key, show_claims, show_figures, show_lines, show_results, show_validation
from flows.devices import Devices, find_gpus
from flows.here import keep_interrupts, result_of
from flows.plan import is_table_due, so_far
from flows.screen import screen
from flows.stages import (
    CHECKOUT,
    LOST_DEVICE,
    SERVER_TASK,
    failure,
    only_run,
    run_stage,
    skip_stage,
    stop_running,
)

if TYPE_CHECKING:
    from bp_lcz.registry.register import Registration

TARGET = "verify"

SLOW_PROFILE = "paper"
"""Profile whose trials take days, so results are shown as they come."""


@dataclass
class Summary:
    """The result of a flow run.

    Attributes:
        workspace: workspace in which it ran.
        outcomes: for each stage ``ran``, ``restored from the cache`` or ``up to date``.
        bytes: how many stages have the bytes of the committed ``dvc.lock``.
        scores: overall accuracy and kappa of each trial on the testing split.
        heading: kind of the data, and cautions.
        method: sentences on whether the method beats its parts.
        registration: the registered version, or None if ``register`` allows no trial.
    """

    workspace: Path
    outcomes: Mapping[str, str]
    bytes: str
    scores: Mapping[str, tuple[float | None, float | None]]
    heading: str
    method: Sequence[str]
    registration: "Registration | None"

    @property
    def report(self) -> Path:
        """Path of the report, relative to the current folder if it is below it."""
        page = self.workspace / REPORTS / "index.html"
        return page.relative_to(Path.cwd()) if page.is_relative_to(Path.cwd()) else page

    def lines(self) -> list[str]:
        """The summary as plain text."""
        width = max(len("trial"), *(len(trial) for trial in self.scores))
        return [
            f"testing split, {self.heading}:",
            f"{'trial':<{width}}  {'OA':>5}  {'kappa':>5}",
            *(f"{trial:<{width}}  {_score(oa)}  {_score(kappa)}" for trial, (oa, kappa) in self.scores.items()),
            *self.method,
            "",
            f"stages      {self._counted()}",
            f"bytes       {self.bytes}",
            f"report      {self.report}",
            f"registered  {_registered(self.registration)}",
            *([f"validation  {self.registration.choice}"] if self.registration else []),
            f"next        open {self.report}; make mlflow shows the runs; bp-lcz promote, serve, map use the model",
        ]

    def _counted(self) -> str:
        outcomes = list(self.outcomes.values())
        if set(outcomes) == {UP_TO_DATE}:
            return f"all {len(outcomes)} were up to date, none ran"
        counts = {outcome: outcomes.count(outcome) for outcome in (RAN, RESTORED, UP_TO_DATE)}
        return ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)


@task(task_run_name="mirror", **SERVER_TASK)
def mirror(workspace: Path, params: Params) -> State[dict[str, str]]:
    """Make one MLflow run for each trial that has none yet."""
    from bp_lcz.registry.mirror import mirror_trials

    try:
        runs = mirror_trials(workspace, params)
    except Exception as error:
        return failure(error)
    return Completed(message=f"{len(runs)} trials", data=runs)


@task(task_run_name="register", **SERVER_TASK)
def register(workspace: Path, params: Params, runs: dict[str, str]) -> State["Registration | None"]:
    """Register the best trial as the challenger of the data set's model."""
    from bp_lcz.registry.register import register_best

    try:
        registration = register_best(workspace, params, runs)
    except Exception as error:
        return failure(error)
    return Completed(message=_registered(registration), data=registration)


@flow(name="train-bp-lcz", task_runner=ThreadPoolTaskRunner(max_workers=64))  # type: ignore[arg-type]
def train_bp_lcz(workspace: Path = Path(), concurrency: PositiveInt = 2, pull: bool = False) -> Summary | State[Any]:
    """From a data set to a report and a registered model.

    Args:
        workspace: the checkout, or a workspace made by ``bp-lcz workspace``; relative to the checkout.
        concurrency: number of stages that may run at once on one device, including those of other runs.
        pull: take results of other machines from the DVC remote.

    Returns:
        The summary, or a failed state whose message is one line.
    """
    keep_interrupts()
    workspace = (CHECKOUT / workspace).resolve()
    try:
        params = load_params(workspace / PARAMS_FILE)
        with only_run(workspace):
            graph, current = stage_graph(workspace, TARGET)
            started = time.time()
            outcomes, failures = run_stages(workspace, params, graph, current, concurrency, pull)
            if _is_of_this_run("validate", workspace / SUMMARY, outcomes, started):
                show_validation(workspace)
            if _is_of_this_run(TARGET, workspace / CLAIMS, outcomes, started):
                show_claims(workspace)
            # A failed claim of the paper is a result too: the model is registered anyway.
            failed_claim = failures.pop(TARGET, None)
            if failures:
                return Failed(message=_one_line_of(failures))
            mirrored = mirror(workspace, params)
            if mirrored.is_failed():
                return Failed(message=mirrored.message)
            registered = register(workspace, params, mirrored.result())
            if registered.is_failed():
                return Failed(message=registered.message)
            summary = _summary(workspace, params, outcomes, registered.result())
            show_results(workspace, params)
            show_figures(workspace)
            show_lines(workspace, "summary", summary.lines(), "summary of the run")
    except UserError as error:
        return Failed(message=str(error))
    finally:
        stop_running()  # something still runs here only after an interrupt or a signal
    get_run_logger().info("\n%s", "\n".join(summary.lines()))
    if failed_claim is not None:
        return Failed(message=failed_claim)
    return summary


def run_stages(
    workspace: Path,
    params: Params,
    graph: dict[str, set[str]],
    current: set[str],
    concurrency: int,
    pull: bool = False,
) -> tuple[dict[str, str], dict[str, str]]:
    """Run each stage once its predecessors are done and a device is free. After a failure, independent stages go on.

    Args:
        workspace: checkout or workspace.
        params: parameters of the workspace.
        graph: each stage with its direct predecessors, in an order in which they can run.
        current: stages that are up to date.
        concurrency: number of stages on one device at once.
        pull: take results of other machines from the DVC remote.

    Returns:
        Outcome of each stage that succeeded, and a line for each that failed. If a device is lost, only its line.
    """
    logger, devices = get_run_logger(), Devices(concurrency, find_gpus(), graph, current)
    progress = create_progress_artifact(0.0, key=artifact_key(workspace, "progress"), description="stages done")
    assert isinstance(progress, UUID)  # the function returns a coroutine only inside one
    futures = dict[str, PrefectFuture[Any]]()
    outcomes, failures, lost = dict[str, str](), dict[str, str](), None
    try:
        for stage, before in graph.items():
            needs = [futures[each] for each in before]
            futures[stage] = (
                skip_stage.submit(stage, return_state=False, wait_for=needs)
                if stage in current
                else run_stage.submit(stage, workspace, devices, params, pull, return_state=False, wait_for=needs)
            )
        names = {future.task_run_id: stage for stage, future in futures.items()}
        for future in as_completed(list(futures.values())):
            future.wait()  # sets its state
            stage, state = names[future.task_run_id], future.state
            if state.is_completed():
                outcomes[stage] = state.result()
                _tell_so_far(stage, workspace, params, outcomes)
            elif not state.is_pending():  # stages that need a failed one stay pending
                failures[stage] = state.message or f"stage {stage}: {state.name}"
                if state.name == LOST_DEVICE and lost is None:
                    lost = stage
                    devices.close()  # all other stages on this device would fail one after the other
            logger.info("%d of %d stages done", len(outcomes), len(graph))
            is_news = outcomes.get(stage) != UP_TO_DATE and not state.is_pending()
            if is_news and (stage in outcomes or lost in (None, stage)):
                screen.tell(f"{len(outcomes):{len(str(len(graph)))}}/{len(graph)}  {stage}: {state.message}")
            update_progress_artifact(progress, 100.0 * len(outcomes) / len(graph))
    finally:
        devices.close()
    return outcomes, failures if lost is None else {lost: failures[lost]}


def _one_line_of(failures: Mapping[str, str]) -> str:
    """All failures in one line. Stages that failed for one reason share it: one mistake may concern all trials."""
    stages = dict[str, list[str]]()
    for stage, message in failures.items():
        stages.setdefault(message.removeprefix(f"stage {stage}: "), []).append(stage)
    return "; ".join(f"stage {', '.join(names)}: {reason}" for reason, names in stages.items())


def _tell_so_far(stage: str, workspace: Path, params: Params, outcomes: Mapping[str, str]) -> None:
    """Show a table of the results so far in a run of days, after a trial that this run evaluated."""
    kind, _, trial = stage.partition("@")
    if kind != "evaluate" or params.profile != SLOW_PROFILE or outcomes[stage] == UP_TO_DATE:
        return
    done = {name.partition("@")[2] for name in outcomes if name.startswith("evaluate@")}
    if is_table_due(params, trial, done):
        table = so_far(workspace, params, done)
        get_run_logger().info("\n%s", "\n".join(table))
        screen.tell("", *table, "")


def _is_of_this_run(stage: str, file: Path, outcomes: Mapping[str, str], started: float) -> bool:
    """Whether this run wrote the file of a stage. Stages that refuse data or a claim write it before they fail."""
    return file.exists() and (stage in outcomes or file.stat().st_mtime >= started)


def _summary(workspace: Path, params: Params, outcomes: dict[str, str], registration: "Registration | None") -> Summary:
    files = {trial: workspace / EVALUATIONS / trial / "evaluation.json" for trial in params.trials}
    evaluations = {trial: Evaluation.read(file) for trial, file in files.items()}
    scores = {trial: (evaluation.oa, evaluation.kappa) for trial, evaluation in evaluations.items()}
    first = next(iter(evaluations.values()))
    claims = Claims.read(workspace / CLAIMS)
    heading = ", ".join(filter(None, [first.heading, PROTOCOLS.get(claims.release or "")]))
    heading += ", not comparable with published results" * bool(first.caution)
    if len({evaluation.seed for evaluation in evaluations.values()}) == 1:
        heading += "; one seed decides nothing between trials"
    return Summary(workspace, outcomes, str(compare_bytes(workspace)), scores, heading, claims.method, registration)


def _registered(registration: "Registration | None") -> str:
    if registration is None:
        return "nothing: no trial that `register` of params.yaml allows"
    version = f"{registration.name} version {registration.version} @{registration.alias}"
    return f"{version} (trial {registration.trial})"


def _score(value: float | None) -> str:
    return " " * 4 + "-" if value is None else f"{value:.3f}"


def main() -> None:
    """Run the flow here and print its summary."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.train_bp_lcz",
        description="Bring the report, the claims and every stage that they need up to date, then mirror the trials "
        "to MLflow and register the best one.",
        epilog="Example: python -m flows.train_bp_lcz --workspace .workspaces/mydata --concurrency 4",
    )
    parser.add_argument("--workspace", type=Path, default=Path(), help="checkout or workspace (default: here)")
    parser.add_argument("--concurrency", type=int, default=2, help="stages side by side on one device (default: 2)")
    parser.add_argument("--verbose", action="store_true", help="show the whole log instead of a line for each stage")
    arguments = parser.parse_args()
    run_here(arguments.workspace, arguments.concurrency, arguments.verbose)


def run_here(workspace: Path, concurrency: int, verbose: bool = False) -> None:
    """Run the flow in this process and show its summary. A failure ends the process with one line.

    Args:
        workspace: checkout or workspace.
        concurrency: stages side by side on one device.
        verbose: show the whole log instead of a line for each stage.
    """
    folder = workspace.resolve()
    summary = result_of(lambda: train_bp_lcz(folder, concurrency, return_state=True), folder, verbose)
    assert isinstance(summary, Summary)
    if not verbose:  # the log ends with it
        print("", *summary.lines(), sep="\n")


if __name__ == "__main__":
    main()
