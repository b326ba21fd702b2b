"""Writes files of patches in So2Sat's form, with their geo files. Only this module writes them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Shaped
from numpy.typing import DTypeLike

from bp_lcz.bands import ALL_CHANNELS, PATCH_SIDE, Channels
from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.so2sat.geo import geo_file_of

CITY_BYTES = 60
"""Smallest width of ``city`` in bytes; a longer name widens it."""

_CHUNK = 64


class PatchWriter:
    """Two open files that take patches and their positions. `new_patches` makes it.

    Attributes:
        count: number of patches so far.
    """

    def __init__(self, sets: Mapping[str, h5py.Dataset], is_growing: bool) -> None:
        self._sets, self._is_growing = sets, is_growing
        self.count = 0

    def add(self, **values: Shaped[np.ndarray, "patch ..."]) -> None:
        """Add patches: all keys of the files, such as ``sen1``, ``sen2``, ``label``, ``epsg``, ``tfw``, ``city``."""
        total = self.count + len(values["sen2"])
        for key, dataset in self._sets.items():
            if self._is_growing:
                dataset.resize(total, axis=0)
            dataset[self.count : total] = values[key].reshape(-1, *dataset.shape[1:])
        self.count = total


@contextmanager
def new_patches(
    path: Path,
    channels: Channels,
    count: int | None = None,
    dtype: Mapping[str, DTypeLike] | None = None,
    *,
    has_labels: bool = True,
    source: str | None = None,
    level: str | None = None,
    city_bytes: int = CITY_BYTES,
    extra: tuple[str, ...] = (),
) -> Iterator[PatchWriter]:
    """Make a file of patches and its geo file.

    Args:
        path: file of the patches.
        channels: channels; the attributes ``bands`` name them if they are not the official ones. Without channels of
            Sentinel-1 there is no ``sen1``.
        count: number of patches, which are stored as one plain run of bytes like So2Sat's own; None stores them in
            growing chunks.
        dtype: types of ``sen1``, ``sen2`` and ``label``; by default float64, as in So2Sat.
        has_labels: whether there is a key ``label``.
        source: origin of labels and pixels.
        level: processing level of Sentinel-2, ``L1C`` or ``L2A``, if known.
        city_bytes: length of the longest city's name in UTF-8.
        extra: more keys of the geo file, with a whole number for each patch.
    """
    forms: dict[str, tuple[tuple[int, ...], DTypeLike]] = {
        key: ((PATCH_SIDE, PATCH_SIDE, len(getattr(channels, key))), (dtype or {}).get(key, "f8"))
        for key in ("sen1", "sen2")
        if getattr(channels, key)
    }
    if has_labels:
        forms["label"] = ((CLASS_COUNT,), (dtype or {}).get("label", "f8"))
    places: dict[str, tuple[tuple[int, ...], DTypeLike]] = {
        "epsg": ((1,), "i8"),
        "tfw": ((6,), "f8"),
        "city": ((), f"S{max(city_bytes, CITY_BYTES)}"),
        **dict.fromkeys(extra, ((), "i8")),
    }
    with h5py.File(path, "w") as file, h5py.File(geo_file_of(path), "w") as geo:
        sets = {
            key: target.create_dataset(
                key,
                (count or 0, *shape),
                kind,
                **({} if count is not None else {"maxshape": (None, *shape), "chunks": (_CHUNK, *shape)}),
            )
            for target, content in ((file, forms), (geo, places))
            for key, (shape, kind) in content.items()
        }
        if source is not None and has_labels:
            # The length is fixed, since a variable one would need a heap outside the 2,048 bytes of So2Sat's header.
            sets["label"].attrs["source"] = np.bytes_(source.encode())
        if level is not None:
            sets["sen2"].attrs["level"] = np.bytes_(level)
        for key in ("sen1", "sen2"):
            if key not in sets:
                continue
            bands = getattr(channels, key)
            if bands != getattr(ALL_CHANNELS, key):
                sets[key].attrs["bands"] = list(bands)
        yield PatchWriter(sets, count is None)
