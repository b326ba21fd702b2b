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
from bp_lcz.cli.shown import AsJson, show, to_make
from bp_lcz.errors import UsageError
from bp_lcz.files import refuse_missing

if TYPE_CHECKING:
    from bp_lcz.maps.forecast import Forecast
    from bp_lcz.records import MapReport

commands = typer.Typer()


@commands.command("map")
def make(
    model: Annotated[
        str,
        typer.Argument(
            help="Model: folder of a checkpoint, models:/<name>@<alias> or /<version>, or sen2lcz-mf (downloaded)."
        ),
    ],
    s2: S2,
    out: Annotated[
        Path | None, typer.Option(callback=to_make, help="Folder to make. Not needed with --dry-run.")
    ] = None,
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
    over: Annotated[
        str, typer.Option("--filter", help="Filter of the map: none, majority (3 x 3 cells) or wudapt (Gaussian).")
    ] = "none",
    reference: Annotated[
        Path | None, typer.Option(help="Known zones, as polygons or raster, to measure the accuracy of the map.")
    ] = None,
    field: Annotated[
        str | None, typer.Option(help="Field that holds the zones of the polygons of --reference.")
    ] = None,
    label_map: Annotated[
        Path | None, typer.Option(help="JSON file that maps other polygon names of --reference to zones.")
    ] = None,
    overlaps: Annotated[
        Literal["refuse", "leave-out"],
        typer.Option(help="If polygons of --reference contradict each other: refuse them, or leave-out that ground."),
    ] = "refuse",
    trained_on: Annotated[
        Path | None,
        typer.Option(help="Training data of the model, to find cells of --reference on which it was trained."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Map to compare with: a raster of zones, or the folder of a map made by `bp-lcz map`."),
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Folder of a map of another date made by `bp-lcz map`, to measure change.")
    ] = None,
    same_year: Annotated[
        Path | None,
        typer.Option(
            help="With --compare: folder of another map of the year of this map, to measure the noise in that change."
        ),
    ] = None,
    export: Annotated[str, typer.Option(help="Files for other tools: wudapt, wrf, umep, separated by commas.")] = "",
    set_coverage: Annotated[
        float | None,
        typer.Option(
            help="Add a band to quality.tif: size of the class set that holds the true class this often, 0.50 to 0.99."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what the map would be and how long it would take; write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a map of local climate zones from the scenes of a city. Run a killed command again to continue it.

    As JSON it prints the map's report.json or, with --dry-run, what the map would be.

    Example: bp-lcz map models/sen2lcz-mf --s2 S2_L1C.tif --out berlin

    Example: bp-lcz map models/sen2lcz-mf --s2 S2_L1C.tif --dry-run

    Example: bp-lcz map models/sen2lcz-mf --s2 S2_L1C.tif --reference areas.kml --out berlin

    Example: bp-lcz map models/sen2lcz-mf --s2 june.tif --compare berlin_2016 --same-year berlin_may --out berlin
    """
    refuse_missing(*s2, *(s1 or ()))
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
        raise UsageError("--out", "name the folder to make, or use --dry-run, which makes none")
    classifier, name = load_model(Path.cwd(), model)
    tell = partial(typer.echo, err=as_json)  # so that standard output holds only JSON
    found: Forecast | MapReport
    if out is None or dry_run:
        found = plan_map(classifier, name, options, out, tell)
    else:
        found = make_map(classifier, name, options, out, tell)
    if as_json:
        show(found, "", as_json)
