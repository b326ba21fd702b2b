"""One row of statistics for each patch: the table on which the quality gate works."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from tqdm import tqdm

from bp_lcz.bands import Channels
from bp_lcz.data.so2sat import check_dataset, open_split, read_geo
from bp_lcz.params import SPLITS, Split

ROWS = 32
"""Patches per step: 5 MB of float64. Larger steps are slower, since their arrays leave the cache."""


def patch_statistics(root: Path) -> pd.DataFrame:
    """Statistics of every patch of a data set, in one streaming pass over its pixels.

    Args:
        root: folder of the data set.

    Returns:
        One row for each patch, in the order of splits and files, with the columns

        - ``split``; ``index``, its position in the file; ``patch``, as in ``testing.h5[17]``;
        - ``class``, 0..16, or -1 where the label is not one-hot; ``label_sum``;
        - ``<band>_mean``, ``_std`` (population), ``_min``, ``_max`` in stored units, float64;
        - ``non_finite``, number of values that are NaN or infinite;
        - ``zeros_sen1``, share of exact zeros among the Sentinel-1 values;
        - ``content``, a hash of the pixels rounded to float32, so that it is the same whether a file stores
          float32 or float64 and however it is compressed;
        - ``city``, missing for a split without geo file.

    Raises:
        UserError: if a file is not in form, see `bp_lcz.data.so2sat`.
    """
    channels = check_dataset(root)
    return pd.concat([_split_statistics(root, split, channels) for split in SPLITS], ignore_index=True)


def _split_statistics(root: Path, split: Split, channels: Channels) -> pd.DataFrame:
    with open_split(root, split) as reader:
        band_statistics = np.empty((4, len(channels.names), reader.count))
        non_finite = np.empty(reader.count, dtype=np.int64)
        zeros = np.empty(reader.count)
        content: list[str] = []
        with tqdm(total=reader.count, desc=f"statistics {split}", unit="patch") as progress:
            for start, sen1, sen2, _ in reader.chunks(ROWS):
                here = slice(start, start + len(sen1))
                # (patch, pixel, channel) -> (channel, patch, pixel): sums run over adjacent numbers.
                values = (
                    np.concatenate([part.reshape(len(part), -1, part.shape[-1]) for part in (sen1, sen2)], axis=2)
                    .transpose(2, 0, 1)
                    .astype(np.float64, order="C")
                )
                band_statistics[:, :, here] = _moments(values)
                non_finite[here] = np.count_nonzero(~np.isfinite(values), axis=(0, 2))
                zeros[here] = (values[: len(channels.sen1)] == 0).mean(axis=(0, 2))
                content += _hashes(sen1, sen2)
                progress.update(len(sen1))
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
        "zeros_sen1": zeros,
        "content": content,
        "city": [None] * len(labels) if geo is None else geo.city,
    }
    for position, band in enumerate(channels.names):
        for statistic, table in zip(("mean", "std", "min", "max"), band_statistics, strict=True):
            columns[f"{band}_{statistic}"] = table[position]
    return pd.DataFrame(columns).astype({"split": "str", "patch": "str", "content": "str", "city": "str"})


def _moments(values: Float[np.ndarray, "channel patch pixel"]) -> Float[np.ndarray, "4 channel patch"]:
    """Mean, population standard deviation, minimum and maximum over the pixels."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.stack([values.mean(axis=2), values.std(axis=2), values.min(axis=2), values.max(axis=2)])


def _hashes(sen1: Float[np.ndarray, "patch 32 32 c1"], sen2: Float[np.ndarray, "patch 32 32 c2"]) -> list[str]:
    first, second = (np.ascontiguousarray(part, dtype="<f4") for part in (sen1, sen2))
    hashes = []
    for a, b in zip(first, second, strict=True):
        digest = hashlib.blake2b(a.data, digest_size=16)
        digest.update(b.data)
        hashes.append(digest.hexdigest())
    return hashes
