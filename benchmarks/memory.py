"""Sets the state of the allocator, and measures the memory that a piece of work adds to the process."""

import ctypes
import gc
import platform
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import NotMeasuredError, Setup
from bp_lcz.model.memory import set_thresholds


def as_in_a_new_process() -> None:
    """Restore glibc's default behaviour, so that no row depends on earlier rows.

    After `keep_freed_memory`, blocks above 32 MiB come from the kernel again; glibc's own threshold grows to this size.
    """
    if set_thresholds(mmap=32 * 2**20, trim=64 * 2**20):
        ctypes.CDLL(None).malloc_trim(0)


def peak_mebibytes(setup: Setup, work: Callable[[], object]) -> float:
    """Largest growth of memory while ``work`` runs.

    On a GPU the allocator's own peak. On a CPU growth of the resident pages of this process as Linux counts them:
    freed memory is given back and the kernel's mark of the peak is reset before.

    Raises:
        NotMeasuredError: on a CPU without Linux and glibc.
    """
    gc.collect()
    if setup.device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        allocated = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - allocated) / 2**20
    if platform.libc_ver()[0] != "glibc" or not Path("/proc/self/clear_refs").exists():
        raise NotMeasuredError("the peak of memory can be reset on Linux with glibc only")
    ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        raise NotMeasuredError(f"the kernel does not let a process reset its peak of memory ({error})") from None
    resident = _kibibytes("VmRSS")
    work()
    return (_kibibytes("VmHWM") - resident) / 2**10


def _kibibytes(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return float(value.split()[0])
    raise NotMeasuredError(f"/proc/self/status has no {name}")
