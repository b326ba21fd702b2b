"""Rasters of local climate zones, or of land cover with a map to them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Num

from bp_lcz.errors import UserError
from bp_lcz.scheme import CLASS_COUNT, CODES
from bp_lcz.sensors.names import naming_texts
from bp_lcz.sensors.raster import CELL, CELL_PIXELS, Layer
from bp_lcz.sensors.sampling import sample

MIN_SHARE = 0.5
"""Least share of a cell that its class must cover."""


def label_band(path: Path, zones: Any) -> tuple[int, list[str]]:
    """Number, from 1 on, of the band with the zones, and a note if it was chosen among several.

    Raises:
        UserError: if there are several bands, and not exactly one is called ``lcz``.
    """
    if zones.count == 1:
        return 1, []
    names = [text.strip().lower() for text in naming_texts(zones) or []]
    if names.count("lcz") != 1:
        shown = f" ({', '.join(names)})" if names else ""
        raise UserError(path, f"has {zones.count} bands{shown} and none is called lcz; give one with the zones alone")
    number = names.index("lcz") + 1
    return number, [f"{path.name}: band {number} (lcz) of {zones.count} ({', '.join(names)}) is taken"]


def class_lookup(path: Path, zones: Any, band: int, label_map: Path | None) -> dict[int, int]:
    """Class index by value of the raster, for all values that have a class.

    Raises:
        UserError: if the raster holds values without a meaning, or the map is not valid.
    """
    values = np.unique(sample(path, zones, [band]))
    if (values % 1 != 0).any():
        raise UserError(path, "holds values that are not whole numbers; classes cannot be interpolated")
    present = {int(value) for value in values} - {0}
    if label_map is None:
        lookup = {value: value - 1 for value in range(1, CLASS_COUNT + 1)}
        lookup |= {101 + i: 10 + i for i in range(7)}  # A..G as WUDAPT's generator writes them
        found = present - set(lookup)
        if found:
            some = ", ".join(map(str, sorted(found)[:5]))
            raise UserError(
                path, f"{some} are not local climate zones (1..17, or 1..10 and 101..107); give --label-map"
            )
        return lookup
    try:
        pairs = {int(value): place for value, place in read_label_map(label_map).items()}
    except ValueError:
        raise UserError(label_map, 'expected JSON such as {"1": "G", "2": "A", "3": null}') from None
    missing = present - set(pairs)
    if missing:
        raise UserError(label_map, f"says nothing of {', '.join(map(str, sorted(missing)[:5]))} in {path.name}")
    return {value: place for value, place in pairs.items() if place is not None}


def read_label_map(path: Path) -> dict[str, int | None]:
    """Class index by value or name of another scheme; None for those to drop.

    Raises:
        UserError: if the file is no JSON from texts to codes ``1``..``10``, ``A``..``G`` or null.
    """
    try:
        pairs = dict(json.loads(path.read_text(encoding="utf-8")).items())
    except FileNotFoundError:
        raise UserError(path, "not found") from None
    except (ValueError, AttributeError, RecursionError):
        raise UserError(path, 'expected JSON such as {"1": "G", "2": "A", "3": null}') from None
    unknown = [code for code in pairs.values() if code is not None and str(code) not in CODES]
    if unknown:
        raise UserError(path, f"unknown LCZ {unknown[0]!r}; known: {', '.join(CODES)}")
    return {value: None if code is None else CODES.index(str(code)) for value, code in pairs.items()}


class RasterCells:
    """Zones of cells from a raster: the class that covers most of a cell, if its share is large enough.

    Attributes:
        unlabelled: how messages describe patches without a zone.
    """

    def __init__(self, zones: Layer, lookup: dict[int, int], min_share: float | None) -> None:
        self._zones, self._lookup, self._least = zones, lookup, MIN_SHARE if min_share is None else min_share
        self.unlabelled = f"without a class on {self._least:.0%} of the cell in the middle"

    def classes(self, row: int, columns: Int[np.ndarray, " patch"]) -> Int[np.ndarray, " patch"]:
        """Class index 0..16, or -1 for none, of patches given by the pixels of their upper left corners."""
        classes = _classes_of(*self._zones.read(row + CELL.start, CELL_PIXELS), self._lookup)
        windows = np.lib.stride_tricks.sliding_window_view(classes, CELL_PIXELS, axis=1)
        cells = windows[:, columns + CELL.start]  # (row, patch, column)
        counts = (cells[..., None] == np.arange(CLASS_COUNT)).sum(axis=(0, 2))
        return np.where(counts.max(axis=1) >= self._least * CELL_PIXELS**2, counts.argmax(axis=1), -1)


def _classes_of(
    values: Num[np.ndarray, "1 row column"], known: Bool[np.ndarray, "row column"], lookup: dict[int, int]
) -> Int[np.ndarray, "row column"]:
    """Class index 0..16 of each pixel, -1 where there is none."""
    whole, place = np.unique(np.where(known, values[0], 0), return_inverse=True)
    classes = np.array([lookup.get(int(value), -1) for value in whole])[place].reshape(known.shape)
    return np.where(known, classes, -1)


def source_of(labels: Path, label_map: Path | None) -> str:
    """Where the labels come from, as results quote it."""
    if label_map is None:
        return f"raster of local climate zones {labels.name}, majority of the 100 m cell in the middle of a patch"
    return f"weak labels: {labels.name} mapped to local climate zones by {label_map.name}"
