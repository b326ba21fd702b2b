"""From the disk to a batch in memory."""

import numpy as np

from benchmarks.harness import Goal, Measured, Row, Setup, Side, rates
from bp_lcz.bands import ALL_CHANNELS, PATCH_SIDE
from bp_lcz.data.store import epoch_order

BATCH = 256
PATCH_VALUES = PATCH_SIDE**2 * len(ALL_CHANNELS.names)


def gather(setup: Setup) -> Measured:
    """Random patches of a packed split as a batch, against one copy of as many patches that lie side by side."""
    batch = 4 if setup.quick else BATCH
    array = np.random.default_rng(1).random((16 * batch, PATCH_VALUES), dtype=np.float32)
    target = np.empty((batch, PATCH_VALUES), np.float32)

    def batches(repeat: int) -> None:
        order = epoch_order(len(array), 1, repeat)
        for start in range(0, 8 * batch, batch):
            array[order[start : start + batch]]

    def memcpy(_: int) -> None:
        for start in range(0, 8 * batch, batch):
            np.copyto(target, array[start : start + batch])

    gigabytes = 8 * batch * PATCH_VALUES * 4 / 1e9
    return Measured(*rates(setup, Side(batches, gigabytes), Side(memcpy, gigabytes)), cache="warm")


ROWS = (Row("gather", "gather of a packed batch", "memcpy of the same bytes", "GB/s", Goal(0.5), gather),)
