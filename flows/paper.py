"""``make paper``: downloads and checks the data, estimates the hours on this device, then runs `train_bp_lcz`.

    python -m flows.paper
    python -m flows.paper --dataset /disk/so2sat --weights _32_weights.best.hdf5

After an interruption, run it again: each part continues where it stopped.
"""

import argparse
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

from benchmarks.harness import Setup
from benchmarks.rows.gpu import epoch_seconds
from bp_lcz.errors import DeviceError, TemporaryError, UserError, lost_device
from bp_lcz.params import PARAMS_FILE, SPLITS, Params, TrialParams, backbone_names, load_params
from bp_lcz.paths import EVALUATIONS, PACKED, PAPER, SCRATCH
from bp_lcz.report.claims import load_paper
from bp_lcz.serving.prove import MODEL, no_proof, prove_data
from bp_lcz.so2sat.download import download_release, measured_rate
from bp_lcz.so2sat.layout import open_split
from bp_lcz.so2sat.partial import say
from bp_lcz.so2sat.pinned import check_pins, remember_pins, verify_pins
from bp_lcz.so2sat.releases import RELEASES, SO2SAT_V2, Release, gigabytes
from bp_lcz.workspace import make_workspace
from flows.ending import one_line
from flows.plan import plan_lines, row_of
from flows.stages import CHECKOUT
from flows.train_bp_lcz import SLOW_PROFILE, run_here

DATA = Path("data/so2sat")
_READ = 2**29
"""Number of bytes that are read to measure the rate of the disk."""
_PASS = 800e6
"""Largest rate of the gate and of packing, in bytes a second; measured in docs/performance.md."""


def bring_data(
    release: Release, folder: Path, checkout: Path, mirrors: Sequence[str] = (), tell: Callable[[str], object] = say
) -> None:
    """Report what a download will take, then download; do nothing if all files are there.

    Args:
        release: release to download.
        folder: folder for its files.
        checkout: checkout that will hold the packed patches, half as large as the data.
        mirrors: mirrors for `download_release`.
        tell: receives lines for the user.

    Raises:
        UserError: if a disk is too small for data and packed patches, or for the reasons of `download_release`.
    """
    missing = [file for file in release.files if not (folder / file.name).exists()]
    if not missing:
        return
    check_pins(release, folder)
    parts = {file: folder / f"{file.name}.part" for file in missing}
    held = sum(part.stat().st_size for part in parts.values() if part.exists())
    wanted = sum(file.size or 0 for file in missing) - held
    packed = (release.size or 0) // 2
    free = gigabytes(shutil.disk_usage(_existing(folder)).free)
    tell(
        f"{release.title or release.name}: {gigabytes(release.size or 0)}, {gigabytes(wanted)} to download into "
        f"{folder} ({free} free); packed patches in {checkout} take {gigabytes(packed)} more"
    )
    _check_room({folder: wanted, checkout: packed})
    rate = measured_rate(missing[0], mirrors or release.mirrors)
    if rate:
        tell(f"{gigabytes(round(rate))}/s measured, so it takes about {duration(wanted / rate)}")
    else:
        tell("no mirror answers now; the download will say why")
    download_release(release, folder, mirrors)
    remember_pins(release, folder)


def hours_left(workspace: Path, params: Params, dataset: Path) -> tuple[dict[str, float], float]:
    """Hours of each trial that is not evaluated yet, from 50 steps of its kind, and hours of the work on the data.

    Raises:
        DeviceError: if the device of the parameters is missing, or is lost.
        TemporaryError: if the process that measures is killed.
    """
    left = [name for name in params.trials if not (workspace / EVALUATIONS / name / "evaluation.json").exists()]
    if not left:
        return {}, 0.0
    patches = dict[str, int]()
    for split in SPLITS:
        with open_split(dataset, split) as reader:
            patches[split] = reader.count
    kinds = {row_of(name): params.trial(name) for name in left}
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, spawn) as process:  # whose memory on the device is free afterwards
            seconds = process.submit(_measure, list(kinds.values()), patches).result()
    except BrokenProcessPool:
        raise TemporaryError("50 steps of each kind of trial", "were ended from outside; run again") from None
    epochs = dict(zip(kinds, seconds, strict=True))
    hours = {name: epochs[row_of(name)] * params.trial(name).train.epochs / 3600 for name in left}
    return hours, 0.0 if (workspace / PACKED / "manifest.json").exists() else _hours_of_data(dataset)


