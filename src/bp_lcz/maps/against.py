"""Compares a map with another map of the same ground, cell by cell."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from jaxtyping import Int, Num
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject

from bp_lcz.errors import UserError
from bp_lcz.maps.outputs import LCZ
from bp_lcz.maps.symbology import VALUES, WUDAPT_VALUES
from bp_lcz.records import Comparison
from bp_lcz.scheme import CODES, NAMES
from bp_lcz.scoring.metrics import evaluate_predictions
from bp_lcz.scoring.score import fraction
from bp_lcz.sensors.plausible import MOST_OF
from bp_lcz.sensors.raster import opened, reading

CEILING = (
    "References disagree among themselves: WUDAPT's maps agree with So2Sat's labels on a median of 79.7 % over 28 "
    "cities (26 to 98 %), the global map v3 on 75.2 % in Berlin and 45.9 % in Hong Kong."
)
"""Agreement of published maps, as a scale for any agreement."""
_UNLIKE, _ENOUGH = 0.05, 100
"""Kappa up to which one map may not show zones (two maps of zones have more), and fewest cells for that warning."""
_BESIDE = "has no zone in any cell of this map; do both show the same place?"
_BANDS = ("lczfilter", "lcz_filter", "lcz")
"""Names of bands with zones, the preferred one first. The LCZ Generator recommends its filtered band."""
_INDEX = {value: i for values in (VALUES, WUDAPT_VALUES) for i, value in enumerate(values)} | {0: -1}


def told(found: Comparison) -> list[str]:
    """A comparison as messages."""
    scores = found.scores
    agree = 100 * scores.oa
    doubted = [f"warning: {each}" for each in doubts(found.other, scores.confusion, scores.oa, scores.kappa)]
    return [
        f"{found.other}, band {found.band}: {found.cells:,} cells compared, {agree:.1f} % agree, {100 - agree:.1f} % "
        f"differ, kappa {fraction(found.scores.kappa, 3)}",
        f"{found.here_alone:,} cells have a zone in this map only, {found.there_alone:,} in the other only",
        *([] if found.is_own else [*doubted, CEILING]),
    ]


def doubts(other: str, confusion: Sequence[Sequence[int]], oa: float, kappa: float | None) -> list[str]:
    """The doubt that the other map shows land cover instead of zones, if the maps agree only by chance.

    Args:
        other: name of the other map or reference.
        confusion: cells by its zone (row) and the zone here (column).
        oa: share of the cells that agree.
        kappa: their kappa; None if undefined.
    """
    counts = np.array(confusion).sum(axis=1)
    if counts.sum() < _ENOUGH or oa > 0.5 or (kappa or 0) > _UNLIKE:
        return []
    cells = counts / counts.sum()
    many = [
        f", LCZ {code} ({name}) has {share:.0%} of all cells, more than cities have"
        for code, name, share in zip(CODES, NAMES, cells, strict=True)
        if share > MOST_OF.get(code, 1)
    ]
    return [f"{other}: agrees no better than by chance{''.join(many)}; is it a map of zones, of this place?"]


def write_table(found: Comparison, path: Path) -> None:
    """Write a row for each zone of the other map: its scores, and how many of its cells each zone got here."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["code", "name", "cells", "precision", "recall", "f1", *(f"here_{code}" for code in CODES)])
        for row, counts in zip(found.scores.per_class, found.scores.confusion, strict=True):
            table.writerow([row.code, row.name, row.support, row.precision, row.recall, row.f1, *counts])


def compare_maps(lcz: Path, other: Path) -> Comparison:
    """Compare two maps on the cells of the first.

    Args:
        lcz: ``lcz.tif`` of a map of this package.
        other: another map, as in `zones_of`.

    Raises:
        UserError: as in `zones_of`, or if no cell has a zone in both.
    """
    with rasterio.open(lcz) as file:
        here = file.read(1).astype(np.int64) - 1
        theirs, band = zones_of(other, file.crs, file.transform, here.shape)
    both = (here >= 0) & (theirs >= 0)
    if not both.any():
        raise UserError(other, _BESIDE)
    return Comparison(
        other=other.name,
        is_own=other.is_dir(),
        band=band,
        cells=int(both.sum()),
        here_alone=int(((here >= 0) & ~both).sum()),
        there_alone=int(((theirs >= 0) & ~both).sum()),
        scores=evaluate_predictions(theirs[both], here[both]),
    )


def zones_of(other: Path, crs: CRS, place: Affine, shape: tuple[int, int]) -> tuple[Int[np.ndarray, "row column"], str]:
    """Zones of a map on the cells of another one. Each cell gets the zone of the pixel at its centre.

    Args:
        other: any raster of zones, 1..17 or 1..10 and 101..107, or the folder of a map of this package. Of several
            bands ``lczFilter`` is taken, else ``lcz``.
        crs: coordinates of the cells.
        place: transform from cells to these coordinates.
        shape: rows and columns of cells.

    Returns:
        Class index 0..16, -1 for none; and the name of the band, or its number from 1 on.

    Raises:
        UserError: if the map cannot be read, has no band of zones or other values, or no zone in any cell.
    """
    path = other / LCZ if other.is_dir() else other
    with opened(path) as there:
        number, band = _band(path, there)
        values = np.zeros(shape, np.float64)
        nothing = there.nodata if there.nodata is not None else 0
        with reading(path):
            reproject(
                rasterio.band(there, number),
                values,
                dst_transform=place,
                dst_crs=crs,
                src_nodata=nothing,
                dst_nodata=nothing,  # rasterio treats a 0 as not given
                resampling=Resampling.nearest,
                tolerance=0,
            )
    zones = _indices(path, np.where(values == nothing, 0, values))
    if not (zones >= 0).any():
        raise UserError(other, _BESIDE)
    return zones, band


def _band(path: Path, there: Any) -> tuple[int, str]:
    names = [text.strip() if text else "" for text in there.descriptions]
    for known in _BANDS:
        for number, name in enumerate(names, start=1):
            if name.lower() == known:
                return number, name
    if there.count > 1:
        raise UserError(
            path, f"has {there.count} bands, none of them called lczFilter or lcz; give a raster with the zones alone"
        )
    return 1, "1"


def _indices(path: Path, values: Num[np.ndarray, "row column"]) -> Int[np.ndarray, "row column"]:
    """Class index 0..16 of each value, -1 for none."""
    distinct, place = np.unique(np.nan_to_num(values), return_inverse=True)
    wrong = [value for value in distinct.tolist() if value not in _INDEX]
    if wrong:
        raise UserError(path, f"{wrong[0]:g} is not a local climate zone; expected 1..17, or 1..10 and 101..107")
    return np.array([_INDEX[value] for value in distinct.tolist()])[place].reshape(values.shape)
