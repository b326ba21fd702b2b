"""A command for each stage of dvc.yaml."""

import importlib
from typing import Annotated

import typer

from bp_lcz.cli.shown import AsJson
from bp_lcz.params import load_params

commands = typer.Typer()
stage = commands.command(rich_help_panel="Stages of dvc.yaml")
TrialName = Annotated[str, typer.Argument(help="Name of an entry of `trials` in params.yaml.")]


def _run_stage(name: str, *trials: str, **options: bool) -> None:
    params = load_params()
    for trial in trials:
        params.trial(trial)  # refuses a mistyped name before torch is loaded, which takes seconds
    importlib.import_module(f"bp_lcz.stages.{name}").run(params, *trials, **options)


@stage
def simulate() -> None:
    """Make the demo data from a seed, in So2Sat's own HDF5 layout.

    Example: bp-lcz simulate
    """
    _run_stage("simulate")


@stage
def validate() -> None:
    """Check the data set of params.yaml. If an expectation fails, stop, and name it and the first wrong patches.

    To check your own patches, make a workspace whose params.yaml names their folder, and validate there.

    Example: bp-lcz validate

    Example: bp-lcz workspace NAME --dataset DIR && cd .workspaces/NAME && bp-lcz validate
    """
    _run_stage("validate")


@stage
def pack() -> None:
    """Write the arrays that training reads, and the statistics of the training split.

    Example: bp-lcz pack
    """
    _run_stage("pack")


@stage
def prompts() -> None:
    """Embed the class x group texts with the frozen encoder.

    Example: bp-lcz prompts
    """
    _run_stage("prompts")


@stage
def train(trial: TrialName) -> None:
    """Train one trial. Run a killed training again to continue it from its last epoch.

    Example: bp-lcz train eb_cnn-bp-lcz
    """
    _run_stage("train", trial)


@stage
def evaluate(trial: TrialName) -> None:
    """Evaluate one trained trial on the testing split.

    Example: bp-lcz evaluate eb_cnn-bp-lcz
    """
    _run_stage("evaluate", trial)


@stage
def report() -> None:
    """Write reports/index.html and reports/report.md from the evaluations of all trials.

    Example: bp-lcz report
    """
    _run_stage("report")


@stage
def verify(as_json: AsJson = False) -> None:
    """Count the verdicts on the claims of paper.yaml and name those that fail or stay undecided; fail if a comparable
    claim fails. All details are in reports/index.html, in outputs/claims.json and in what --json prints.

    Example: bp-lcz verify
    """
    _run_stage("verify", as_json=as_json)
