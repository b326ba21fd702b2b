"""Rows for an epoch of So2Sat on a GPU for each backbone, against the GPU's lower bound; tiny on a CPU."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import QUICK_REPEATS, REPEATS, Goal, Measured, NotMeasuredError, Row, Setup, Side, timed
from benchmarks.networks import NoiseStore, batch_of, network_of, step_over, trial_of
from benchmarks.speed import figure
from bp_lcz.model.task import LczTask
from bp_lcz.params import TrialParams, backbone_names
from bp_lcz.patches.loader import EVALUATION_BATCH
from bp_lcz.patches.store import Batch, MemoryStore
from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.so2sat.releases import V2_CLASS_COUNTS

SO2SAT = {split: sum(counts) for split, counts in V2_CLASS_COUNTS.items()}
"""Number of patches of So2Sat LCZ42 v2."""

TRAINING, VALIDATION = SO2SAT["training"], SO2SAT["validation"]

BATCH = 256
"""As in profiles/paper.yaml."""

RESIDENT = 16384
"""Number of patches from which batches are gathered. It is far beyond the GPU's cache; more would cost no more."""

SECONDS = 0.25
"""Approximate duration of a timed call."""


def gpu_epoch(backbone: str, setup: Setup) -> Measured:
    """Seconds of a training epoch, from measured steps on patches that lie on the GPU, against its floor."""
    if setup.device != "cuda" and not setup.quick:
        raise NotMeasuredError("torch sees no GPU")
    size = 2 if setup.quick else BATCH
    trial = trial_of("bp-lcz", backbone, **({"token_size": 8} if setup.quick and backbone == "exvit" else {}))
    with repeatable():
        step = resident_step(trial, size, setup)
        step(0)
        once = timed(setup, Side(step), 1)
        steps = 1 if setup.quick else max(1, min(64, round(SECONDS / once)))

        def run(repeat: int) -> None:
            for number in range(steps):
                step(repeat * steps + number)

        repeats = QUICK_REPEATS if setup.quick else REPEATS
        utilisation, found = busy(lambda: [timed(setup, Side(run), repeat) for repeat in range(repeats)])
    floor, told = gpu_floor(trial, size, setup)
    epoch = TRAINING / (steps * size) * np.array(found)
    return Measured(
        epoch,
        np.full(repeats, floor * TRAINING / size),
        beside={"utilisation": utilisation} | told,
        note=f"bp-lcz, bf16-mixed, batch {size}, repeatable bit for bit; the floor counts the products of all layers "
        "and their gradients, and the images and maps of convolutions once written and once read in each direction",
    )


@contextmanager
def repeatable() -> Iterator[None]:
    """Use kernels that give equal bytes every time, as the trainer does. Some of them are slower."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def resident_step(trial: TrialParams, size: int, setup: Setup) -> Callable[[int], Tensor]:
    """A training step in bfloat16 on a batch that is gathered from patches on the device."""
    device = torch.device(setup.device)
    store = MemoryStore(NoiseStore(4 * size if setup.quick else RESIDENT, device), device)
    random = np.random.default_rng(1)

    def next_batch() -> Batch:
        return store.gather(random.integers(len(store), size=size))

    return step_over(next_batch, setup.device, network_of(trial), trial, "bf16-mixed")


def epoch_seconds(trial: TrialParams, setup: Setup, patches: Mapping[str, int] = SO2SAT) -> float:
    """Seconds of an epoch of so many patches with its validation, from steps and batches on patches on the device."""
    size, count = (8, 1) if setup.quick else (trial.train.batch_size, 50)
    with repeatable():
        step = resident_step(trial, size, setup)
        network = network_of(trial).to(setup.device).eval()
        batch = batch_of(size if setup.quick else EVALUATION_BATCH, device=setup.device)

        def validate(_: int) -> None:
            with torch.inference_mode(), torch.autocast(setup.device, torch.bfloat16):
                network(*batch[:2])

        parts = ((step, patches["training"] / size), (validate, patches["validation"] / len(batch[2])))
        return sum(times * _seconds_of_a_call(call, count, setup) for call, times in parts)


def _seconds_of_a_call(call: Callable[[int], object], count: int, setup: Setup) -> float:
    """Mean of up to ``count`` calls, fewer where they are slow."""
    for number in range(3):
        call(number)
    count = max(1, min(count, round(10 * SECONDS / timed(setup, Side(call), 3))))
    return timed(setup, Side(lambda _: [call(number) for number in range(count)]), 4) / count


def busy(work: Callable[[], Sequence[float]]) -> tuple[str, Sequence[float]]:
    """Median of the driver's utilisation of the GPU while ``work`` runs, and its result."""
    samples: list[int] = []
    done = threading.Event()
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]

    def watch() -> None:
        while not done.wait(0.2):
            try:
                told = subprocess.run(query, check=True, capture_output=True, text=True, timeout=5).stdout
                samples.append(int(told.split()[0]))
            except (OSError, subprocess.SubprocessError, ValueError):
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        result = work()
    finally:
        done.set()
        watcher.join()
    return (f"{np.median(samples):.0f} %" if samples else "not measured"), result


def gpu_floor(trial: TrialParams, size: int, setup: Setup) -> tuple[float, dict[str, str]]:
    """Lower bound in seconds of a step: its products plus its bytes, both at the measured rates."""
    products, bandwidth = limits(setup)
    task = LczTask(network_of(trial), trial, torch.ones(CLASS_COUNT), steps=1).to(setup.device)
    maps = 0

    def count(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal maps
        maps += 2 * output.numel()  # bytes in bfloat16

    for module in task.network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    batch: Batch = batch_of(size, device=setup.device)
    with FlopCounterMode(display=False) as counter, torch.autocast(setup.device, torch.bfloat16):
        task.training_step(batch, 0).backward()
    bytes_moved = 4 * (batch[0].numel() + batch[1].numel()) + 4 * maps
    floors = {"arithmetic": counter.get_total_flops() / products, "bytes": bytes_moved / bandwidth}
    told = {f"floor by {name}": f"{figure(TRAINING / size * value)} s an epoch" for name, value in floors.items()}
    rates = {"matrix products": f"{figure(products / 1e12)} TFLOP/s", "copy": f"{figure(bandwidth / 1e9)} GB/s"}
    return sum(floors.values()), told | rates


def limits(setup: Setup) -> tuple[float, float]:
    """Largest rates of this device: operations a second in bfloat16 products, bytes a second in a copy."""
    side, length = (256, 2**20) if setup.quick else (8192, 2**30)
    left = torch.randn(side, side, device=setup.device, dtype=torch.bfloat16)
    block = torch.empty(length, device=setup.device, dtype=torch.uint8)
    return 2 * side**3 / _fastest(lambda: left @ left, setup), 2 * length / _fastest(block.clone, setup)


def _fastest(work: Callable[[], object], setup: Setup) -> float:
    return min(timed(setup, Side(lambda _: work()), number) for number in range(10))


ROWS = tuple(
    Row(
        f"gpu-epoch-{backbone}",
        f"epoch of {TRAINING:,} patches on the GPU, {backbone}",
        "its floor",
        "s",
        Goal(3, "at most"),
        partial(gpu_epoch, backbone),
    )
    for backbone in backbone_names()
)
