"""All tests and measurements that need a GPU, in one run of a few minutes: ``make gpu``.

It needs torch, Lightning, h5py, pydantic and pytest, which are easy to install on a bare GPU machine. It does not need
DVC, Prefect or MLflow.
"""

import argparse
import gc
import multiprocessing
import re
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import normalize
from tqdm import tqdm, trange

from benchmarks.harness import Setup, find_rows, finish
from benchmarks.machine import ended, file_stem, measuring
from benchmarks.networks import PARAMS, TEXT_WIDTH, NoiseStore, trial_of
from benchmarks.rows.gpu import BATCH, TRAINING, VALIDATION, epoch_seconds, repeatable, resident_step
from benchmarks.run import result_of, table
from benchmarks.speed import BENCHMARKS, Machine, RowHead, RowResult, figure, machine_line
from bp_lcz.bands import GROUPS, PATCH_SIDE
from bp_lcz.errors import UserError, one_line
from bp_lcz.model.checkpoint import DESCRIPTION
from bp_lcz.model.training import train_trial
from bp_lcz.params import SPLITS, WORDINGS, Params, Tier, TrialParams
from bp_lcz.records import (
    Blocks,
    DataKind,
    Leakage,
    ModelDescription,
    PackManifest,
    Part,
    PromptOrigin,
    Record,
    Timings,
)
from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.sections import read_sections
from bp_lcz.text.prompts import prompt_texts
from bp_lcz.text.table import PromptTable
from bp_lcz.workspace import merge_profile

ROOT = Path(__file__).parents[1]
SLAB = 1024


class Training(Part):
    """A training of full size; `gpu_gib` is its peak GPU memory, None without a GPU."""

    store: str
    patches: dict[str, int]
    batch: int
    epoch_seconds: float
    loading_seconds: float
    gpu_gib: float | None
    training_loss: tuple[float, ...]
    sha256: str


class Hours(Part):
    """Hours of a kind of trial, for all its seeds together."""

    trials: str
    seeds: int
    epoch_seconds: float
    hours: float


class Beside(Part):
    """Total rate of several trainings at the same time."""

    trainings: int
    patches_per_second: float


class GpuResults(Record):
    """``<machine>.gpu.json``; parts that were not measured are missing."""

    format: Literal[1] = 1
    quick: bool
    machine: Machine
    tests: dict[str, int] | None = None
    trainings: tuple[Training, ...] = ()
    rows: tuple[RowResult | RowHead, ...] = ()
    paper: tuple[Hours, ...] = ()
    side_by_side: tuple[Beside, ...] = ()


def measure_gpu(out: Path | None = None, *, quick: bool = False) -> Path | None:
    """Run the tests marked ``gpu``, an epoch of each backbone, trainings of So2Sat's size; print and write the results.

    Args:
        out: file of the results; without it ``benchmarks/results/<machine>.gpu.json``, and nothing of a quick run.
        quick: tiny sizes, on a CPU too: shows that all parts run, says nothing of speed.

    Returns:
        The file, None if nothing was written.

    Raises:
        UserError: if there is no GPU and the run is not quick.
    """
    if not quick and not torch.cuda.is_available():
        raise UserError("make gpu", "torch sees no GPU; `python -m benchmarks.gpu --quick` shows on a CPU that it runs")
    parts: tuple[tuple[str, Callable[[Setup], Any], Callable[[Any], str]], ...] = (
        ("tests", run_tests, tests_line),
        ("trainings", full_size_trainings, trainings_table),
        ("rows", epochs, table),
        ("paper", paper_hours, hours_table),
        ("side_by_side", side_by_side, side_by_side_table),
    )
    start = time.perf_counter()
    with measuring(quick=quick, threads=None) as (setup, machine):
        results = GpuResults(quick=quick, machine=machine)
        if out is None and not quick:
            out = BENCHMARKS / f"{file_stem(machine)}.gpu.json"
        for name, measure, as_text in parts:
            found = measure(setup)
            print(as_text(found), flush=True)
            results = results.model_copy(update={name: found})
            if out is not None:  # after each part: a lease may end before the last
                results.write(out)
    print(f"\n{machine_line(ended(machine))}\nall of it took {time.perf_counter() - start:.0f} s")
    return out


def epochs(setup: Setup) -> tuple[RowHead, ...]:
    """The rows of `benchmarks.rows.gpu`."""
    names = "gpu-epoch-eb_cnn" if setup.quick else "gpu-epoch-"
    rows = [row for row in find_rows() if row.name.startswith(names)]
    return tuple(result_of(row, setup) for row in tqdm(rows, desc="epoch of each backbone"))


