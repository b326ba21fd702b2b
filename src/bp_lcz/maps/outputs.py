"""Writes the files of a map that other tools read: cloud-optimised GeoTIFFs, and a table of areas."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from jaxtyping import Shaped, UInt8
from rasterio.crs import CRS
from rasterio.windows import Window

from bp_lcz.maps.cells import NO_PERCENT
from bp_lcz.maps.symbology import labels, palette, write_symbology
from bp_lcz.records import Accuracy
from bp_lcz.scheme import ZONES
from bp_lcz.sensors.raster import CELL_M

LCZ, PROBABILITY, QUALITY, AREAS = "lcz.tif", "probability.tif", "quality.tif", "areas.csv"
REPORT = "report.json"
QUALITY_BANDS = ("highest probability (%)", "margin to the second (%)", "entropy (% of its largest)", "reason")
CELL_KM2 = (CELL_M / 1000) ** 2
MOST_PIXELS = 2400
"""Most pixels along a side of a picture in true colours."""
_DARK, _GAMMA = 1, 1 / 1.5
"""Percent of a picture's values that become black, and as many white; exponent that brightens the others."""
_BLOCK = 512
_ROWS = 128
"""Rows that are written at once."""


def write_rasters(
    folder: Path,
    cells: Shaped[np.ndarray, "row cell"],
    lcz: UInt8[np.ndarray, "row cell"],
    crs: CRS,
    place: Affine,
    tags: Mapping[str, str],
    set_coverage: float | None = None,
) -> None:
    """Write ``lcz.tif`` with its colours and names, ``probability.tif`` and ``quality.tif``.

    Args:
        folder: folder to write into.
        cells: cells of the map, which may be a memory-mapped file.
        lcz: zones of the cells after any filter, 0 for none.
        crs: coordinates of the cells.
        place: transform from cells to these coordinates.
        tags: tags of each file.
        set_coverage: coverage of the sets of classes, whose sizes become a band; None for no sets.
    """
    shape = cells.shape

    def percent(rows: slice) -> np.ndarray:
        return cells["percent"][rows].transpose(2, 0, 1)

    def quality(rows: slice) -> np.ndarray:
        part = cells[rows]
        sizes = [part["classes"][None]] if set_coverage else []
        return np.concatenate([part["quality"].transpose(2, 0, 1), part["reason"][None], *sizes])

    quality_bands = [*QUALITY_BANDS, *([f"classes in a set of coverage {set_coverage:.0%}"] if set_coverage else [])]
    for name, bands, nodata, overviews, colours, values in (
        (LCZ, ["LCZ"], 0, "MODE", palette(), lambda rows: lcz[None, rows]),
        (PROBABILITY, [f"LCZ {label} (%)" for label in labels()], NO_PERCENT, "AVERAGE", None, percent),
        (QUALITY, quality_bands, NO_PERCENT, "NEAREST", None, quality),
    ):
        plain = folder / f"{name}.plain"
        options: dict[str, Any] = {"crs": crs, "transform": place, "nodata": nodata, "dtype": np.uint8}
        options |= {"driver": "GTiff", "height": shape[0], "width": shape[1], "count": len(bands)}
        with rasterio.open(plain, "w", tiled=True, **options) as file:
            file.descriptions = tuple(bands)
            file.update_tags(**tags)
            if colours:
                file.write_colormap(1, colours)
            for first in range(0, shape[0], _ROWS):
                part = values(slice(first, first + _ROWS))
                file.write(part, window=Window(0, first, shape[1], part.shape[1]))
        rasterio.shutil.copy(
            plain, folder / name, driver="COG", compress="DEFLATE", blocksize=_BLOCK, overview_resampling=overviews
        )
        plain.unlink()
    write_symbology(folder / LCZ)


def write_areas(path: Path, counts: Sequence[int], notice: str, accuracy: Accuracy | None = None) -> None:
    """Write the area of each zone.

    Args:
        path: a CSV file to make.
        counts: cells of each zone, in the order of `ZONES`.
        notice: warning for a column of its own.
        accuracy: accuracy by a reference. Its adjusted areas get columns, too.
    """
    more = ["km2_adjusted", "km2_low", "km2_high"] if accuracy else []
    adjusted = [zone.adjusted_km2 for zone in accuracy.zones] if accuracy else [None] * len(ZONES)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["code", "name", "cells", "km2", "share", *more, "notice"])
        for zone, count, area in zip(ZONES, counts, adjusted, strict=True):
            share = f"{count / max(sum(counts), 1):.4f}"
            numbers = [area.value, *(area.interval or (None, None))] if area else []
            columns = ["" if number is None else f"{number:.2f}" for number in numbers]
            table.writerow([zone.code, zone.name, count, f"{count * CELL_KM2:.2f}", share, *columns, notice])


def true_colours(cells: Shaped[np.ndarray, "row cell"]) -> UInt8[np.ndarray, "line sample 3"]:
    """A picture of a map's ground, without haze. In a very large map it shows only every n-th cell.

    The darkest hundredth of each colour becomes 1, and the brightest hundredth of all colours 255. 0 means unknown.
    """
    step = -(-max(cells.shape) // MOST_PIXELS)
    picture = cells["picture"][::step, ::step].transpose(0, 2, 1, 3, 4)
    picture = picture.reshape(picture.shape[0] * picture.shape[1], -1, 3)
    known = picture.max(axis=2) > 0
    if not known.any():
        return np.zeros(picture.shape, np.uint8)
    black = np.percentile(picture[known], _DARK, axis=0).astype(np.float32)
    white = np.float32(max(np.percentile(picture[known] - black, 100 - _DARK), 1))
    share = ((picture - black) / white).clip(0, 1) ** np.float32(_GAMMA)
    return (np.rint(1 + 254 * share) * known[:, :, None]).astype(np.uint8)
