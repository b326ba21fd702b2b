"""Commands on registered models."""

import os
from pathlib import Path
from typing import Annotated

import typer

from bp_lcz.cli.shown import AsJson, show, to_make
from bp_lcz.errors import UsageError, UserError
from bp_lcz.params import load_params

commands = typer.Typer()
registry = commands.command(rich_help_panel="Registered models")
ModelName = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="Registered model. Default: that of the data set in params.yaml."),
]


def _model_name(name: str | None) -> str:
    from bp_lcz.registry.naming import model_name

    return name or model_name(Path.cwd(), load_params().dataset.root)


@registry
def models(name: ModelName = None, as_json: AsJson = False) -> None:
    """List the versions of a registered model with their numbers on the testing split.

    Example: bp-lcz models bp-lcz-demo
    """
    from bp_lcz.registry.models import list_models, models_table

    rows = list_models(Path.cwd(), _model_name(name))
    show(rows, models_table(rows), as_json)


@registry
def promote(
    name: ModelName = None,
    version: Annotated[int | None, typer.Option(help="Version to promote. Default: @challenger.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide, but change nothing.")] = False,
    own_map: Annotated[
        Path | None,
        typer.Option(
            "--map",
            help="Folder of a map made by this version: maps of a city decide instead of the testing split.",
        ),
    ] = None,
    champion_map: Annotated[
        Path | None, typer.Option(help="With --map: folder of the champion's map of the same scenes.")
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="With --map: known zones, as raster or polygons, that neither model was trained on."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a version the champion if it exceeds the floor and clearly beats the champion; otherwise say why not.

    Example: bp-lcz promote bp-lcz-demo --dry-run

    Example: bp-lcz promote bp-lcz-berlin --map tuned --champion-map before --reference zones.tif
    """
    from bp_lcz.registry.promote import decision_lines, promote_version

    given, maps = [path for path in (own_map, champion_map, reference) if path is not None], None
    if given:
        from bp_lcz.maps.contest import contest

        if len(given) < 3:
            raise UsageError("--map", "needs --champion-map and --reference beside it; give all three or none")
        settings = load_params().evaluate
        maps = contest(*given, samples=settings.bootstrap_samples, seed=settings.seed)
    decision = promote_version(Path.cwd(), _model_name(name), version, dry_run, maps)
    show(decision, "\n".join(decision_lines(decision)), as_json)
    if not decision.accepted:
        raise UserError(f"{decision.name} version {decision.version}", f"not promoted: {decision.reason}")


@registry
def rollback(name: ModelName = None, as_json: AsJson = False) -> None:
    """Give the alias champion back to the version that had it before.

    Example: bp-lcz rollback bp-lcz-demo
    """
    from bp_lcz.registry.promote import decision_lines, restore_champion

    decision = restore_champion(Path.cwd(), _model_name(name))
    show(decision, "\n".join(decision_lines(decision)), as_json)


@registry
def serve(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="Name of a registered model (default: that of the data set in params.yaml), "
            "models:/<name>/<version>, or the folder of a checkpoint, written with a slash, such as ./model.",
        ),
    ] = None,
    alias: Annotated[str, typer.Option(help="Alias of the version to serve, where MODEL is a name.")] = "champion",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")] = 5001,
    max_body: Annotated[int, typer.Option(min=1, help="Largest request, in MiB.")] = 64,
) -> None:
    """Serve a model over HTTP until interrupted.

    Example: bp-lcz serve bp-lcz-demo --port 5001

    Example: bp-lcz serve outputs/models/eb_cnn-bp-lcz
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        # OpenMP reads this when torch is loaded. By default its threads would spin for 5 ms between requests, on the
        # cores that send and receive. A tenth of a millisecond is enough from layer to layer.
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    from bp_lcz.serving.server import serve_model

    address = model if model and "/" in model else f"models:/{_model_name(model)}@{alias}"
    serve_model(Path.cwd(), address, host, port, max_body * 2**20)


@registry
def predict(
    model: Annotated[
        str, typer.Argument(help="Model: folder of a checkpoint, models:/<name>@<alias> or models:/<name>/<version>.")
    ],
    file: Annotated[Path, typer.Argument(help="HDF5 file with sen1 and sen2 as So2Sat stores them.")],
    out: Annotated[Path, typer.Option(callback=to_make, help="Parquet file to write.")],
    as_json: AsJson = False,
) -> None:
    """Predict the class probabilities of every patch of a file. The file needs no labels.

    Example: bp-lcz predict models:/bp-lcz-demo@champion data/demo/testing.h5 --out predictions.parquet
    """
    from bp_lcz.serving.predict import predict_file

    done = predict_file(Path.cwd(), model, file, out)
    for warning in done.warnings:
        typer.echo(f"warning: {file}: {warning}", err=True)
    agreement = "" if done.agreement is None else f"; {done.agreement:.3f} of those with a label agree with it"
    strange = "" if done.unlike is None else f"; {done.unlike / done.patches:.1%} are unlike the training data"
    show(done, f"{out}: {done.patches} patches{agreement}{strange}", as_json)