def tests_line(counts: Mapping[str, int]) -> str:
    """The results of the tests as text."""
    return "tests marked gpu: " + ", ".join(f"{count} {result}" for result, count in counts.items())


def run_tests(setup: Setup, root: Path = ROOT) -> dict[str, int]:
    """Results of the tests marked ``gpu`` in a process of their own.

    Raises:
        UserError: if pytest does not run.
    """
    report = setup.folder / "tests.xml"
    tests = sorted(file for file in (root / "tests").rglob("test_*.py") if "mark.gpu" in file.read_text("utf-8"))
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-o", "addopts=", f"--junitxml={report}"]
    subprocess.run([*command, *map(str, tests)], cwd=root, check=False)
    if not report.exists():
        raise UserError("pytest", "did not run; see above")
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None
    counts = {name: int(suite.get(name, 0)) for name in ("failures", "errors", "skipped")}
    return {"passed": int(suite.get("tests", 0)) - sum(counts.values()), **counts}


def full_size_trainings(setup: Setup) -> tuple[Training, ...]:
    """Two epochs of the package's trainer on noise of So2Sat's size, from memory of the GPU and of the host."""
    packed, prompts = setup.folder / "packed", setup.folder / "prompts.safetensors"
    patches = {"training": 64, "validation": 32} if setup.quick else {"training": TRAINING, "validation": VALIDATION}
    write_noise(packed, patches, torch.device(setup.device))
    write_prompts(prompts)
    content = trial_of("bp-lcz").model_dump()
    content["train"] |= {"epochs": 2, "batch_size": 16 if setup.quick else BATCH, "precision": "bf16-mixed"}
    trial = TrialParams.model_validate(content)
    found = []
    tiers: tuple[Tier, ...] = ("device", "pinned" if setup.device == "cuda" else "packed")
    for tier in tiers:
        out = setup.folder / tier
        gc.collect()  # the split of the training before
        if setup.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        train_trial(trial, packed, prompts, setup.folder / "scratch", out, tier=tier)
        spent = time.perf_counter() - start
        timings = Timings.read(out / "timings.json")
        history = pd.read_csv(out / "history.csv")
        found.append(
            Training(
                store=tier,
                patches=patches,
                batch=trial.train.batch_size,
                epoch_seconds=timings.seconds / timings.epochs,
                loading_seconds=spent - timings.seconds,
                gpu_gib=torch.cuda.max_memory_allocated() / 2**30 if setup.device == "cuda" else None,
                training_loss=tuple(history["training_loss"].tolist()),
                sha256=ModelDescription.read(out / DESCRIPTION).weights_sha256,
            )
        )
    return tuple(found)


def write_noise(folder: Path, patches: Mapping[str, int], device: torch.device) -> None:
    """A packed data set of noise around one spectrum for each class, labelled as simulated."""
    folder.mkdir()
    for seed, (split, count) in enumerate(patches.items()):
        store = NoiseStore(count, device, seed)
        shape = (count, PATCH_SIDE**2 * len(store.channels.names))
        images = np.lib.format.open_memmap(folder / f"{split}.images.npy", "w+", "<f4", shape)
        for start in trange(0, count, SLAB, desc=f"noise for {split}", unit_scale=SLAB, unit="patch"):
            piece = np.arange(start, min(start + SLAB, count))
            sensors = [part.permute(0, 2, 3, 1).flatten(1) for part in store.gather(piece)[:2]]
            images[piece[0] : piece[-1] + 1] = torch.cat(sensors, 1).cpu().numpy()
        np.save(folder / f"{split}.labels.npy", np.arange(count) % CLASS_COUNT)
        np.save(folder / f"{split}.blocks.npy", np.arange(count))
    class_counts = {
        split: tuple(np.bincount(np.arange(patches.get(split, 0)) % CLASS_COUNT, minlength=CLASS_COUNT).tolist())
        for split in SPLITS
    }
    manifest = PackManifest(
        dataset="noise",
        source="noise around a spectrum of each class, for speed",
        kind=DataKind.SIMULATED,
        leakage=Leakage(status="none", pairs=0, distance=None),
        channels=store.channels,
        mean=(0.0,) * len(store.channels.names),
        std=(1.0,) * len(store.channels.names),
        class_counts=class_counts,
        blocks=Blocks(unit="patch", description="single patches", count={}),
        sha256={},
    )
    manifest.write(folder / "manifest.json")


