"""Several files of one sensor on the grid: later ones fill the gaps of those before them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32
from shapely import Polygon, union_all

from bp_lcz.errors import UserError
from bp_lcz.records import FileFindings
from bp_lcz.scenes.lee import lee
from bp_lcz.scenes.raster import Grid
from bp_lcz.scenes.sentinel1 import Radar
from bp_lcz.scenes.sentinel2 import Optical
from bp_lcz.scenes.stack import Stack, StackLayer
from bp_lcz.so2sat.geo import PIXEL_M

MARGIN = 8
"""Rows beyond those asked for that values may depend on."""
_MOST_REFLECTANCE = 0.03
_MOST_DECIBELS = 2.0
_PLACES, _ROWS = 12, 8
"""Where an overlap is looked at: so many places of so many rows."""
_ENOUGH = 64
_TOUCHING_M = PIXEL_M


@dataclass
class MosaicPart:
    """A file on the grid, and how its stored values become a quantity.

    Attributes:
        scene: the open file.
        layer: its bands.
        form: what they hold.
        shape: the ground that its raster covers.
        is_filtered: whether radar is Lee filtered.
        strange: pixels read so far that the file calls known and that cannot be.
    """

    scene: Stack
    layer: StackLayer
    form: Optical | Radar
    shape: Polygon
    is_filtered: bool = False
    strange: int = field(default=0)

    @property
    def path(self) -> Path:
        """What the user named."""
        return self.scene.path

    @property
    def findings(self) -> FileFindings:
        """For the record."""
        form = self.form
        return FileFindings(
            name=self.path.name,
            size=self.scene.size,
            quantity="backscatter" if isinstance(form, Radar) else "reflectance",
            bands={band: self.scene.place_of(number) for band, number in form.bands.items()},
            units=form.unit,
            scale=form.scale,
            shift=form.shift,
            level=form.level,
            taken=form.taken,
            resampled=self.layer.is_resampled,
            evidence=tuple(form.notes),
        )

    def read(self, row: int, rows: int) -> tuple[np.ndarray, Bool[np.ndarray, "row width"]]:
        """Values, and where they are known."""
        margin = MARGIN if self.is_filtered or self.form.looks_around else 0
        stored, declared = self.layer.read(row - margin, rows + 2 * margin)
        values, possible = self.form.values(stored)
        known = declared & possible
        if self.is_filtered:
            values = lee(values, known)
        inner = slice(margin, margin + rows)
        odd = (declared & ~possible)[inner]
        self.strange += int((stored[:, inner][:, odd] != 0).any(axis=0).sum())
        return values[:, inner], known[inner]

    def is_in(self, grid: Grid, row: int, rows: int) -> bool:
        """Whether its ground has anything in these rows."""
        north = grid.transform.f - PIXEL_M * row
        _, low, _, high = self.shape.bounds
        return bool(high > north - PIXEL_M * rows and low < north)


def merged(
    parts: Sequence[MosaicPart], grid: Grid, channels: int, row: int, rows: int
) -> tuple[Float32[np.ndarray, "channel row width"], Bool[np.ndarray, "row width"]]:
    """Values of the first part that knows them, and where there is one; everywhere without parts."""
    values = np.zeros((channels, rows, grid.width), np.float32)
    known = np.full((rows, grid.width), not parts)
    for part in parts:
        if known.all():
            break
        if part.is_in(grid, row, rows):
            there, is_known = part.read(row, rows)
            fresh = is_known & ~known
            np.copyto(values, there, casting="same_kind", where=fresh)
            known |= fresh
    return values, known


def check_parts(parts: Sequence[MosaicPart], grid: Grid) -> None:
    """Refuse parts that lie apart, or that differ where two of them show the same ground.

    Raises:
        UserError: if one does; it names both.
    """
    ground = union_all([part.shape.buffer(_TOUCHING_M) for part in parts])
    if ground.geom_type != "Polygon":
        first = next(piece for piece in ground.geoms if piece.intersects(parts[0].shape))
        apart = next(part for part in parts if not part.shape.intersects(first))
        raise UserError(apart.path, f"lies apart from {parts[0].path}; scenes of a mosaic touch each other")
    if {part.form.level for part in parts if part.form.level} == {"L1C", "L2A"}:
        other = next(part for part in parts if part.form.level not in (None, parts[0].form.level))
        raise UserError(other.path, f"is of level {other.form.level}, but {parts[0].path.name} is not")
    for one, other in combinations(parts, 2):
        _check_alike(one, other, grid)


def _check_alike(one: MosaicPart, other: MosaicPart, grid: Grid) -> None:
    common = one.shape.intersection(other.shape)
    if common.is_empty:
        return
    is_radar = isinstance(one.form, Radar)
    form: Callable[[np.ndarray], np.ndarray] = (lambda v: 10 * np.log10(np.maximum(v, 1e-6))) if is_radar else np.array
    top, bottom = ((grid.transform.f - north) / PIXEL_M for north in (common.bounds[3], common.bounds[1]))
    starts = np.unique(np.linspace(top, max(bottom - _ROWS, top), _PLACES).astype(int))
    differences = []
    for row in starts.tolist():
        (here, known), (there, is_known) = (part.read(row, _ROWS) for part in (one, other))
        both = known & is_known
        differences.append(form(there[:, both]) - form(here[:, both]))
    one.strange = other.strange = 0
    found = np.concatenate(differences, axis=1)
    if found.shape[1] < _ENOUGH:
        return
    middle = np.median(found, axis=1)
    if is_radar:
        middle = middle[[name.endswith("intensity") for name in one.form.bands]]
    worst = middle[np.abs(middle).argmax()]
    most, unit = (_MOST_DECIBELS, " dB") if is_radar else (_MOST_REFLECTANCE, " of reflectance")
    if abs(worst) > most:
        raise UserError(
            other.path,
            f"differs by {worst:+.2g}{unit} from {one.path.name} where both lie (at most {most:g}): another offset, "
            "level, season or weather; take scenes that agree",
        )
