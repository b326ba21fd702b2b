"""Commands on what a run or a classifier gave."""

from pathlib import Path
from typing import Annotated

import typer

from bp_lcz.errors import UserError
from bp_lcz.paths import DEMO

commands = typer.Typer()


@commands.command("bytes")
def same_bytes() -> None:
    """Count the stages whose outputs are, byte for byte, those of the committed dvc.lock, and name the others.

    Example: bp-lcz bytes
    """
    from bp_lcz.committed import bytes_line

    typer.echo(f"bytes  {bytes_line(Path.cwd())}")


@commands.command()
def score(
    file: Annotated[
        Path, typer.Argument(help="NumPy .npz file with y_true and y_pred, classes 1..17, or what `predict` writes.")
    ],
) -> None:
    """Score the predictions of any classifier with the metrics of this project.

    Example: bp-lcz score predictions.npz

    Example: bp-lcz predict outputs/models/eb_cnn-bp-lcz FILE.h5 --out p.parquet && bp-lcz score p.parquet
    """
    from bp_lcz.scoring.score import score_file

    typer.echo(score_file(file))


@commands.command()
def choose() -> None:
    """Say which setting of bp-lcz the rule of docs/study.md makes the default, on the validation split of this run.

    Example: bp-lcz choose
    """
    from bp_lcz.params import load_params
    from bp_lcz.scoring.choice import choose as choices_of
    from bp_lcz.scoring.results import group_seeds, read_matrix

    params = load_params()
    typer.echo(f"rule    {params.rule or 'none was committed before this run'}")
    for choice in choices_of(group_seeds(read_matrix(params).results)):
        typer.echo("\n".join(["", *choice.lines()]))


@commands.command()
def pretrained(
    name: Annotated[str, typer.Argument(help="sen2lcz-mf: Sen2LCZ-MF of Qiu et al. 2020, Sentinel-2 L1C alone.")],
    out: Annotated[Path, typer.Option(help="Folder to make: a checkpoint of this project.")],
    url: Annotated[str | None, typer.Option(help="Another address of the same file.")] = None,
    file: Annotated[Path | None, typer.Option(help="The same file on this machine; nothing is downloaded.")] = None,
) -> None:
    """Turn published weights, trained on real So2Sat, into a checkpoint, and print its path.

    Example: bp-lcz pretrained sen2lcz-mf --out models/sen2lcz-mf
    """
    from bp_lcz.model.pretrained import write_pretrained

    typer.echo(write_pretrained(name, out, url, file))


@commands.command()
def judge(
    weights: Annotated[Path, typer.Argument(help="Keras weights of Sen2LCZ-MF, an HDF5 file.")],
    dataset: Annotated[Path, typer.Option(help="Simulated data set to judge.")] = DEMO,
    model: Annotated[Path | None, typer.Option(help="Trained trial to compare on real patches.")] = None,
    real: Annotated[Path | None, typer.Option(help="Folder of real patches, for --model.")] = None,
) -> None:
    """How real the simulation is to a network that was trained on real So2Sat.

    With --model and --real: how often a trial that was trained on simulated patches agrees with that network on real
    ones.

    Example: bp-lcz judge sen2lcz.hdf5

    Example: bp-lcz judge sen2lcz.hdf5 --model outputs/models/eb_cnn-plain --real /data/real_patches
    """
    from bp_lcz.demo.judge import agreement, judge_simulation

    if (model is None) != (real is None):
        raise UserError("judge", "--model and --real go together")
    if model is not None and real is not None:
        share, count = agreement(weights, model, real)
        typer.echo(f"{model.name} and Sen2LCZ-MF give the same class to {share:.3f} of {count} patches of {real.name}")
    else:
        typer.echo("\n".join(judge_simulation(weights, dataset).lines()))
