"""``bp-lcz``: one command for each stage of the pipeline, and a few beside it.

Imports of libraries happen inside the commands: ``bp-lcz --help`` must not load torch.
"""

import ctypes
import importlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import bp_lcz
from bp_lcz.addresses import keep_loopback_direct
from bp_lcz.errors import FAULT_STATUS, Ending, UserError, is_disk_full, is_refused_by_system, one_line
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
REGISTRY = "Registered models"
TrialName = Annotated[str, typer.Argument(help="Name of an entry of `trials` in params.yaml.")]


def _print_version(asked: bool) -> bool:
    if asked:
        typer.echo(f"bp-lcz {bp_lcz.__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options that stand before a command."""


def _run_stage(name: str, *trials: str) -> None:
    params = load_params()
    for trial in trials:
        params.trial(trial)  # a mistyped name is told before the seconds that torch takes to load
    importlib.import_module(f"bp_lcz.stages.{name}").run(params, *trials)


@app.command(rich_help_panel=STAGES)
def simulate() -> None:
    """Make the demo data from a seed, in So2Sat's own HDF5 layout.

    Example: bp-lcz simulate
    """
    _run_stage("simulate")


@app.command(rich_help_panel=STAGES)
def validate() -> None:
    """Check the data set of params.yaml; stop with the failed expectation and the first offending patches.

    Patches of your own: make a workspace whose params.yaml names their folder, and validate there.

    Example: bp-lcz validate

    Example: bp-lcz workspace NAME --dataset DIR && cd .workspaces/NAME && bp-lcz validate
    """
    _run_stage("validate")


@app.command(rich_help_panel=STAGES)
def pack() -> None:
    """Write the arrays that training reads, and the statistics of the training split.

    Example: bp-lcz pack
    """
    _run_stage("pack")


@app.command(rich_help_panel=STAGES)
def prompts() -> None:
    """Embed the class x group texts with the frozen encoder.

    Example: bp-lcz prompts
    """
    _run_stage("prompts")


@app.command(rich_help_panel=STAGES)
def train(trial: TrialName) -> None:
    """Train one trial; resumes by itself where a killed run of the same inputs stopped.

    Example: bp-lcz train eb_cnn-bp-lcz
    """
    _run_stage("train", trial)


@app.command(rich_help_panel=STAGES)
def evaluate(trial: TrialName) -> None:
    """Metrics of one trained trial on the testing split.

    Example: bp-lcz evaluate eb_cnn-bp-lcz
    """
    _run_stage("evaluate", trial)


@app.command(rich_help_panel=STAGES)
def report() -> None:
    """Write reports/index.html and reports/report.md from the evaluations of all trials.

    Example: bp-lcz report
    """
    _run_stage("report")


@app.command(rich_help_panel=STAGES)
def verify() -> None:
    """Print each claim of paper.yaml with what this run's trials say of it; fail if a comparable one fails.

    Example: bp-lcz verify
    """
    _run_stage("verify")


@app.command("bytes")
def same_bytes() -> None:
    """Count the stages whose outputs are, byte for byte, those of the committed dvc.lock, and name the others.

    Example: bp-lcz bytes
    """
    from bp_lcz.committed import bytes_line

    typer.echo(f"bytes  {bytes_line(Path.cwd())}")


@app.command()
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


@app.command()
def import_sen2lcz(
    weights: Annotated[Path, typer.Argument(help="Keras weights of Sen2LCZ-MF, an HDF5 file.")],
    out: Annotated[Path, typer.Option(help="Folder to make: a checkpoint of this project.")],
) -> None:
    """Turn the published weights of Sen2LCZ-MF into a checkpoint, and print its path.

    Example: bp-lcz import-sen2lcz sen2lcz.hdf5 --out outputs/sen2lcz
    """
    from bp_lcz.model.sen2lcz_weights import convert_sen2lcz

    typer.echo(convert_sen2lcz(weights, out))


@app.command()
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


Gap = Annotated[float, typer.Option(help="Distance between splits in m.")]
Shares = Annotated[tuple[float, float, float], typer.Option(help="Shares of training, validation and testing.")]


@app.command()
def split(
    folders: Annotated[list[Path], typer.Argument(help="Folders with files of patches and their _geo.h5.")],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    by: Annotated[str, typer.Option(help="What stays together: city or block.")] = "block",
    block_size: Annotated[
        float | None, typer.Option(help="Side of a block in m; without it a sixth of the largest city, 640 to 5000.")
    ] = None,
    gap: Gap = 320.0,
    shares: Shares = (0.7, 0.1, 0.2),
    seed: Annotated[int, typer.Option(min=0, help="Of the order in which cities or blocks are dealt out.")] = 1,
) -> None:
    """Divide patches with geo files into splits that do not show the same ground.

    Example: bp-lcz split /data/berlin /data/paris --out /data/mine --by block --shares 0.7 0.1 0.2
    """
    from bp_lcz.scenes.split import rule_from, split_folders

    typer.echo("\n".join(split_folders(folders, out, rule_from(by, shares, block_size, gap, seed))))


@app.command()
def tile(
    s1: Annotated[Path, typer.Option(help="Sentinel-1 GeoTIFF: VV and VH, or So2Sat's eight channels.")],
    s2: Annotated[Path, typer.Option(help="Sentinel-2 GeoTIFF of 10, 12 or 13 bands, or with band names.")],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="GeoTIFF of local climate zones, one band or one called lcz; without it no labels."),
    ] = None,
    label_map: Annotated[
        Path | None, typer.Option(help='JSON from values of another raster to LCZ codes, {"1": "G", "9": null}.')
    ] = None,
    city: Annotated[str | None, typer.Option(help="Name in the geo file; without it that of the folder.")] = None,
    stride: Annotated[int, typer.Option(help="Between neighbouring patches, in m.")] = 100,
    min_share: Annotated[float, typer.Option(help="Of the 100 m cell in a patch's middle for its class.")] = 0.5,
    s1_units: Annotated[str, typer.Option(help="auto, db, linear or amplitude, which is squared.")] = "auto",
    s1_bands: Annotated[str | None, typer.Option(help="Names in stored order, such as VH,VV.")] = None,
    s2_units: Annotated[str, typer.Option(help="auto, dn or reflectance.")] = "auto",
    s2_offset: Annotated[
        float | None, typer.Option(help="To take off, in digital numbers: 0 or 1000; without it, it is looked for.")
    ] = None,
    s2_bands: Annotated[str | None, typer.Option(help="Names in stored order, such as B02,B03,...")] = None,
    by: Annotated[str, typer.Option("--split", help="block, or none: all patches in one file.")] = "block",
    block_size: Annotated[float | None, typer.Option(help="See `bp-lcz split`.")] = None,
    gap: Gap = 320.0,
    shares: Shares = (0.7, 0.1, 0.2),
    seed: Annotated[int, typer.Option(min=0, help="See `bp-lcz split`.")] = 1,
) -> None:
    """Cut co-registered Sentinel scenes into a data set of patches.

    Example: bp-lcz tile --s1 S1.tif --s2 S2.tif --labels LCZ.tif --out /data/berlin
    """
    from bp_lcz.scenes.split import rule_from
    from bp_lcz.scenes.tile import TileOptions, cut_scenes

    if by not in ("block", "none"):
        raise UserError(f"--split {by}", "expected block or none")
    options = TileOptions(
        city=city,
        stride_m=stride,
        s1_units=s1_units,
        s2_units=s2_units,
        s2_offset=s2_offset,
        s1_bands=None if s1_bands is None else tuple(s1_bands.split(",")),
        s2_bands=None if s2_bands is None else tuple(s2_bands.split(",")),
        min_share=min_share,
        split=None if by == "none" else rule_from("block", shares, block_size, gap, seed),
    )
    typer.echo("\n".join(cut_scenes(s1, s2, out, labels, label_map, options)))


