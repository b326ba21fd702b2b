"""The command that makes a map."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bp_lcz.cli.datasets import (
    S1,
    S2,
    Area,
    Crs,
    Mask,
    MaskValues,
    S1Bands,
    S1Filter,
    S1Units,
    S2Bands,
    S2Level,
    S2Offset,
    S2Units,
    scene_options,
)
from bp_lcz.cli.shown import AsJson, show
from bp_lcz.errors import UsageError

if TYPE_CHECKING:
    from bp_lcz.maps.forecast import Forecast
    from bp_lcz.records import MapReport

commands = typer.Typer()


@commands.command("map")
def make(
    model: Annotated[
        str, typer.Argument(help="Folder of a checkpoint, models:/<name>@<alias>, or sen2lcz-mf, which is downloaded.")
    ],
    s2: S2,
    out: Annotated[Path | None, typer.Option(help="Folder to make; --dry-run does without.")] = None,
    s1: S1 = None,
    s2_level: S2Level = None,
    s2_units: S2Units = "auto",
    s2_offset: S2Offset = None,
    s2_bands: S2Bands = None,
    s1_units: S1Units = "auto",
    s1_bands: S1Bands = None,
    s1_filter: S1Filter = "none",
    mask: Mask = None,
    mask_values: MaskValues = None,
    area: Area = None,
    crs: Crs = None,
    other_level: Annotated[
        bool, typer.Option("--other-level", help="Map scenes of another level (L1C, L2A) than the model takes.")
    ] = False,
    over: Annotated[str, typer.Option("--filter", help="none, majority (3 x 3 cells) or wudapt (Gaussian).")] = "none",
    reference: Annotated[
        Path | None, typer.Option(help="Polygons or raster of zones that are known, to tell how right the map is.")
    ] = None,
    field: Annotated[str | None, typer.Option(help="Of the polygons, that holds their zones.")] = None,
    label_map: Annotated[Path | None, typer.Option(help="JSON from other names of polygons to zones.")] = None,
    overlaps: Annotated[
        Literal["refuse", "leave-out"],
        typer.Option(help="Ground on which polygons contradict each other: refuse, or leave it out."),
    ] = "refuse",
    trained_on: Annotated[
        Path | None, typer.Option(help="Folder of the data set of the model, to tell which of them it was trained on.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another map of zones, or the folder of one of ours, to compare this one with.")
    ] = None,
    compare: Annotated[Path | None, typer.Option(help="Folder of a map of ours of another date: what changed.")] = None,
    same_year: Annotated[
        Path | None,
        typer.Option(help="Folder of a second map of ours of the year of this one: how much of it is noise."),
    ] = None,
    export: Annotated[str, typer.Option(help="Forms for other tools: wudapt, wrf, umep, with commas.")] = "",
    set_coverage: Annotated[
        float | None,
        typer.Option(
            help="Band in quality.tif: size of a set of classes that holds the true one so often, .50 to .99."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what the map would be and how long it takes; write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a map of local climate zones from the scenes of a city; a killed run goes on where it was.

    As JSON it prints the map's report.json or, with --dry-run, what the map would be.

    Example: bp-lcz map models/sen2lcz-mf --s2 S2_L1C.tif --out berlin

    Example: bp-lcz map models/sen2lcz-mf --s2 S2_L1C.tif --dry-run

    Example: bp-lcz map models/sen2lcz-mf --s2 S2_L1C.tif --reference areas.kml --out berlin

    Example: bp-lcz map models/sen2lcz-mf --s2 june.tif --compare berlin_2016 --same-year berlin_may --out berlin
    """
    from bp_lcz.maps.exports import export_names
    from bp_lcz.maps.map import MapOptions, make_map, plan_map
    from bp_lcz.maps.others import Others
    from bp_lcz.maps.reference import Reading
    from bp_lcz.serving.predict import load_model

    scene = scene_options(
        s2,
        s1,
        s2_bands,
        s1_bands,
        mask_values,
        s2_level=s2_level,
        s2_units=s2_units,
        s2_offset=s2_offset,
        s1_units=s1_units,
        s1_filter=s1_filter,
        mask=mask,
        area=area,
        crs=crs,
    )
    others = Others(reference, Reading(field, label_map, overlaps), trained_on, against, compare, same_year)
    options = MapOptions(scene, over, export_names(export), others, other_level, set_coverage)
    if out is None and not dry_run:
        raise UsageError("--out", "name the folder to make; --dry-run does without")
    classifier, name = load_model(Path.cwd(), model)
    tell = partial(typer.echo, err=as_json)  # so that JSON stands alone on standard output
    found: Forecast | MapReport
    if out is None or dry_run:
        found = plan_map(classifier, name, options, out, tell)
    else:
        found = make_map(classifier, name, options, out, tell)
    if as_json:
        show(found, "", as_json)
