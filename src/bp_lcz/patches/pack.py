"""From HDF5 files to the arrays that training reads: one pass, memory that does not grow with N.

Layout: docs/adr/0014-store-tiers.md.
"""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int, Shaped
from tqdm import tqdm

from bp_lcz.bands import PATCH_SIDE
from bp_lcz.errors import UserError
from bp_lcz.files import staged_folder
from bp_lcz.params import SPLITS, Split
from bp_lcz.patches.likeness import channel_means, fit_likeness
from bp_lcz.patches.transform import transform
from bp_lcz.records import Blocks, GateSummary, PackManifest, Unit
from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.so2sat.geo import Geo, read_geo
from bp_lcz.so2sat.ground import in_zone, is_utm, on_globe
from bp_lcz.so2sat.layout import check_dataset, open_split
from bp_lcz.so2sat.places import places_of

ROWS = 32
"""Patches per step: 5 MB of float64. Larger steps are slower, since their arrays leave the cache."""

MANY_CITIES = 8
"""From this number of cities on, a bootstrap over cities says something about a new city."""

BLOCK_M = 960.0
"""Side of a spatial block: three patches."""


class ChannelMoments:
    """Mean and variance of each channel, accumulated in float64 by merging chunks (Chan et al. 1983).

    Sums of squares would lose the variance of channels whose mean is large against their spread.
    """

    def __init__(self, channel_count: int) -> None:
        self._count = 0
        self._mean = np.zeros(channel_count)
        self._squares = np.zeros(channel_count)

    def add(self, values: Float[np.ndarray, "*shape channel"]) -> None:
        """Merge a chunk of values."""
        rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
        if not len(rows):
            return
        mean = rows.mean(axis=0)
        rows -= mean
        squares = np.einsum("nc,nc->c", rows, rows)
        total = self._count + len(rows)
        step = mean - self._mean
        self._squares += squares + step**2 * (self._count * len(rows) / total)
        self._mean += step * (len(rows) / total)
        self._count = total

    @property
    def mean(self) -> Float[np.ndarray, " channel"]:
        """Mean of each channel."""
        return self._mean.copy()

    @property
    def std(self) -> Float[np.ndarray, " channel"]:
        """Population standard deviation of each channel; 1 for a constant one, to divide by it."""
        std = np.sqrt(self._squares / max(self._count, 1))
        # Rounding leaves about 1e-16 of the mean in place of 0.
        return np.where(std > 1e-12 * np.maximum(np.abs(self._mean), 1), std, 1.0)


def pack(root: Path, summary: GateSummary, out: Path) -> None:
    """Write the packed arrays of all splits and their manifest.

    Args:
        root: folder of the data set.
        summary: the gate's summary of this data set.
        out: folder to write, replaced in one step: ``<split>.images.npy`` (N, 32 * 32 * C) float32, a
            row a patch as `transform` gives it, all of Sentinel-1 (32, 32, C1) before all of Sentinel-2
            (32, 32, C2), ``<split>.labels.npy`` (N,) class indices, ``<split>.blocks.npy`` (N,)
            resampling units for intervals, ``manifest.json`` with the channel statistics of training.

    Raises:
        UserError: if the files are not in form or the summary is that of other data.
    """
    channels = check_dataset(root)
    if summary.channels != channels:
        raise UserError(root, "its channels are not those of the gate's summary; run `bp-lcz validate` again")
    moments = ChannelMoments(len(channels.names))
    means: list[Float[np.ndarray, "patch channel"]] = []  # 150 bytes a patch, which is all that grows with N
    class_counts: dict[Split, tuple[int, ...]] = {}
    hashes: dict[str, str] = {}
    geo = {split: read_geo(root, split) for split in SPLITS}
    unit = block_unit(geo["testing"])
    block_counts: dict[Split, int] = {}
    with staged_folder(out) as folder:
        for split in SPLITS:
            images_file, labels_file, blocks_file = (
                folder / f"{split}.{part}.npy" for part in ("images", "labels", "blocks")
            )
            with open_split(root, split) as reader:
                expected = summary.splits[split].patches
                if reader.count != expected:
                    raise UserError(
                        reader.path, f"{reader.count} patches, but the gate saw {expected}; run `bp-lcz validate` again"
                    )
                classes = reader.labels().argmax(axis=1).astype(np.int64)
                shape = (reader.count, PATCH_SIDE**2 * len(channels.names))
                with (
                    _NpyWriter.open(images_file, shape, np.dtype("<f4")) as images,
                    tqdm(total=reader.count, desc=f"pack {split}", unit="patch") as progress,
                ):
                    for values in reader.map(lambda _, s1, s2, __: transform(s1, s2, channels), ROWS):
                        images.write(_rows(values, len(channels.sen1)))
                        if split == "training":
                            moments.add(values)
                            means.append(channel_means(values))
                        progress.update(len(values))
                hashes[images_file.name] = images.sha256
            blocks, city = _blocks(geo[split], unit, len(classes))
            for file, array in ((labels_file, classes), (blocks_file, blocks)):
                with _NpyWriter.open(file, array.shape, np.dtype("<i8")) as writer:
                    writer.write(array)
                hashes[file.name] = writer.sha256
            class_counts[split] = tuple(np.bincount(classes, minlength=CLASS_COUNT).tolist())
            block_counts[split] = len(np.unique(blocks))
        tested = geo["testing"]
        manifest = PackManifest(
            dataset=summary.dataset,
            source=summary.source,
            kind=summary.kind,
            leakage=summary.leakage,
            channels=channels,
            level=summary.level,
            mean=tuple(moments.mean.tolist()),
            std=tuple(moments.std.tolist()),
            likeness=fit_likeness(np.concatenate(means)),
            places=places_of(geo["training"]),
            class_counts=class_counts,
            blocks=Blocks(
                unit=unit,
                description=_DESCRIPTIONS[unit],
                count=block_counts,
                cities=() if tested is None else tuple(map(str, np.unique(tested.city))),
                city=tuple(city.tolist()),  # SPLITS ends with testing
            ),
            sha256=hashes,
        )
        manifest.write(folder / "manifest.json")


