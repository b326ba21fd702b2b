"""Compares a finished map with other maps and with a reference."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from jaxtyping import UInt8
from rasterio.crs import CRS

from bp_lcz.errors import UsageError
from bp_lcz.maps import accuracy, against, change
from bp_lcz.maps.outputs import LCZ
from bp_lcz.maps.reference import AS_USUAL, Reading, near_cells, read_reference, seen_cells
from bp_lcz.records import Accuracy, Change, Checkpoint, Comparison

Cells = tuple[CRS, Affine, tuple[int, int]]
"""Coordinates, transform, and (rows, columns) of the cells of a map."""

_CHANGE_FILES = ((change.CHANGE, "zones before and after of the cells of which both maps are certain, in km2"),)
_ACCURACY_FILES = (
    (accuracy.ACCURACY, "accuracy by the reference, with intervals"),
    (accuracy.CONFUSION, "cells of each zone of the reference by their zones on the map"),
)


@dataclass(frozen=True)
class Others:
    """What a map is compared with.

    Attributes:
        reference: known zones, which give the accuracy of the map.
        reading: how a reference of polygons is read.
        trained_on: folder of the data set that the model was trained on.
        against: another map.
        compare: folder of a map of this package of another date.
        same_year: folder of such a map of the year of this map; it separates change from noise.
    """

    reference: Path | None = None
    reading: Reading = AS_USUAL
    trained_on: Path | None = None
    against: Path | None = None
    compare: Path | None = None
    same_year: Path | None = None

    def __post_init__(self) -> None:
        if self.reference is None and (self.trained_on is not None or self.reading != AS_USUAL):
            options = "--field, --label-map, --overlaps and --trained-on"
            raise UsageError("--reference", f"is missing; {options} need it")
        if self.compare is None and self.same_year is not None:
            raise UsageError("--compare", "is missing; --same-year needs it, to tell how much of the change is noise")

    def check(self, made: change.Made, crs: CRS, place: Affine, shape: tuple[int, int]) -> None:
        """Check before the map is made that it can be compared.

        Args:
            made: what the map is made from.
            crs: coordinates of the cells.
            place: transform from cells to these coordinates.
            shape: rows and columns of cells.

        Raises:
            UserError: if a file cannot be read or has no zone in any cell, or a map was made in another way.
        """
        if self.reference is not None:
            read_reference(self.reference, crs, place, shape, self.reading)
        if self.trained_on is not None:
            seen_cells(self.trained_on, crs, place, shape)
        if self.against is not None:
            against.zones_of(self.against, crs, place, shape)
        for folder in filter(None, (self.compare, self.same_year)):
            change.check_own(folder, made, crs, place, shape, is_same_year=folder == self.same_year)


@dataclass(frozen=True)
class Beside:
    """Results of the comparisons.

    Attributes:
        accuracy: accuracy by the reference.
        against: comparison with another map.
        change: change from the map of another date.
    """

    accuracy: Accuracy | None = None
    against: Comparison | None = None
    change: Change | None = None

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """Name and content of each file with these results."""
        return (*(_ACCURACY_FILES if self.accuracy else ()), *(_CHANGE_FILES if self.change else ()))

    @property
    def agreement(self) -> list[str]:
        """Agreement with the other map, as messages."""
        return against.told(self.against) if self.against else []

    @property
    def lines(self) -> list[str]:
        """All results as messages."""
        right = accuracy.told(self.accuracy) if self.accuracy else []
        return [*right, *self.agreement, *(change.told(self.change) if self.change else [])]


def set_beside(folder: Path, others: Others, model: Checkpoint) -> Beside:
    """Compare a map with others, and write the results.

    Args:
        folder: folder of the map; gets ``accuracy.json``, ``confusion.csv``, ``against.csv`` and ``change.csv``.
        others: what the map is compared with.
        model: model that made the map.

    Raises:
        UserError: if a file cannot be read, or has no zone in a cell that the map has one in.
    """
    with rasterio.open(folder / LCZ) as file:
        lcz, cells = file.read(1), (file.crs, file.transform, file.shape)
    return Beside(
        _accuracy(folder, lcz, cells, others, model), _against(folder, others), _change(folder, cells, others)
    )


def _against(folder: Path, others: Others) -> Comparison | None:
    if others.against is None:
        return None
    found = against.compare_maps(folder / LCZ, others.against)
    against.write_table(found, folder / "against.csv")
    return found


def _change(folder: Path, cells: Cells, others: Others) -> Change | None:
    if others.compare is None:
        return None
    _, place, shape = cells
    this, other = (change.read_own(each, place, shape) for each in (folder, others.compare))
    same_year = None if others.same_year is None else change.read_own(others.same_year, place, shape)
    names = (others.compare.name, None if others.same_year is None else others.same_year.name)
    found = change.change_between(this, other, same_year, names, place)
    change.write_change(found, folder / change.CHANGE)
    return found


def _accuracy(
    folder: Path, lcz: UInt8[np.ndarray, "row column"], cells: Cells, others: Others, model: Checkpoint
) -> Accuracy | None:
    if others.reference is None:
        return None
    reference = read_reference(others.reference, *cells, others.reading)
    seen = None
    if others.trained_on is not None:
        seen = seen_cells(others.trained_on, *cells)
    elif model.places is not None:
        seen = near_cells(model.places, *cells)
    found = accuracy.accuracy_of(lcz, reference, model, seen, others.trained_on)
    found.write(folder / accuracy.ACCURACY)
    accuracy.write_confusion(found, folder / accuracy.CONFUSION)
    return found
