"""Commands that make or download a data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bp_lcz.bands import SCL_UNUSABLE
from bp_lcz.cli.shown import AsJson, show, to_make
from bp_lcz.errors import UserError
from bp_lcz.files import refuse_missing

if TYPE_CHECKING:
    from bp_lcz.scenes.scene import SceneOptions

commands = typer.Typer()
Gap = Annotated[float, typer.Option(help="Smallest distance between patches of two splits, in m.")]
Shares = Annotated[tuple[float, float, float], typer.Option(help="Shares of training, validation and testing.")]


@commands.command()
def split(
    folders: Annotated[list[Path], typer.Argument(help="Folders with files of patches and their _geo.h5.")],
    out: Annotated[Path, typer.Option(callback=to_make, help="Folder to make.")],
    by: Annotated[str, typer.Option(help="What stays in one split as a whole: city or block.")] = "block",
    block_size: Annotated[
        float | None, typer.Option(help="Side of a block in m. Default: a sixth of the largest city, 640 to 5000.")
    ] = None,
    gap: Gap = 320.0,
    shares: Shares = (0.7, 0.1, 0.2),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the order in which cities or blocks go to the splits.")] = 1,
    testing: Annotated[
        list[str] | None,
        typer.Option(help="Name of a file whose patches all go to testing; --shares divides the others. Repeatable."),
    ] = None,
) -> None:
    """Divide patches with geo files into three splits that share no ground.

    Example: bp-lcz split /data/berlin /data/paris --out /data/mine --by block --shares 0.7 0.1 0.2

    Example: bp-lcz split data/so2sat --out data/culture-10 --by city --testing validation.h5 --testing testing.h5
    """
    from bp_lcz.scenes.split import rule_from, split_folders

    typer.echo("\n".join(split_folders(folders, out, rule_from(by, shares, block_size, gap, seed, testing or ()))))


S2 = Annotated[
    list[Path],
    typer.Option(
        help="Sentinel-2 scene: a raster, a .SAFE folder or zip, a folder with one file per band, or a STAC item. "
        "Repeatable: later scenes fill the gaps of earlier ones."
    ),
]
S1 = Annotated[
    list[Path] | None,
    typer.Option(
        help="Sentinel-1 scene in the same forms: VV and VH in one file or two, or So2Sat's channels. Repeatable."
    ),
]
S2Level = Annotated[str | None, typer.Option(help="Level of Sentinel-2, L1C or L2A. Default: from the files.")]
S2Units = Annotated[str, typer.Option(help="Units of Sentinel-2: auto, dn or reflectance.")]
S2Offset = Annotated[
    float | None, typer.Option(help="Offset to subtract from digital numbers, 0 or 1000. Default: from the files.")
]
S2Bands = Annotated[str | None, typer.Option(help="Bands of Sentinel-2 in stored order, such as B02,B03,...")]
S1Units = Annotated[str, typer.Option(help="Units of Sentinel-1: auto, db, linear, or amplitude, which is squared.")]
S1Bands = Annotated[str | None, typer.Option(help="Bands of Sentinel-1 in stored order, such as VH,VV.")]
S1Filter = Annotated[str, typer.Option(help="Filter of two intensities of Sentinel-1: none or lee (7 x 7 pixels).")]
Mask = Annotated[Path | None, typer.Option(help="Raster, such as SCL, whose values mark pixels to leave out.")]
MaskValues = Annotated[
    str | None,
    typer.Option(
        help=f"Values of the mask to leave out. Default: {','.join(map(str, SCL_UNUSABLE))}. Missing data count as 0."
    ),
]
Area = Annotated[
    str | None, typer.Option(help="Area to which the scenes are cut: a file of polygons, or W,S,E,N in degrees.")
]
Crs = Annotated[
    str | None,
    typer.Option(help="Projection of the grid, such as EPSG:32633. Default: that of the first file, or its UTM zone."),
]


def scene_options(
    s2: list[Path],
    s1: list[Path] | None,
    s2_bands: str | None,
    s1_bands: str | None,
    mask_values: str | None,
    **others: Any,
) -> "SceneOptions":
    """Options of `tile` and `map` about scenes. Lists are separated by commas."""
    from bp_lcz.scenes.scene import SceneOptions

    try:
        values = None if mask_values is None else tuple(map(int, mask_values.split(",")))
    except ValueError:
        raise UserError(f"--mask-values {mask_values}", "expected whole numbers with commas between") from None
    optical, radar = (None if text is None else tuple(text.split(",")) for text in (s2_bands, s1_bands))
    return SceneOptions(tuple(s2), tuple(s1 or ()), s2_bands=optical, s1_bands=radar, mask_values=values, **others)


@commands.command()
def tile(
    s2: S2,
    out: Annotated[Path, typer.Option(callback=to_make, help="Folder to make.")],
    s1: S1 = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Local climate zones: a GeoTIFF of one band or with a band called lcz, or polygons (GeoJSON, "
            "GeoPackage, Shapefile, KML, KMZ ...). Default: the patches get no labels."
        ),
    ] = None,
    label_map: Annotated[
        Path | None,
        typer.Option(help='JSON file that maps other raster values or polygon names to codes: {"1": "G", "9": null}.'),
    ] = None,
    field: Annotated[
        str | None, typer.Option(help="Field that holds the zones of the polygons. Default: found by its content.")
    ] = None,
    overlaps: Annotated[
        str,
        typer.Option(help="Where polygons of different zones overlap: refuse them, or leave-out the shared ground."),
    ] = "refuse",
    city: Annotated[
        str | None, typer.Option(help="Name of the city in the geo file. Default: the name of the folder.")
    ] = None,
    stride: Annotated[int, typer.Option(help="Distance between neighbouring patches, in m.")] = 100,
    min_share: Annotated[
        float | None,
        typer.Option(
            help="Smallest share of a patch's class in its central cell of 100 m, for a raster. Default: 0.5."
        ),
    ] = None,
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
    by: Annotated[
        str | None,
        typer.Option(
            "--split", help="What stays in one split as a whole: block (for a raster) or polygon; none makes one file."
        ),
    ] = None,
    block_size: Annotated[float | None, typer.Option(help="See `bp-lcz split`.")] = None,
    gap: Gap = 320.0,
    shares: Shares = (0.7, 0.1, 0.2),
    seed: Annotated[int, typer.Option(min=0, help="See `bp-lcz split`.")] = 1,
) -> None:
    """Cut Sentinel scenes of one place into a data set of patches, with Sentinel-1 or without.

    Example: bp-lcz tile --s2 S2A_MSIL1C_X.SAFE.zip --area berlin.geojson --out /data/berlin

    Example: bp-lcz tile --s1 S1.tif --s2 S2.tif --labels LCZ.tif --out /data/berlin

    Example: bp-lcz tile --s2 S2A_MSIL1C_X.SAFE.zip --labels areas.kml --out /data/berlin
    """
    refuse_missing(*s2, *(s1 or ()))
    from bp_lcz.scenes.polygons import are_polygons
    from bp_lcz.scenes.split import SplitRule
    from bp_lcz.scenes.tile import TileOptions, cut_scenes

    by = by or ("polygon" if labels is not None and are_polygons(labels) else "block")
    if by not in ("block", "polygon", "none"):
        raise UserError(f"--split {by}", "expected block, polygon or none")
    if overlaps not in ("refuse", "leave-out"):
        raise UserError(f"--overlaps {overlaps}", "expected refuse or leave-out")
    scenes = scene_options(
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
    options = TileOptions(
        city=city,
        stride_m=stride,
        min_share=min_share,
        field=field,
        overlaps="refuse" if overlaps == "refuse" else "leave-out",
        split=None
        if by == "none"
        else SplitRule("polygon" if by == "polygon" else "block", shares, block_size, gap, seed),
    )
    if label_map is not None and labels is None:
        raise UserError("--label-map", "explains the values of --labels; give that option, too")
    typer.echo("\n".join(cut_scenes(scenes, out, labels, label_map, options)))


@commands.command()
def releases(as_json: AsJson = False) -> None:
    """List the published releases of So2Sat LCZ42: files, sizes, checksums, licence, mirrors.

    As JSON each has the form that `bp-lcz download --release-file` takes.

    Example: bp-lcz releases
    """
    from bp_lcz.so2sat.releases import releases_json, releases_table

    show(releases_json(), releases_table(), as_json)


@commands.command()
def download(
    release: Annotated[
        str | None, typer.Argument(help="Release, by its name in `bp-lcz releases`. Default: so2sat-v2.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files. Default: data/so2sat; for v3 data/so2sat-v3-...")
    ] = None,
    mirror: Annotated[
        list[str] | None,
        typer.Option(help="Folder on an ftp, http, https or rsync server that holds the files. Repeatable."),
    ] = None,
    release_file: Annotated[
        Path | None, typer.Option(help="Release of your own, as JSON (docs/data.md), instead of a published one.")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check the files that are there; download nothing.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace files that have the names of the release but other contents.")
    ] = False,
) -> None:
    """Download a release and verify sizes and md5. After a failure, run it again: it continues where it stopped.

    Example: bp-lcz download

    Example: bp-lcz download so2sat-v3-block --out /data/block

    Example: bp-lcz download --mirror https://files.example.org/so2sat

    Example: bp-lcz download --verify --out /data/so2sat
    """
    from bp_lcz.so2sat.download import download_release, verify_release
    from bp_lcz.so2sat.pinned import check_pins, remember_pins
    from bp_lcz.so2sat.releases import SO2SAT_V2, known_release, read_release

    if release is not None and release_file is not None:
        raise UserError("download", "give the name of a release or --release-file, not both")
    wanted = read_release(release_file) if release_file else known_release(release or SO2SAT_V2)
    folder = out or Path("data") / (wanted.folder or wanted.name)
    if verify:
        verify_release(wanted, folder)
        return
    check_pins(wanted, folder)
    download_release(wanted, folder, mirror or (), replace=replace)
    remember_pins(wanted, folder)