def _rows(values: Float32[np.ndarray, "patch 32 32 c"], sen1_count: int) -> Float32[np.ndarray, "patch values"]:
    """One row a patch, the two sensors apart, so that a batch of either is gathered in whole pieces."""
    return np.concatenate(
        [part.reshape(len(values), -1) for part in (values[..., :sen1_count], values[..., sen1_count:])], axis=1
    )


_DESCRIPTIONS: dict[Unit, str] = {
    "city": "cities of the testing split",
    "spatial block": f"squares of {BLOCK_M:g} m of each city's grid, as testing has under {MANY_CITIES} cities",
    "patch": "single patches, as testing has no geo file; neighbouring patches may overlap",
}


def block_unit(testing: Geo | None) -> Unit:
    """Unit that intervals resample: ``city``, ``spatial block`` or ``patch``.

    The testing split decides, since it is the one that intervals are made for.
    """
    if testing is None:
        return "patch"
    return "city" if len(np.unique(testing.city)) >= MANY_CITIES else "spatial block"


def _blocks(geo: Geo | None, unit: str, count: int) -> tuple[Int[np.ndarray, " patch"], Int[np.ndarray, " block"]]:
    """Number of the resampling unit of each patch, from 0 on, and the city of each unit, if there are cities."""
    if geo is None or unit == "patch":
        return np.arange(count, dtype=np.int64), np.empty(0, np.int64)
    cities = np.unique(geo.city, return_inverse=True)[1].ravel().astype(np.int64)
    if unit == "city":
        return cities, np.unique(cities)
    epsg, places = geo.epsg.copy(), geo.tfw[:, 4:].copy()
    for city in np.unique(cities):
        # A city on the border of UTM zones has one grid, that of most of its patches.
        zones, many = np.unique(geo.epsg[cities == city], return_counts=True)
        most = int(zones[many.argmax()])
        for zone in zones[zones != most]:
            here = (cities == city) & (geo.epsg == zone)
            globe = on_globe(places[here], int(zone))
            if globe is not None and is_utm(most):
                epsg[here], places[here] = most, in_zone(globe, most)
    column, row = np.floor(places / BLOCK_M).astype(np.int64).T
    squares = np.stack([cities, epsg, column, row], axis=1)
    found, block = np.unique(squares, axis=0, return_inverse=True)
    return block.ravel().astype(np.int64), found[:, 0].astype(np.int64)


class _NpyWriter:
    """A .npy file written in pieces and hashed on the way."""

    def __init__(self, file: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        header = io.BytesIO()
        description = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, description)
        file.write(header.getvalue())
        self._file, self._dtype = file, dtype
        self._hash = hashlib.sha256(header.getvalue())

    @classmethod
    @contextmanager
    def open(cls, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator["_NpyWriter"]:
        with path.open("wb") as file:
            yield cls(file, shape, dtype)

    def write(self, piece: Shaped[np.ndarray, "*shape"]) -> None:
        data = np.ascontiguousarray(piece, dtype=self._dtype).data
        self._file.write(data)
        self._hash.update(data)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()
