"""Commands on results of a run or a classifier."""

from pathlib import Path
from typing import Annotated

import typer

from bp_lcz.cli.shown import AsJson, show, to_make
from bp_lcz.errors import UsageError, UserError
from bp_lcz.paths import DEMO

commands = typer.Typer()


@commands.command("bytes")
def same_bytes(as_json: AsJson = False) -> None:
    """Count the stages whose outputs have the bytes that the committed dvc.lock records, and name the others.

    Example: bp-lcz bytes
    """
    from bp_lcz.committed import compare_bytes

    found = compare_bytes(Path.cwd())
    show(found, f"bytes  {found}", as_json)


@commands.command()
def score(
    file: Annotated[
        Path,
        typer.Argument(help="NumPy .npz file with y_true and y_pred (classes 1..17), or a file that `predict` wrote."),
    ],
    as_json: AsJson = False,
) -> None:
    """Score the predictions of any classifier with the metrics of this project.

    Example: bp-lcz score predictions.npz

    Example: bp-lcz predict outputs/models/eb_cnn-bp-lcz FILE.h5 --out p.parquet && bp-lcz score p.parquet
    """
    from bp_lcz.scoring.score import score_file

    found = score_file(file)
    show(found, str(found), as_json)


@commands.command()
def choose(as_json: AsJson = False) -> None:
    """Apply the rule of docs/forms.md to the validation split of this run: which setting of bp-lcz is the default?

    Example: bp-lcz choose
    """
    from bp_lcz.params import load_params
    from bp_lcz.scoring.choice import choose as choices_of
    from bp_lcz.scoring.results import group_seeds, read_matrix

    params = load_params()
    choices = choices_of(group_seeds(read_matrix(params).results))
    lines = [f"rule    {params.rule or 'none was committed before this run'}"]
    for choice in choices:
        lines += ["", *choice.lines()]
    show({"rule": params.rule, "choices": [choice.facts() for choice in choices]}, "\n".join(lines), as_json)


@commands.command("so-far")
def tables_so_far(as_json: AsJson = False) -> None:
    """Print tables of an unfinished matrix as Markdown. Rows that lack a trial or a seed are listed as not run.

    They decide nothing: `choose`, `verify` and the report wait for all trials.

    Example: bp-lcz so-far > so-far.md
    """
    from bp_lcz.params import load_params
    from bp_lcz.report.so_far import so_far

    found = so_far(load_params())
    show(found, str(found), as_json)


@commands.command()
def aa(
    table: Annotated[
        Path, typer.Argument(help="CSV file: number of correct patches of each seed of one procedure in each city.")
    ] = Path("docs/seeds.csv"),
    trials: Annotated[
        str | None, typer.Option(help="Trials of this run that differ only in the seed, instead of a file.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(callback=to_make, help="Write the table of --trials to this CSV file.")
    ] = None,
    figure: Annotated[Path | None, typer.Option(callback=to_make, help="Draw the power into this PNG file.")] = None,
    draws: Annotated[int, typer.Option(min=100, max=100_000, help="Pairs that are drawn for each rate.")] = 4000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the drawing; equal seeds give equal tables.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Test the intervals: how often do they find a lead of a method over itself, and how often a true lead?

    Example: bp-lcz aa

    Example: bp-lcz aa --trials eb_cnn-plain --save seeds.csv --figure power.png
    """
    from bp_lcz.files import staged_file
    from bp_lcz.params import load_params
    from bp_lcz.report.aa import aa_text, find_rates, power_figure, read_table, run_table, write_table

    if save is not None and trials is None:
        raise UsageError("--save", "needs --trials")
    if trials is None:
        found = read_table(table)
    else:
        found, origin = run_table(load_params(), trials)
        if save is not None:
            write_table(found, save, origin)
    rates = find_rates(found, draws, seed)
    show(rates, aa_text(rates), as_json)
    if figure is not None:
        png = power_figure(found, draws, seed)
        with staged_file(figure) as new:
            new.write_bytes(png)


@commands.command()
def pretrained(
    name: Annotated[
        str, typer.Argument(help="sen2lcz-mf: the Sen2LCZ-MF of Qiu et al. 2020, which takes only Sentinel-2 L1C.")
    ],
    out: Annotated[Path, typer.Option(callback=to_make, help="Folder of the checkpoint to make.")],
    url: Annotated[str | None, typer.Option(help="Another address of the same file.")] = None,
    file: Annotated[Path | None, typer.Option(help="The same file on this machine; nothing is downloaded.")] = None,
) -> None:
    """Turn published weights, which were trained on real So2Sat, into a checkpoint, and print its path.

    Example: bp-lcz pretrained sen2lcz-mf --out models/sen2lcz-mf
    """
    from bp_lcz.model.pretrained import write_pretrained

    typer.echo(write_pretrained(name, out, url, file))


@commands.command()
def prove(
    folder: Annotated[Path, typer.Argument(help="Data set: a folder of So2Sat files.")],
    weights: Annotated[
        Path | None, typer.Option(help="The published file of sen2lcz-mf on this machine; nothing is downloaded.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prove that data are So2Sat LCZ42 v2 and are read right: the published Sen2LCZ-MF must reach its known numbers.

    If it reaches other numbers, the command ends with status 1. No numbers are known for other testing splits. Then the
    command says that there is no proof (as JSON: null).

    Example: bp-lcz prove data/so2sat

    Example: bp-lcz prove data/so2sat --weights _32_weights.best.hdf5
    """
    from bp_lcz.serving.prove import no_proof, prove_data

    proof = prove_data(folder, weights)
    show(proof, str(proof or no_proof(folder)), as_json)


@commands.command()
def judge(
    weights: Annotated[Path, typer.Argument(help="Keras weights of Sen2LCZ-MF, an HDF5 file.")],
    dataset: Annotated[Path, typer.Option(help="Simulated data set to judge.")] = DEMO,
    model: Annotated[
        Path | None, typer.Option(help="Trained trial to compare with it on the patches of --real.")
    ] = None,
    real: Annotated[Path | None, typer.Option(help="Folder of real patches, for --model.")] = None,
) -> None:
    """Judge the simulation with a network that was trained on real So2Sat.

    With --model and --real it prints how often a trial trained on simulated patches agrees with that network on real
    patches.

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
