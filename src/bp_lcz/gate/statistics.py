"""One row of statistics for each patch: the table that the quality gate checks.

Several threads make one pass over the pixels, in slabs that fit a processor's cache. Their number does not change the
result. benchmarks/gate_scale.py compares the speed with that of the disk.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xxhash
from jaxtyping import Float, Int
from tqdm import tqdm

from bp_lcz.bands import PATCH_SIDE, Channels
from bp_lcz.params import SPLITS, Split
from bp_lcz.so2sat.geo import read_geo
from bp_lcz.so2sat.layout import WORKERS, check_dataset, open_split

ROWS = 16
"""Patches of a slab: 2.4 MB of float64, about one processor's cache. Larger slabs are slower."""

TAIL = 15.0
"""Magnitude at which the tail of filtered radar channels begins: 99.9 % of So2Sat's values are below 1 to 15."""


class _Slab(NamedTuple):
    """Statistics of a few patches."""

    start: int
    moments: Float[np.ndarray, "4 patch channel"]
    tail: Float[np.ndarray, "patch channel"]
    non_finite: Int[np.ndarray, " patch"]
    zeros: Float[np.ndarray, "2 patch"]
    content: list[str]


def tailed(channels: Channels) -> tuple[str, ...]:
    """The channels with heavy tails, whose share beyond `TAIL` is counted: filtered ones of Sentinel-1."""
    return tuple(band for band in channels.sen1 if "_lee_" in band)


def patch_statistics(root: Path, workers: int = WORKERS) -> pd.DataFrame:
    """Statistics of every patch of a data set, in one streaming pass over its pixels.

    Args:
        root: folder of the data set.
        workers: threads; the table does not depend on it.

    Returns:
        One row for each patch, in the order of splits and files, with the columns

        - ``split``; ``index``, its position in the file; ``patch``, as in ``testing.h5[17]``;
        - ``class``, 0..16, or -1 where the label is not one-hot; ``label_sum``;
        - ``<band>_mean``, ``_std`` (population), ``_min``, ``_max`` in stored units, float64;
        - ``<band>_tail`` of the `tailed` channels, share of values whose magnitude exceeds `TAIL`;
        - ``non_finite``, number of values that are NaN or infinite;
        - ``zeros_sen1``, ``zeros_sen2``, share of exact zeros among the values of a sensor;
        - ``content``, a hash of the pixels rounded to float32, which is the same for files of float32 or float64 and
          for any compression;
        - ``city``, missing for a split without geo file.

    Raises:
        UserError: if a file is not in form, see `bp_lcz.so2sat.layout`.
    """
    channels = check_dataset(root)
    return pd.concat([_split_statistics(root, split, channels, workers) for split in SPLITS], ignore_index=True)


def _split_statistics(root: Path, split: Split, channels: Channels, workers: int) -> pd.DataFrame:
    with open_split(root, split) as reader:
        reader.check_unpacked()
        moments = np.empty((4, len(channels.names), reader.count))
        tail = np.empty((len(channels.sen1), reader.count))
        non_finite = np.empty(reader.count, dtype=np.int64)
        zeros = np.empty((2, reader.count))
        content: list[str] = []
        with tqdm(total=reader.count, desc=f"statistics {split}", unit="patch") as progress:
            for slab in reader.map(_slab_statistics, ROWS, workers):
                here = slice(slab.start, slab.start + len(slab.content))
                moments[:, :, here] = slab.moments.transpose(0, 2, 1)
                tail[:, here] = slab.tail.T
                non_finite[here], zeros[:, here] = slab.non_finite, slab.zeros
                content += slab.content
                progress.update(len(slab.content))
        labels = reader.labels()
    one_hot = ((labels == 0) | (labels == 1)).all(axis=1) & (labels.sum(axis=1) == 1)
    geo = read_geo(root, split)
    columns: dict[str, Any] = {
        "split": [split] * len(labels),
        "index": np.arange(len(labels)),
        "patch": [f"{split}.h5[{i}]" for i in range(len(labels))],
        "class": np.where(one_hot, labels.argmax(axis=1), -1),
        "label_sum": labels.sum(axis=1, dtype=np.float64),
        "non_finite": non_finite,
        "zeros_sen1": zeros[0],
        "zeros_sen2": zeros[1],
        "content": content,
        "city": [None] * len(labels) if geo is None else geo.city,
    }
    for position, band in enumerate(channels.names):
        for statistic, table in zip(("mean", "std", "min", "max"), moments, strict=True):
            columns[f"{band}_{statistic}"] = table[position]
    for band in tailed(channels):
        columns[f"{band}_tail"] = tail[channels.sen1.index(band)]
    return pd.DataFrame(columns).astype({"split": "str", "patch": "str", "content": "str", "city": "str"})