def paper(
    dataset: Path | None,
    weights: Path | None = None,
    *,
    checkout: Path = CHECKOUT,
    mirrors: Sequence[str] = (),
    tell: Callable[[str], object] = say,
) -> Path:
    """Do everything that comes before the first trial.

    Args:
        dataset: folder with the data; by default they are downloaded into ``data/so2sat``.
        weights: file with the published weights, for the check of the data.
        checkout: the main checkout.
        mirrors: mirrors of the data instead of the published ones.
        tell: receives lines for the user.

    Returns:
        The workspace, ready for the flow.
    """
    folder = dataset or DATA
    if dataset is None:
        bring_data(RELEASES[SO2SAT_V2], folder, checkout, mirrors, tell)
    verify_pins(folder)
    tell(str(prove_data(folder, weights, kept=checkout / SCRATCH / MODEL) or no_proof(folder)))
    workspace = make_workspace(SLOW_PROFILE, profile=SLOW_PROFILE, dataset=folder)
    params = load_params(workspace / PARAMS_FILE)
    hours, before = hours_left(workspace, params, folder)
    lines = plan_lines(params, load_paper(workspace / PAPER, backbone_names()), hours, before)
    tell("\n".join([*lines, _together(hours, before)]))
    return workspace


def duration(seconds: float) -> str:
    """A duration in words.

    Example:
        >>> duration(5400), duration(200), duration(200_000)
        ('1 h 30 min', '3 min', '55 h 33 min')
    """
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{max(minutes, 1)} min"


def _check_room(needs: Mapping[Path, int]) -> None:
    """Check that each disk has room for everything that goes there."""
    disks: dict[int, tuple[Path, int, int]] = {}
    for folder, size in needs.items():
        there = _existing(folder)
        first, total, _ = disks.get(there.stat().st_dev, (folder, 0, 0))
        disks[there.stat().st_dev] = (first, total + size, shutil.disk_usage(there).free)
    for folder, total, free in disks.values():
        if total > free:
            raise UserError(
                folder,
                f"{gigabytes(total)} needed with packed patches, {gigabytes(free)} free; free "
                f"{gigabytes(total - free)}, or bring the data to another disk: `bp-lcz download --out FOLDER`, then "
                "`make paper DATASET=FOLDER`",
            )


def _existing(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())


def _measure(trials: list[TrialParams], patches: Mapping[str, int]) -> list[float]:
    """Seconds of an epoch of each trial; runs in a process of its own."""
    from bp_lcz.model.training import choose_device

    device = "cpu" if choose_device(trials[0]) == "cpu" else "cuda"
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(Path(folder), quick=device == "cpu", device=device, threads=trials[0].train.threads)
        steps = tqdm(trials, desc="50 steps of each kind of trial")
        try:
            return [epoch_seconds(trial, setup, patches) for trial in steps]
        except RuntimeError as error:
            if (lost := lost_device(error)) is None:
                raise
            raise DeviceError("GPU", f"lost ({lost}); run again") from None


def _hours_of_data(dataset: Path) -> float:
    """Hours of gate and packing, which each read all files once at half the rate of reading alone (measured)."""
    size = sum((dataset / f"{split}.h5").stat().st_size for split in SPLITS)
    start, got = time.perf_counter(), 0
    with (dataset / "training.h5").open("rb", buffering=0) as file:
        while got < _READ and (block := file.read(2**24)):
            got += len(block)
    rate = got / max(time.perf_counter() - start, 1e-6)
    return 2 * size / min(rate / 2, _PASS) / 3600


def _together(hours: Mapping[str, float], before: float) -> str:
    return (
        f"together {sum(hours.values()) + before:.1f} h at most, for one trial at a time and all epochs; early "
        "stopping and parallel trials end sooner; starts and evaluations are not counted"
    )


def main() -> None:
    """Run everything. A failure ends the process with one line."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.paper",
        description="Download So2Sat LCZ42 v2 if it is missing, check it, estimate how long the profile `paper` takes "
        "here, and run it. After an interruption, run it again.",
        epilog="Example: python -m flows.paper --dataset /disk/so2sat",
    )
    parser.add_argument("--dataset", type=Path, help="folder with the data (default: downloaded into data/so2sat)")
    parser.add_argument(
        "--weights", type=Path, help="file with the published weights of Sen2LCZ-MF, if GitHub cannot be reached"
    )
    parser.add_argument(
        "--mirror", action="append", default=[], help="mirror of the data instead of the published ones; repeatable"
    )
    parser.add_argument("--concurrency", type=int, default=2, help="stages side by side on one device (default: 2)")
    parser.add_argument("--verbose", action="store_true", help="show the whole log instead of a line for each stage")
    arguments = parser.parse_args()
    with one_line():
        workspace = paper(arguments.dataset, arguments.weights, mirrors=arguments.mirror)
    run_here(workspace, arguments.concurrency, arguments.verbose)


if __name__ == "__main__":
    main()