def write_prompts(path: Path) -> None:
    """A prompt table of random unit vectors, since a bare machine has no text encoder; the speed is that of texts."""
    embedding = normalize(torch.randn(len(WORDINGS), CLASS_COUNT, len(GROUPS), TEXT_WIDTH), dim=-1)
    template = "a photo of a {class} with {group} bands"
    origin = PromptOrigin(
        texts={wording: prompt_texts(template, wording) for wording in WORDINGS},
        template=template,
        class_template="{class}",
        encoder="random vectors",
        revision=None,
        sha256="0" * 64,
    )
    PromptTable(embedding, embedding[:, :, 0], origin).write(path)


def paper_hours(setup: Setup) -> tuple[Hours, ...]:
    """Hours that each kind of trial of ``make paper`` takes on this device, all epochs and seeds together."""
    kinds: dict[str, list[TrialParams]] = {}
    params = paper_params()
    for name in params.trials:
        trial = params.trial(name)
        kinds.setdefault(re.sub(r"-s\d+$", "", name), []).append(trial)
    found = []
    for kind, trials in tqdm(list(kinds.items())[: 2 if setup.quick else None], desc="50 steps of each kind of trial"):
        seconds = epoch_seconds(trials[0], setup)
        hours = seconds * sum(trial.train.epochs for trial in trials) / 3600
        found.append(Hours(trials=kind, seeds=len(trials), epoch_seconds=seconds, hours=hours))
    return tuple(found)


def paper_params() -> Params:
    """The parameters of ``make paper``."""
    committed = read_sections(PARAMS.read_bytes(), str(PARAMS))
    return Params.model_validate(merge_profile(ROOT, committed, "paper"))


def side_by_side(setup: Setup) -> tuple[Beside, ...]:
    """Total rate in patches a second of several trainings of EB-CNN with prompting, each in its own process."""
    found = []
    spawn = multiprocessing.get_context("spawn")
    for count in (2,) if setup.quick else (1, 2, 4, 8):
        with spawn.Manager() as manager, ProcessPoolExecutor(count, spawn) as processes:
            rates = list(processes.map(_rate, [replace(setup, threads=1)] * count, [manager.Barrier(count)] * count))
        found.append(Beside(trainings=count, patches_per_second=sum(rates)))
    return tuple(found)


def _rate(setup: Setup, all_ready: threading.Barrier) -> float:
    """Rate of one training in patches a second, measured once all trainings are ready."""
    torch.set_num_threads(setup.threads)
    size, window = (8, 0.5) if setup.quick else (BATCH, 5.0)
    with repeatable():
        step = resident_step(trial_of("bp-lcz"), size, setup)
        step(0)
        finish(setup)
        all_ready.wait()
        start, steps = time.perf_counter(), 0
        while (spent := time.perf_counter() - start) < window:
            step(steps)
            finish(setup)
            steps += 1
    return steps * size / spent


def side_by_side_table(found: Sequence[Beside]) -> str:
    """Trainings side by side as text."""
    rates = [f"{one.trainings}: {one.patches_per_second:,.0f} patches/s" for one in found]
    return f"trainings of EB-CNN bp-lcz side by side, together: {', '.join(rates)}"


def trainings_table(trainings: Sequence[Training]) -> str:
    """The trainings as text."""
    first = trainings[0]
    lines = [f"EB-CNN bp-lcz on noise, {first.patches['training']:,} patches, batch {first.batch}, bf16-mixed:"]
    for training in trainings:
        memory = "" if training.gpu_gib is None else f", {training.gpu_gib:.1f} GiB of the GPU"
        lines.append(
            f"  patches from {training.store}: {figure(training.epoch_seconds)} s an epoch with its validation, "
            f"{figure(training.loading_seconds)} s to load{memory}"
        )
    same = len({training.sha256 for training in trainings}) == 1
    return "\n".join([*lines, f"  equal weights, bit for bit: {'yes' if same else 'NO'}"])


def hours_table(kinds: Sequence[Hours]) -> str:
    """The predicted hours as text."""
    lines = [
        f"  {kind.trials:24} {kind.seeds} seeds  {figure(kind.epoch_seconds):>6} s an epoch  {figure(kind.hours):>6} h"
        for kind in kinds
    ]
    total = sum(kind.hours for kind in kinds)
    return "\n".join(
        [
            "make paper on this device, every epoch of every seed, one trial at a time; early stopping ends sooner:",
            *lines,
            f"  together {figure(total)} h",
        ]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.gpu")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, on a CPU too: shows that all parts run")
    parser.add_argument("--out", type=Path, help="file of the results")
    arguments = parser.parse_args()
    try:
        measure_gpu(arguments.out, quick=arguments.quick)
    except UserError as error:
        sys.exit(f"error: {one_line(error)}")
