"""Positions of patches: the geo file beside each file of patches, as in So2Sat's release v4."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float, Int

from bp_lcz.errors import UserError
from bp_lcz.params import Split
from bp_lcz.so2sat.hdf5 import check_texts, dataset_of, opened, readable, text

PIXEL_M = 10.0


@dataclass(frozen=True)
class Geo:
    """Positions of the patches of a split.

    Attributes:
        city: name of the city of each patch.
        epsg: EPSG code of the projection of each patch, usually a UTM zone.
        tfw: numbers A, D, B, E, C, F of the world file of each patch, in m.
    """

    city: np.ndarray
    epsg: Int[np.ndarray, " patch"]
    tfw: Float[np.ndarray, "patch 6"]

    @property
    def easting(self) -> Float[np.ndarray, " patch"]:
        """Easting of the upper left pixel in m, as the world file states it."""
        return self.tfw[:, 4]

    @property
    def northing(self) -> Float[np.ndarray, " patch"]:
        """Northing of the upper left pixel in m, as the world file states it."""
        return self.tfw[:, 5]


def world_files(
    easting: Float[np.ndarray, " patch"], northing: Float[np.ndarray, " patch"]
) -> Float[np.ndarray, "patch 6"]:
    """World files of north-up patches with these upper left pixels."""
    fixed = np.tile([PIXEL_M, 0.0, 0.0, -PIXEL_M], (len(easting), 1))
    return np.column_stack([fixed, easting, northing])


def read_geo(root: Path, split: Split, count: int | None = None) -> Geo | None:
    """Positions of the patches of a split, or None if there is no ``<split>_geo.h5``.

    Args:
        root: folder of the data set.
        split: ``training``, ``validation`` or ``testing``.
        count: number of patches of the split, which is checked if given.

    Raises:
        UserError: if the file is unreadable, lacks a key, has another number of patches or values that are not finite,
            or its pixels are not 10 m wide (the first 2025 release of v4 had another order of ``tfw``).
    """
    return read_geo_of(root / f"{split}.h5", count)


def read_geo_of(patches: Path, count: int | None = None) -> Geo | None:
    """Positions of the patches of a file of any name, from the ``_geo.h5`` beside it; otherwise as `read_geo`."""
    path = geo_file_of(patches)
    if not path.exists():
        return None
    with opened(path) as file:
        city, epsg, tfw = (_whole(path, file, key) for key in ("city", "epsg", "tfw"))
    if count == 0 and len(city):
        raise UserError(patches, f"has no patches, but {path.name} the places of {len(city)}")
    expected = len(city) if count is None else count
    for key, values, shapes in (
        ("city", city, [(expected,), (expected, 1)]),
        ("epsg", epsg, [(expected,), (expected, 1)]),
        ("tfw", tfw, [(expected, 6)]),
    ):
        if values.shape not in shapes:
            raise UserError(path, f"{key} has shape {values.shape}; {patches.name} needs {shapes[-1]}")
    for key, values in (("epsg", epsg), ("tfw", tfw)):
        if values.dtype.kind not in "iuf":
            raise UserError(path, f"{key} holds {values.dtype}; expected numbers")
        lost = np.flatnonzero(~np.isfinite(values.reshape(expected, -1)).all(axis=1))
        if lost.size:
            raise UserError(path, f"{key}[{lost[0]}] is not finite")
    # World-file order A, D, B, E, C, F.
    off = np.flatnonzero((np.abs(tfw[:, 0]) != PIXEL_M) | (np.abs(tfw[:, 3]) != PIXEL_M))
    if off.size:
        raise UserError(
            path,
            f"tfw[{off[0]}] is {tfw[off[0]].tolist()}; expected the order A, D, B, E, C, F "
            f"with pixels of {PIXEL_M:g} m",
        )
    return Geo(
        city=np.array([text(name) for name in city.ravel()], dtype=str),
        epsg=epsg.ravel().astype(np.int64),
        tfw=tfw.astype(np.float64),
    )


def geo_file_of(patches: Path) -> Path:
    """Path of the geo file of a file of patches."""
    return patches.with_name(f"{patches.stem}_geo.h5")


def _whole(path: Path, file: h5py.File, key: str) -> np.ndarray:
    dataset = dataset_of(path, file, key)
    if dataset is None:
        raise UserError(path, f"key {key} is missing")
    with readable(path, dataset):
        check_texts(path, key, dataset.dtype, lambda: dataset[:])
        return np.asarray(dataset[:])
