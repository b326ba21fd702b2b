"""Commands on a checkout of the project."""

import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bp_lcz.cli.shown import to_make
from bp_lcz.errors import UserError

commands = typer.Typer()


@commands.command()
def bench(
    rows: Annotated[list[str] | None, typer.Option(help="Row or curve. Repeatable. Default: all of them.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Use tiny sizes, which only show that the rows run.")] = False,
    large: Annotated[bool, typer.Option("--large", help="Measure the rows on files larger than memory, too.")] = False,
    growth: Annotated[
        bool, typer.Option("--growth", help="Measure how cost grows with size, instead of the rows.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch. Default: all cores.")] = None,
    out: Annotated[
        Path | None, typer.Option(callback=to_make, help="File for the results. Default: one in benchmarks/results.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the latest committed results; measure nothing.")] = False,
) -> None:
    """Measure speed against peers and against the machine's limits, with a goal and a verdict for each row.

    Example: bp-lcz bench

    Example: bp-lcz bench --rows gather --rows packed

    Example: bp-lcz bench --growth --rows tiles --out tiles.growth.json

    Example: bp-lcz bench --show
    """
    if not Path("benchmarks/run.py").is_file():
        raise UserError("benchmarks", "not found; run inside a BP-LCZ checkout")
    if growth and large:
        raise UserError("bench", "--growth does not take --large")
    if threads is not None and threads > (cores := os.cpu_count() or 1):
        raise UserError("bench", f"--threads {threads}: this machine has {cores} cores")
    sys.path.insert(0, str(Path.cwd()))
    from benchmarks.growth import measure_growth
    from benchmarks.run import measure_rows, show_latest

    if show:
        show_latest()
    elif growth:
        measure_growth(rows or (), quick=quick, threads=threads, out=out)
    else:
        measure_rows(rows or (), quick=quick, large=large, threads=threads, out=out)


@commands.command()
def workspace(
    name: Annotated[str, typer.Argument(help="Name of the folder under .workspaces.")],
    profile: Annotated[
        str | None, typer.Option(help="Name of a file in profiles/, which is merged into params.yaml.")
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="Folder of So2Sat files to run on. Default: the demo data.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="Model with which training begins: folder of a checkpoint, models:/<name>@<alias>, or sen2lcz-mf."
        ),
    ] = None,
) -> None:
    """Make or renew a git worktree with its own params.yaml, and print its path.

    Example: bp-lcz workspace mydata --dataset /data/my_patches

    Example: bp-lcz workspace mydata --dataset /data/my_patches --start models/sen2lcz-mf
    """
    from bp_lcz.so2sat.pinned import verify_pins
    from bp_lcz.workspace import Brought, make_workspace

    if dataset is not None:
        verify_pins(dataset)
    with tempfile.TemporaryDirectory() as scratch:
        brought = None
        if start is not None:
            from bp_lcz.model.checkpoint import load_classifier
            from bp_lcz.model.start import check_start
            from bp_lcz.registry.start import bring_start

            folder = Path(scratch) / "start"
            found = bring_start(Path.cwd(), start, folder)
            brought = Brought(found, folder, partial(check_start, load_classifier(folder)))
        typer.echo(make_workspace(name, profile=profile, dataset=dataset, start=brought))