def _slab_statistics(
    start: int,
    sen1: Float[np.ndarray, "patch 32 32 c1"],
    sen2: Float[np.ndarray, "patch 32 32 c2"],
    _label: object,
) -> _Slab:
    radar, optical = (part.astype(np.float64, copy=False) for part in (sen1, sen2))
    with np.errstate(invalid="ignore", over="ignore"):
        moments = np.concatenate([_moments(radar), _moments(optical)], axis=2)
    mean, _, low, high = moments
    non_finite = np.zeros(len(sen1), dtype=np.int64)
    # A sum is finite if all values are finite and it does not overflow; counting tells these cases apart.
    for patch in np.flatnonzero(~np.isfinite(mean).all(axis=1)):
        non_finite[patch] = sum(np.count_nonzero(~np.isfinite(part[patch])) for part in (radar, optical))
    tail = np.zeros((len(sen1), sen1.shape[3]))
    reach = np.fmax(np.abs(low), np.abs(high))[:, : sen1.shape[3]]
    for patch, channel in np.argwhere(reach > TAIL):
        tail[patch, channel] = np.mean(np.abs(radar[patch, ..., channel]) > TAIL)
    zeros = np.zeros((2, len(sen1)))
    zeros[0] = np.count_nonzero(radar.reshape(len(radar), -1) == 0, axis=1) / max(radar[0].size, 1)
    # Reflectance is positive, so few patches need this second check.
    for patch in np.flatnonzero((low[:, sen1.shape[3] :] <= 0).any(axis=1)):
        zeros[1, patch] = np.mean(optical[patch] == 0)
    return _Slab(start, moments, tail, non_finite, zeros, _hashes(sen1, sen2))


def _moments(values: Float[np.ndarray, "patch 32 32 c"]) -> Float[np.ndarray, "4 patch c"]:
    """Mean, population standard deviation, minimum and maximum over the pixels.

    It reduces the columns of a patch first, over runs of 32 * c adjacent numbers, and then the remaining row. NumPy
    takes several times as long over the c numbers of a pixel.
    """
    count, side, _, channels = values.shape
    columns = values.reshape(count, side, side * channels)

    def over(ufunc: np.ufunc, array: np.ndarray) -> np.ndarray:
        return ufunc.reduce(ufunc.reduce(array, axis=1).reshape(count, side, channels), axis=1)

    mean = over(np.add, columns) / PATCH_SIDE**2
    centred = columns - np.tile(mean, side)[:, None, :]
    np.multiply(centred, centred, out=centred)
    std = np.sqrt(over(np.add, centred) / PATCH_SIDE**2)
    return np.stack([mean, std, over(np.minimum, columns), over(np.maximum, columns)])


def _hashes(sen1: Float[np.ndarray, "patch 32 32 c1"], sen2: Float[np.ndarray, "patch 32 32 c2"]) -> list[str]:
    """128 bits of XXH3 for each patch, to find equal patches (not to withstand attacks)."""
    with np.errstate(over="ignore"):
        first, second = (np.ascontiguousarray(part, dtype="<f4") for part in (sen1, sen2))
    hashes = []
    for a, b in zip(first, second, strict=True):
        digest = xxhash.xxh3_128(a.data)
        digest.update(b.data)
        hashes.append(digest.hexdigest())
    return hashes
