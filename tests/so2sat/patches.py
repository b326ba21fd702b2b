"""Small random data sets in So2Sat's layout, for tests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from bp_lcz.bands import ALL_CHANNELS, PATCH_SIDE, Channels
from bp_lcz.scheme import CLASS_COUNT

COUNTS = {"training": 34, "validation": 17, "testing": 17}


def random_patches(
    count: int, channels: Channels = ALL_CHANNELS, seed: int = 0, dtype: Any = np.float64
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Plausible values whose classes 0, 1, ..., 16, 0, 1, ... can be told apart by brightness.

    Returns:
        sen1 (N, 32, 32, C1), sen2 (N, 32, 32, C2), one-hot label (N, 17), all of the given type.
    """
    rng = np.random.default_rng(seed)
    classes = np.arange(count) % CLASS_COUNT
    sen1 = rng.normal(scale=0.1, size=(count, PATCH_SIDE, PATCH_SIDE, len(channels.sen1)))
    for position, band in enumerate(channels.sen1):
        if band.endswith("_intensity"):
            sen1[..., position] = rng.exponential(0.2 if band.startswith("VV") else 0.05, size=sen1.shape[:3])
    level = 0.05 + 0.02 * classes[:, None, None, None]
    sen2 = level * rng.uniform(0.8, 1.2, size=(count, PATCH_SIDE, PATCH_SIDE, len(channels.sen2)))
    return sen1.astype(dtype), sen2.astype(dtype), np.eye(CLASS_COUNT)[classes].astype(dtype)


def write_dataset(
    root: Path,
    *,
    patches: Mapping[str, int] = COUNTS,
    channels: Channels = ALL_CHANNELS,
    cities: Mapping[str, int] | None = None,
    source: str | None = None,
    levels: Mapping[str, str] | None = None,
    seed: int = 0,
    dtype: Any = np.float64,
    storage: Literal["contiguous", "gzip"] = "contiguous",
) -> Path:
    """Write the three files of a data set, contiguous float64 as the official ones unless asked otherwise.

    Args:
        root: folder to make.
        patches: number of patches of each split.
        channels: channels to write; other than the official ones are named in the attribute ``bands``.
        cities: number of cities of each split, for which geo files are written; none without.
        source: attribute ``source`` of the labels.
        levels: of Sentinel-2, of the splits that state one.
        seed: of the values.
        dtype: of the values.
        storage: ``contiguous``, or ``gzip`` in chunks of one patch.

    Returns:
        The folder.
    """
    root.mkdir(parents=True, exist_ok=True)
    options = {} if storage == "contiguous" else {"compression": "gzip", "compression_opts": 1}
    for number, (split, count) in enumerate(patches.items()):
        arrays = random_patches(count, channels, seed=1000 * seed + number, dtype=dtype)
        with h5py.File(root / f"{split}.h5", "w") as file:
            for key, values in zip(("sen1", "sen2", "label"), arrays, strict=True):
                chunks = (1, *values.shape[1:]) if options and key != "label" else None
                dataset = file.create_dataset(key, data=values, chunks=chunks, **(options if chunks else {}))
                bands = getattr(channels, key, None)
                if bands is not None and bands != getattr(ALL_CHANNELS, key):
                    dataset.attrs["bands"] = list(bands)
            if levels and split in levels:
                file["sen2"].attrs["level"] = levels[split]
            if source is not None:
                file["label"].attrs["source"] = source
        if cities is not None:
            write_geo(root, split, count, cities[split])
    return root


def write_geo(root: Path, split: str, count: int, cities: int) -> None:
    """Write a geo file: patches side by side in one row for each city."""
    city = np.arange(count) % cities
    easting = 500_000.0 + 320.0 * (np.arange(count) // cities)
    tfw = np.zeros((count, 6))
    south = 5_000_000 + 10_000 * list(COUNTS).index(split)  # splits lie apart
    tfw[:, 0], tfw[:, 3], tfw[:, 4], tfw[:, 5] = 10, -10, easting, south + 100_000 * city
    with h5py.File(root / f"{split}_geo.h5", "w") as file:
        file["city"] = np.array([f"{split} city {c}".encode() for c in city])
        file["epsg"] = np.full((count, 1), 32632)
        file["tfw"] = tfw


def edit(root: Path, split: str, key: str, values: np.ndarray) -> None:
    """Replace one array of a split; its attributes stay."""
    with h5py.File(root / f"{split}.h5", "a") as file:
        attributes = dict(file[key].attrs)
        del file[key]
        file[key] = values
        file[key].attrs.update(attributes)
