"""Batches straight from a So2Sat file, without a packed copy of it."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64

from bp_lcz.bands import Channels
from bp_lcz.params import Split
from bp_lcz.patches.store import Batch, ReadAhead, as_batch
from bp_lcz.patches.transform import transform
from bp_lcz.so2sat.layout import open_split

_PIECE = 32
"""Patches transformed at a time: larger arrays leave the cache."""


class Hdf5Store:
    """`PatchStore` over a So2Sat file itself, mapped into memory read-only and transformed on the fly.

    Args:
        root: folder of the data set.
        split: ``training``, ``validation`` or ``testing``.

    Raises:
        UserError: if the file is not in form, or not stored as one piece as the official files are.
    """

    def __init__(self, root: Path, split: Split) -> None:
        with open_split(root, split) as reader:
            self._channels = reader.channels
            self.labels: Int64[np.ndarray, " patch"] = reader.labels().argmax(axis=1).astype(np.int64)
            self._sen1, self._sen2 = reader.mapped()
            path = reader.path
        self.nbytes: int = self._sen1.nbytes + self._sen2.nbytes
        strides = [(array.offset, array.strides[0]) for array in (self._sen1, self._sen2)]
        self._ahead = ReadAhead(path, strides, len(self.labels))

    @property
    def channels(self) -> Channels:
        """Names of the channels of the two image tensors."""
        return self._channels

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.labels)

    def stored(
        self, indices: Int64[np.ndarray, " batch"]
    ) -> tuple[Float32[np.ndarray, "batch 32 32 c1"], Float32[np.ndarray, "batch 32 32 c2"]]:
        """Sentinel-1 and Sentinel-2 of these patches as the file has them, rounded to float32."""
        self._ahead(indices)
        sen1, sen2 = (np.empty((len(indices), *array.shape[1:]), np.float32) for array in (self._sen1, self._sen2))
        # Patch by patch: the conversion then reads the file's pages once and needs no float64 batch.
        for target, array in ((sen1, self._sen1), (sen2, self._sen2)):
            for position, index in enumerate(indices.tolist()):
                target[position] = array[index]
        return sen1, sen2

    def gather(self, indices: Int64[np.ndarray, " batch"]) -> Batch:
        """The patches at these positions, in this order; see `PatchStore.gather`."""
        sen1, sen2 = self.stored(indices)
        split = len(self._channels.sen1)
        for start in range(0, len(indices), _PIECE):
            piece = slice(start, start + _PIECE)
            values = transform(sen1[piece], sen2[piece], self._channels)
            sen1[piece], sen2[piece] = values[..., :split], values[..., split:]
        return as_batch(torch.from_numpy(sen1), torch.from_numpy(sen2), torch.from_numpy(self.labels[indices]))
