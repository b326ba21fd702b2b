"""Freed memory stays with the process, so that each training step uses the pages of the last one."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Numbers of mallopt's parameters in malloc.h."""

OF_BATCHES = 2**25
"""Bytes of the largest block that a batch of predictions needs often; rows of pixels of a wide scene are larger."""


def keep_freed_memory(largest: int = 2**30) -> bool:
    """Tell the C library to keep what is freed instead of giving it back to the kernel.

    By default glibc returns the large blocks of each step, and the next step pays for mapping and zeroing the same
    pages again: a fifth of a training step of EB-CNN in float32. The peak does not change: what one step used, the next
    uses again. Results do not change either.

    Args:
        largest: bytes of the largest block to keep. Larger blocks that come and go in many sizes leave holes between
            them, so that memory would grow as long as the work goes on.

    Returns:
        Whether the C library could be told; only glibc knows how.
    """
    return set_thresholds(mmap=largest, trim=2**31 - 1)


def set_thresholds(*, mmap: int, trim: int) -> bool:
    """From how many bytes on glibc maps a block by itself, and gives back what is free at the end of the heap.

    Returns:
        Whether it could be told.
    """
    return _tell((_MMAP_THRESHOLD, mmap), (_TRIM_THRESHOLD, trim))


def share_one_heap() -> bool:
    """Let all threads take memory from the heap that keeps what is freed; by default each has one of its own.

    Returns:
        Whether glibc could be told.
    """
    return _tell((_ARENA_MAX, 1))


def _tell(*settings: tuple[int, int]) -> bool:
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(number, value) for number, value in settings)