@app.command()
def releases(
    as_json: Annotated[
        bool, typer.Option("--json", help="As JSON, in the form that --release-file takes one of.")
    ] = False,
) -> None:
    """List the published releases of So2Sat LCZ42: files, sizes, checksums, licence, mirrors.

    Example: bp-lcz releases
    """
    from bp_lcz.so2sat.releases import releases_json, releases_table

    typer.echo(json.dumps(releases_json(), indent=1) if as_json else releases_table())


@app.command()
def download(
    release: Annotated[str | None, typer.Argument(help="A name of `bp-lcz releases`; default so2sat-v2.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files; default data/so2sat, data/so2sat-v3-... for v3.")
    ] = None,
    mirror: Annotated[
        list[str] | None,
        typer.Option(help="Folder on an ftp, http, https or rsync server that holds the files; may be repeated."),
    ] = None,
    release_file: Annotated[
        Path | None, typer.Option(help="A release of your own as JSON (docs/data.md) instead of a published one.")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Download nothing; check the files that are there.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove files of these names that are not those of the release.")
    ] = False,
) -> None:
    """Download a release, verified by size and md5; run again after any failure, it goes on where it stopped.

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


@app.command()
def bench(
    rows: Annotated[list[str] | None, typer.Option(help="Row to measure; repeat for more. All without.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes: shows that the rows run.")] = False,
    large: Annotated[bool, typer.Option("--large", help="Also rows on files larger than memory.")] = False,
    growth: Annotated[bool, typer.Option("--growth", help="Growth of cost with size instead of the rows.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch; all cores without.")] = None,
    out: Annotated[Path | None, typer.Option(help="File of the results, instead of benchmarks/results/...")] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the latest committed results, measure nothing.")] = False,
) -> None:
    """Measure speed against peers and against the machine's limits, with a goal and a verdict for each row.

    Example: bp-lcz bench

    Example: bp-lcz bench --rows gather --rows packed

    Example: bp-lcz bench --show
    """
    if not Path("benchmarks/run.py").is_file():
        raise UserError("benchmarks", "not found; run inside a BP-LCZ checkout")
    if growth and (rows or large):
        raise UserError("bench", "--growth takes neither --rows nor --large")
    if threads is not None and threads > (cores := os.cpu_count() or 1):
        raise UserError("bench", f"--threads {threads}: this machine has {cores} cores")
    sys.path.insert(0, str(Path.cwd()))
    from benchmarks.growth import measure_growth
    from benchmarks.run import measure_rows, show_latest

    if show:
        show_latest()
    elif growth:
        measure_growth(quick=quick, threads=threads, out=out)
    else:
        measure_rows(rows or (), quick=quick, large=large, threads=threads, out=out)


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


ModelName = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="Registered model; by default that of params.yaml's data set."),
]


def _model_name(name: str | None) -> str:
    from bp_lcz.registry.naming import model_name

    return name or model_name(Path.cwd(), load_params().dataset.root)


@app.command(rich_help_panel=REGISTRY)
def models(
    name: ModelName = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with all that is known.")] = False,
) -> None:
    """List the versions of a registered model with their numbers on the testing split.

    Example: bp-lcz models bp-lcz-demo
    """
    from bp_lcz.registry.models import list_models, models_table

    rows = list_models(Path.cwd(), _model_name(name))
    typer.echo(json.dumps(rows, indent=1) if as_json else models_table(rows))


@app.command(rich_help_panel=REGISTRY)
def promote(
    name: ModelName = None,
    version: Annotated[int | None, typer.Option(help="Version to promote; by default @challenger.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide, and change nothing.")] = False,
) -> None:
    """Make a version the champion if it exceeds the floor and surely leads the champion; else say why not.

    Example: bp-lcz promote bp-lcz-demo --dry-run
    """
    from bp_lcz.registry.promote import promote_version

    decision = promote_version(Path.cwd(), _model_name(name), version, dry_run)
    typer.echo("\n".join(decision.lines()))
    if not decision.accepted:
        raise UserError(f"{decision.name} version {decision.version}", f"not promoted: {decision.reason}")


@app.command(rich_help_panel=REGISTRY)
def rollback(name: ModelName = None) -> None:
    """Give the alias champion back to the version that had it before.

    Example: bp-lcz rollback bp-lcz-demo
    """
    from bp_lcz.registry.promote import restore_champion

    typer.echo("\n".join(restore_champion(Path.cwd(), _model_name(name)).lines()))


@app.command(rich_help_panel=REGISTRY)
def serve(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="Name of a registered model, by default that of params.yaml's data set; or, as of `predict`, "
            "models:/<name>/<version> or the folder of a checkpoint (with a slash in it, such as ./model).",
        ),
    ] = None,
    alias: Annotated[str, typer.Option(help="Of the version to serve, with a name.")] = "champion",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 5001,
    max_body: Annotated[int, typer.Option(min=1, help="MiB that a request may have.")] = 64,
) -> None:
    """Serve a model over HTTP until interrupted.

    Example: bp-lcz serve bp-lcz-demo --port 5001

    Example: bp-lcz serve outputs/models/eb_cnn-bp-lcz
    """
    from bp_lcz.serving.server import serve_model

    address = model if model and "/" in model else f"models:/{_model_name(model)}@{alias}"
    serve_model(Path.cwd(), address, host, port, max_body * 2**20)


@app.command(rich_help_panel=REGISTRY)
def predict(
    model: Annotated[str, typer.Argument(help="Folder of a checkpoint, or models:/<name>@<alias>.")],
    file: Annotated[Path, typer.Argument(help="HDF5 file with sen1 and sen2 as So2Sat stores them.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
) -> None:
    """Class probabilities of every patch of a file; labels are not needed.

    Example: bp-lcz predict models:/bp-lcz-demo@champion data/demo/testing.h5 --out predictions.parquet
    """
    from bp_lcz.serving.predict import predict_file

    done = predict_file(Path.cwd(), model, file, out)
    agreement = "" if done.agreement is None else f"; {done.agreement:.3f} of those with a label agree with it"
    typer.echo(f"{out}: {done.patches} patches{agreement}")


def _die_with_parent() -> None:
    """Let the kernel end a stage when the `dvc repro` that started it ends.

    DVC removes the lock of a killed `dvc repro` and would start a second trainer beside an orphan.
    """
    if sys.platform == "linux" and "DVC_ROOT" in os.environ:
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def main() -> None:
    """Entry point of the console script: an error becomes one line and the exit status of its type."""
    _die_with_parent()
    keep_loopback_direct()
    # As an exception, so that half-written outputs are removed on the way out.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if not sys.stderr.isatty():
        # A progress bar in a log: a line every ten seconds.
        os.environ.setdefault("TQDM_MININTERVAL", "10")
    Ending.write(None)
    try:
        app()
    except UserError as error:
        _end(str(error), error.status)
    except SystemExit as end:
        if end.code == 128 + signal.SIGINT:  # what typer makes of a KeyboardInterrupt, without a word
            typer.echo("interrupted", err=True)
        Ending.write(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
    except Exception as error:
        if isinstance(error, OSError) and is_refused_by_system(error):
            _end(f"{error.filename}: {(error.strerror or str(error)).lower()}")
        if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
            _end(f"{error.object[:200]}: a name with bytes that are not UTF-8, which a library here refuses; rename it")
        if not is_disk_full(error):
            traceback.print_exc()
            Ending.write(
                FAULT_STATUS, f"{type(error).__name__}: {one_line(error)} (a fault of the program, see the log)"
            )
            sys.exit(FAULT_STATUS)
        _end(f"{Path.cwd()}: no space left on the disk; free some and run again")


def _end(line: str, status: int = UserError.status) -> NoReturn:
    Ending.write(status, line)
    typer.echo(f"error: {line}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
