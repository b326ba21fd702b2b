"""A map against another of the same ground, cell by cell."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from jaxtyping import Int, Num
from rasterio.enums import Resampling
from rasterio.warp import reproject

from bp_lcz.errors import UserError
from bp_lcz.maps.symbology import VALUES, WUDAPT_VALUES
from bp_lcz.records import Part, Scores
from bp_lcz.scenes.raster import opened, reading
from bp_lcz.scheme import CODES
from bp_lcz.scoring.metrics import evaluate_predictions
from bp_lcz.scoring.score import fraction

CEILING = (
    "References disagree among themselves: WUDAPT's maps agree with So2Sat's labels on a median of 79.7 % over 28 "
    "cities (26 to 98 %), the global map v3 on 75.2 % in Berlin and 45.9 % in Hong Kong."
)
"""By which any agreement is to be read."""
_BANDS = ("lczfilter", "lcz_filter", "lcz")
"""Names of bands of zones; the filtered one is what the LCZ Generator gives people to use."""
_INDEX = {value: i for values in (VALUES, WUDAPT_VALUES) for i, value in enumerate(values)} | {0: -1}


class Comparison(Part):
    """A map against another, on the cells of the first.

    Attributes:
        other: name of its file or folder.
        is_own: whether the other is a folder of a map of ours, which nobody takes for the truth.
        band: of the other, by its name, or else its number from 1 on.
        cells: with a zone in both.
        here_alone: cells with a zone in this map only.
        there_alone: cells with a zone in the other only.
        scores: of the zones of this map, taken for predictions of those of the other.
    """

    other: str
    is_own: bool
    band: str
    cells: int
    here_alone: int
    there_alone: int
    scores: Scores

    @property
    def lines(self) -> list[str]:
        """For people."""
        agree = 100 * self.scores.oa
        return [
            f"{self.other}, band {self.band}: {self.cells:,} cells compared, {agree:.1f} % agree, {100 - agree:.1f} % "
            f"differ, kappa {fraction(self.scores.kappa, 3)}",
            f"{self.here_alone:,} cells have a zone in this map only, {self.there_alone:,} in the other only",
            *([] if self.is_own else [CEILING]),
        ]

    def write_csv(self, path: Path) -> None:
        """Write a row for each zone of the other map: its scores, and how many of its cells each zone got here."""
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["code", "name", "cells", "precision", "recall", "f1", *(f"here_{code}" for code in CODES)])
            for row, counts in zip(self.scores.per_class, self.scores.confusion, strict=True):
                table.writerow([row.code, row.name, row.support, row.precision, row.recall, row.f1, *counts])


def compare_maps(lcz: Path, other: Path) -> Comparison:
    """Compare two maps on the cells of the first.

    Args:
        lcz: a map of ours, ``lcz.tif``.
        other: any raster of zones, 1..17 or 1..10 and 101..107, of which the nearest pixel counts; of several bands
            ``lczFilter``, else ``lcz``. Or the folder of a map of ours.

    Raises:
        UserError: if the other cannot be read, has no band of zones or other values, or no zone in a cell of the first.
    """
    path = other / "lcz.tif" if other.is_dir() else other
    with rasterio.open(lcz) as file, opened(path) as there:
        here = file.read(1).astype(np.int64) - 1
        number, band = _band(path, there)
        theirs = _indices(path, _nearest(path, there, number, file))
    both = (here >= 0) & (theirs >= 0)
    if not both.any():
        raise UserError(other, "has no zone in any cell of this map; are they of one place?")
    return Comparison(
        other=other.name,
        is_own=other.is_dir(),
        band=band,
        cells=int(both.sum()),
        here_alone=int(((here >= 0) & ~both).sum()),
        there_alone=int(((theirs >= 0) & ~both).sum()),
        scores=evaluate_predictions(theirs[both], here[both]),
    )


def _band(path: Path, there: Any) -> tuple[int, str]:
    names = [text.strip() if text else "" for text in there.descriptions]
    for known in _BANDS:
        for number, name in enumerate(names, start=1):
            if name.lower() == known:
                return number, name
    if there.count > 1:
        raise UserError(path, f"has {there.count} bands, none called lczFilter or lcz; give one with the zones alone")
    return 1, "1"


def _nearest(path: Path, there: Any, number: int, here: Any) -> Num[np.ndarray, "row column"]:
    """Values of the other map in the middle of each cell; 0 beyond it and where it has no data."""
    values = np.zeros((here.height, here.width), np.float64)
    nothing = there.nodata if there.nodata is not None else 0
    with reading(path):
        reproject(
            rasterio.band(there, number),
            values,
            dst_transform=here.transform,
            dst_crs=here.crs,
            src_nodata=nothing,
            dst_nodata=nothing,  # rasterio takes a 0 for not given
            resampling=Resampling.nearest,
            tolerance=0,
        )
    return np.where(values == nothing, 0, values)


def _indices(path: Path, values: Num[np.ndarray, "row column"]) -> Int[np.ndarray, "row column"]:
    """Class index 0..16 of each value, -1 of none."""
    distinct, place = np.unique(np.nan_to_num(values), return_inverse=True)
    wrong = [value for value in distinct.tolist() if value not in _INDEX]
    if wrong:
        raise UserError(path, f"{wrong[0]:g} is no local climate zone; expected 1..17, or 1..10 and 101..107")
    return np.array([_INDEX[value] for value in distinct.tolist()])[place].reshape(values.shape)
