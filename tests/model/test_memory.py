"""Freed memory stays with the process once it is told so."""

import os
import platform
import subprocess
import sys

import pytest

# In a process of its own: the setting cannot be taken back.
SCRIPT = """
import resource, sys
import torch
from bp_lcz.model.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        parts = [torch.ones(2**20) for _ in range(8)]
        del parts
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
default = faults()
assert keep_freed_memory()
faults()
print(default, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory")
def test_kept_memory_is_used_again_without_page_faults() -> None:
    # glibc raises the threshold by itself as blocks are freed, and then keeps more or less of them; not when it is set.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**17)}
    out = subprocess.run(
        [sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True, env=environment
    ).stdout
    default, kept = map(int, out.split())
    assert default > 1000
    assert kept < default / 10
