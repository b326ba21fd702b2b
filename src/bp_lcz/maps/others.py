"""What a finished map is set beside: other maps, and what is known of its ground."""

from dataclasses import dataclass
from pathlib import Path

import rasterio
from affine import Affine
from rasterio.crs import CRS

from bp_lcz.errors import UsageError
from bp_lcz.maps import accuracy, against
from bp_lcz.maps.outputs import LCZ
from bp_lcz.maps.reference import AS_USUAL, Reading, read_reference, seen_cells
from bp_lcz.records import Accuracy, Checkpoint, Comparison

_FILES = (
    (accuracy.ACCURACY, "accuracy by the reference, with intervals"),
    (accuracy.CONFUSION, "cells of each zone of the reference by their zones on the map"),
)


@dataclass(frozen=True)
class Others:
    """What to set a map beside.

    Attributes:
        reference: zones that are known, to tell how right the map is.
        reading: of a reference of polygons.
        trained_on: folder of the data set that the model was trained on.
        against: another map.
        compare: the folder of another map of ours.
    """

    reference: Path | None = None
    reading: Reading = AS_USUAL
    trained_on: Path | None = None
    against: Path | None = None
    compare: Path | None = None

    def __post_init__(self) -> None:
        if self.reference is None and (self.trained_on is not None or self.reading != AS_USUAL):
            options = "--field, --label-map, --overlaps and --trained-on"
            raise UsageError("--reference", f"is missing; {options} are about it")

    def check(self, crs: CRS, place: Affine, shape: tuple[int, int]) -> None:
        """Refuse now what could not be set beside a map in the end.

        Args:
            crs: of the cells.
            place: of the cells.
            shape: rows and columns of cells.

        Raises:
            UserError: if a file cannot be read or has no zone in any cell.
        """
        if self.reference is not None:
            read_reference(self.reference, crs, place, shape, self.reading)
        if self.trained_on is not None:
            seen_cells(self.trained_on, crs, place, shape)
        for other in filter(None, (self.against, self.compare)):
            against.zones_of(other, crs, place, shape)


@dataclass(frozen=True)
class Beside:
    """What was found.

    Attributes:
        accuracy: by the reference.
        against: the other map.
        compare: the other map of ours.
    """

    accuracy: Accuracy | None = None
    against: Comparison | None = None
    compare: Comparison | None = None

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """Name and content of each file that tells of it."""
        return _FILES if self.accuracy else ()

    @property
    def agreement(self) -> list[str]:
        """How far other maps agree, in lines."""
        return [line for each in filter(None, (self.against, self.compare)) for line in against.told(each)]

    @property
    def lines(self) -> list[str]:
        """All of it in lines."""
        return [*(accuracy.told(self.accuracy) if self.accuracy else []), *self.agreement]


def set_beside(folder: Path, others: Others, model: Checkpoint) -> Beside:
    """Set a map beside others, and write what was found.

    Args:
        folder: with ``lcz.tif``; gets ``accuracy.json`` and ``confusion.csv``, ``against.csv``, ``compare.csv``.
        others: see there.
        model: that made the map.

    Raises:
        UserError: if a file cannot be read, or has no zone in a cell that the map has one in.
    """
    compared = {
        name: against.compare_maps(folder / LCZ, other)
        for name, other in (("against", others.against), ("compare", others.compare))
        if other is not None
    }
    for name, comparison in compared.items():
        against.write_table(comparison, folder / f"{name}.csv")
    return Beside(_accuracy(folder, others, model), compared.get("against"), compared.get("compare"))


def _accuracy(folder: Path, others: Others, model: Checkpoint) -> Accuracy | None:
    if others.reference is None:
        return None
    with rasterio.open(folder / LCZ) as file:
        lcz, cells = file.read(1), (file.crs, file.transform, file.shape)
    reference = read_reference(others.reference, *cells, others.reading)
    seen = None if others.trained_on is None else seen_cells(others.trained_on, *cells)
    found = accuracy.accuracy_of(lcz, reference, model, seen, others.trained_on)
    found.write(folder / accuracy.ACCURACY)
    accuracy.write_confusion(found, folder / accuracy.CONFUSION)
    return found
