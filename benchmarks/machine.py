"""Describes the machine of a benchmark and its state."""

import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
import torch

from benchmarks.harness import Setup
from benchmarks.speed import Machine


@contextmanager
def measuring(*, quick: bool, threads: int | None, large: bool = False) -> Iterator[tuple[Setup, Machine]]:
    """Set torch's threads, and give a scratch folder and the machine's description.

    Args:
        quick: use tiny sizes.
        threads: threads of torch; by default all cores.
        large: measure rows that need more disk than memory, too.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    machine = describe(threads, device)
    # not in /tmp, which may be in memory
    parent = Path(".scratch")
    parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix="bench-") as folder:
        yield Setup(Path(folder), quick=quick, large=large, device=device, threads=threads), machine


def describe(threads: int, device: str) -> Machine:
    """The machine as it is now."""
    return Machine(
        cpu=cpu_model(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        gpu=torch.cuda.get_device_name() if device == "cuda" else None,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=str(torch.__version__),
        numpy=np.__version__,
        threads=threads,
        commit=commit(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        # If this exceeds the number of cores, something else was running, and the intervals show it.
        load_before=round(os.getloadavg()[0], 2),
    )


def ended(machine: Machine) -> Machine:
    """The machine with its present load as the load after the run."""
    return machine.model_copy(update={"load_after": round(os.getloadavg()[0], 2)})


def cpu_model() -> str:
    """Name of the processor according to the system."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return named.group(1).strip() if named else platform.processor() or platform.machine()


def file_stem(machine: Machine) -> str:
    """Name of the machine's result file: its processor, cores and GPU."""
    name = f"{machine.cpu} {machine.cores} cores {machine.gpu or ''}"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def commit() -> str | None:
    """Commit of the current folder, with a plus sign when files differ from it; None outside git."""
    head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode:
        return None
    changed = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=False)
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
