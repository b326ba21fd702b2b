"""``bp-lcz``: one command for each stage of the pipeline, and a few beside it.

Imports of libraries happen inside the commands: ``bp-lcz --help`` must not load torch.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

import bp_lcz
from bp_lcz.errors import TEMPORARY_STATUS, TemporaryError, UserError, is_disk_full
from bp_lcz.params import load_params
from bp_lcz.paths import DEMO

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Local climate zones from Sentinel-1 and Sentinel-2 with band group prompting. "
    "Stages read params.yaml in the current folder; `dvc repro` runs those that are out of date.",
)

STAGES = "Stages of dvc.yaml"
CellName = Annotated[str, typer.Argument(help="Name of an entry of `cells` in params.yaml.")]


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"bp-lcz {bp_lcz.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options that stand before a command."""


@app.command(rich_help_panel=STAGES)
def simulate() -> None:
    """Make the demo data from a seed, in So2Sat's own HDF5 layout.

    Example: bp-lcz simulate
    """
    from bp_lcz.stages import simulate as stage

    stage.run(load_params())


@app.command(rich_help_panel=STAGES)
def validate() -> None:
    """Check the data set; stop with the failed expectation and the first offending patches.

    Example: bp-lcz validate
    """
    from bp_lcz.stages import validate as stage

    stage.run(load_params())


@app.command(rich_help_panel=STAGES)
def pack() -> None:
    """Write the arrays that training reads, and the statistics of the training split.

    Example: bp-lcz pack
    """
    from bp_lcz.stages import pack as stage

    stage.run(load_params())


@app.command(rich_help_panel=STAGES)
def prompts() -> None:
    """Embed the class x group texts with the frozen encoder.

    Example: bp-lcz prompts
    """
    from bp_lcz.stages import prompts as stage

    stage.run(load_params())


@app.command(rich_help_panel=STAGES)
def train(cell: CellName) -> None:
    """Train one cell; resumes by itself where a killed run of the same inputs stopped.

    Example: bp-lcz train eb_cnn-bp-lcz
    """
    from bp_lcz.stages import train as stage

    stage.run(load_params(), cell)


@app.command(rich_help_panel=STAGES)
def evaluate(cell: CellName) -> None:
    """Metrics of one trained cell on the testing split.

    Example: bp-lcz evaluate eb_cnn-bp-lcz
    """
    from bp_lcz.stages import evaluate as stage

    stage.run(load_params(), cell)


@app.command(rich_help_panel=STAGES)
def report() -> None:
    """Write reports/index.html and reports/report.md from the evaluations of all cells.

    Example: bp-lcz report
    """
    from bp_lcz.stages import report as stage

    stage.run(load_params())


@app.command(rich_help_panel=STAGES)
def verify() -> None:
    """Print each claim of paper.yaml with what this run's cells say of it; fail if a comparable one fails.

    Example: bp-lcz verify
    """
    from bp_lcz.stages import verify as stage

    stage.run(load_params())


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="NumPy .npz file with y_true and y_pred, classes 1..17.")],
) -> None:
    """Score the predictions of any classifier with the metrics of this project.

    Example: bp-lcz score predictions.npz
    """
    from bp_lcz.evaluation.score import score_file

    typer.echo(score_file(file))


@app.command()
def import_sen2lcz(
    weights: Annotated[Path, typer.Argument(help="Keras weights of Sen2LCZ-MF, an HDF5 file.")],
    out: Annotated[Path, typer.Option(help="Folder to make: a checkpoint of this project.")],
) -> None:
    """Turn the published weights of Sen2LCZ-MF into a checkpoint, and print its path.

    Example: bp-lcz import-sen2lcz sen2lcz.hdf5 --out outputs/sen2lcz
    """
    from bp_lcz.model.sen2lcz_weights import import_sen2lcz as write

    typer.echo(write(weights, out))


@app.command()
def judge(
    weights: Annotated[Path, typer.Argument(help="Keras weights of Sen2LCZ-MF, an HDF5 file.")],
    dataset: Annotated[Path, typer.Option(help="Simulated data set to judge.")] = DEMO,
    model: Annotated[Path | None, typer.Option(help="Trained cell to compare on real patches.")] = None,
    real: Annotated[Path | None, typer.Option(help="Folder of real patches, for --model.")] = None,
) -> None:
    """How real the simulation is to a network that was trained on real So2Sat.

    With --model and --real: how often a cell that was trained on simulated patches agrees with that network on real
    ones.

    Example: bp-lcz judge sen2lcz.hdf5

    Example: bp-lcz judge sen2lcz.hdf5 --model outputs/models/eb_cnn-plain --real /data/real_patches
    """
    from bp_lcz.judge import agreement
    from bp_lcz.judge import judge as verdict_on

    if (model is None) != (real is None):
        raise UserError("judge: --model and --real go together")
    if model is not None and real is not None:
        share, count = agreement(weights, model, real)
        typer.echo(f"{model.name} and Sen2LCZ-MF give the same class to {share:.3f} of {count} patches of {real.name}")
    else:
        typer.echo("\n".join(verdict_on(weights, dataset).lines()))


@app.command()
def workspace(
    name: Annotated[str, typer.Argument(help="Name of the folder under .workspaces.")],
    profile: Annotated[str | None, typer.Option(help="A file of profiles/, merged into params.yaml.")] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="Folder with So2Sat files to run on instead of the demo data.")
    ] = None,
) -> None:
    """Make or renew a git worktree with its own params.yaml, and print its path.

    Example: bp-lcz workspace mydata --dataset /data/my_patches
    """
    from bp_lcz.workspace import make_workspace

    typer.echo(make_workspace(name, profile=profile, dataset=dataset))


def _die_with_parent() -> None:
    """Let the kernel end a stage when the `dvc repro` that started it ends.

    DVC removes the lock of a killed `dvc repro` and would start a second trainer beside an orphan.
    """
    if sys.platform == "linux" and "DVC_ROOT" in os.environ:
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def main() -> None:
    """Entry point of the console script: a `UserError` becomes one line and exit status 1."""
    _die_with_parent()
    # As an exception, so that half-written outputs are removed on the way out.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if not sys.stderr.isatty():
        # A progress bar in a log: a line every ten seconds.
        os.environ.setdefault("TQDM_MININTERVAL", "10")
    try:
        app()
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(TEMPORARY_STATUS if isinstance(error, TemporaryError) else 1)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
    except Exception as error:
        if not is_disk_full(error):
            raise
        typer.echo(f"error: {Path.cwd()}: no space left on the disk; free some and run again", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
