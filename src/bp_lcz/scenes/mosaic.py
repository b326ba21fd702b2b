"""Several files of one sensor on the grid. Later files fill the gaps of earlier ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped
from shapely import Polygon, union_all
from shapely.geometry.base import BaseGeometry

from bp_lcz.errors import UserError
from bp_lcz.records import FileFindings
from bp_lcz.sensors.lee import lee
from bp_lcz.sensors.raster import Grid
from bp_lcz.sensors.sentinel1 import Radar
from bp_lcz.sensors.sentinel2 import Optical
from bp_lcz.sensors.stack import Stack, StackLayer
from bp_lcz.sensors.still import ROWS_AROUND, grown, is_still_at_rim, still
from bp_lcz.so2sat.geo import PIXEL_M

MARGIN = ROWS_AROUND
"""Rows above and below that the values of a row may depend on. The Lee filter needs fewer."""
_MOST_REFLECTANCE = 0.03
_MOST_DECIBELS = 2.0
"""Largest median difference of two parts on common ground, in reflectance and in decibels."""
_PLACES, ROWS = 12, 8
"""An overlap is compared at so many places, each of so many rows."""
_ENOUGH, _CELLS = 64, 24
_TOUCHING_M = PIXEL_M
ALIKE, BETTER = 0.6, 0.25
"""Correlation above which two parts agree, and by how much it must rise for a part to count as turned round."""
TURNS = (("upside down", True, False), ("mirrored", False, True), ("turned by 180 degrees", True, True))
Form = Callable[[np.ndarray], np.ndarray]
"""Converts values to the form in which they are compared."""


@dataclass
class MosaicPart:
    """A file on the grid, and how its stored values become a quantity.

    Attributes:
        scene: the open file.
        layer: its bands.
        form: how stored values become reflectance or power.
        shape: the ground that its raster covers, in the grid's coordinates.
        is_filtered: whether the Lee filter is applied to radar.
        strange: number of pixels read so far whose values are impossible, though the file does not mark them.
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
        """What was found in the file, for the record of the scene."""
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
        """Values of some rows, and where they are known."""
        margin = MARGIN if self.is_filtered or self.form.looks_around else 0
        stored, declared = self.layer.read(row - margin, rows + 2 * margin)
        is_power_at_rim = isinstance(self.form, Radar) and self.form.is_power_at_rim(stored)
        if not margin and (is_power_at_rim or is_still_at_rim(stored)):
            margin = MARGIN
            stored, declared = self.layer.read(row - margin, rows + 2 * margin)
        stands_still = still(stored)
        values, possible = self.form.values(stored, stands_still)
        if stands_still is not None and self.layer.is_warped:
            possible &= ~grown(stands_still.any(axis=0) & declared & ~possible)
        known = declared & possible
        if self.is_filtered:
            values = lee(values, known)
        inner = slice(margin, margin + rows)
        odd = (declared & ~possible)[inner]
        self.strange += int((stored[:, inner][:, odd] != 0).any(axis=0).sum())
        return values[:, inner], known[inner]

    def is_in(self, grid: Grid, row: int, rows: int) -> bool:
        """Whether its ground reaches into these rows."""
        north = grid.transform.f - PIXEL_M * row
        _, low, _, high = self.shape.bounds
        return bool(high > north - PIXEL_M * rows and low < north)


def merged(
    parts: Sequence[MosaicPart], grid: Grid, channels: int, row: int, rows: int
) -> tuple[Float32[np.ndarray, "channel row width"], Bool[np.ndarray, "row width"]]:
    """Each pixel from the first part that knows it, and where one does. Without parts, zeros that count as known."""
    values, known = None, np.full((rows, grid.width), not parts)
    for part in parts:
        if known.all():
            break
        if part.is_in(grid, row, rows):
            there, is_known = part.read(row, rows)
            if values is None:
                there[:, ~is_known] = 0
                values, known = there.astype(np.float32, copy=False), is_known
                continue
            fresh = is_known & ~known
            np.copyto(values, there, casting="same_kind", where=fresh)
            known |= fresh
    return np.zeros((channels, rows, grid.width), np.float32) if values is None else values, known


def check_parts(parts: Sequence[MosaicPart], grid: Grid) -> None:
    """Refuse parts that lie apart, or that differ where two of them show the same ground.

    Raises:
        UserError: if parts lie apart or differ; the line names two of them.
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
    form: Form = (lambda v: 10 * np.log10(np.maximum(v, 1e-6))) if is_radar else np.array
    starts = places(common, grid)
    differences, alike = [], []
    for row in starts:
        (here, known), (there, is_known) = (part.read(row, ROWS) for part in (one, other))
        both = known & is_known
        differences.append(form(there[:, both]) - form(here[:, both]))
        alike.append(cells([form(here), form(there)], both))
    found = np.concatenate(differences, axis=1)
    if found.shape[1] >= _ENOUGH:
        _check_turned(one, other, grid, starts, form, _correlation(alike))
        _check_medians(one, other, found)


def _check_medians(one: MosaicPart, other: MosaicPart, found: Float[np.ndarray, "channel pixel"]) -> None:
    is_radar = isinstance(one.form, Radar)
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


def _check_turned(
    one: MosaicPart, other: MosaicPart, grid: Grid, starts: list[int], form: Form, alike: float | None
) -> None:
    """Refuse a part that correlates with the other one only after it is turned round within its raster.

    Low correlation alone is no proof, since fields change and the sea is noise.
    """
    if alike is None or alike > ALIKE:
        return
    for fixed, moved in ((one, other), (other, one)):
        for name, is_up, is_left in TURNS:
            found = []
            for row in starts:
                here, known = fixed.read(row, ROWS)
                there, is_known = turned_rows(moved, grid, row, is_up, is_left)
                found.append(cells([form(here), form(there)], known & is_known))
            turned = _correlation(found)
            if turned is not None and turned > max(ALIKE, alike + BETTER):
                raise UserError(
                    moved.path,
                    f"it or {fixed.path.name} is {name}: where both lie they have a correlation of {alike:.2f}, and "
                    f"of {turned:.2f} once one is turned back",
                )


def places(common: BaseGeometry, grid: Grid) -> list[int]:
    """First rows of the places at which the common ground of two parts is compared."""
    top, bottom = ((grid.transform.f - north) / PIXEL_M for north in (common.bounds[3], common.bounds[1]))
    starts: list[int] = np.unique(np.linspace(top, max(bottom - ROWS, top), _PLACES).astype(int)).tolist()
    return starts


def turned_rows(
    part: MosaicPart, grid: Grid, row: int, is_up: bool, is_left: bool
) -> tuple[np.ndarray, Bool[np.ndarray, "row width"]]:
    """Rows of a part as if it were turned round within its raster."""
    west, south, east, north = part.shape.bounds
    top, bottom = (round((grid.transform.f - y) / PIXEL_M) for y in (north, south))
    left, right = (round((x - grid.transform.c) / PIXEL_M) for x in (west, east))
    values, known = part.read(top + bottom - row - ROWS if is_up else row, ROWS)
    if is_up:
        values, known = values[:, ::-1], known[::-1]
    if is_left:
        columns = left + right - 1 - np.arange(grid.width)
        is_there = (columns >= 0) & (columns < grid.width)
        columns = columns.clip(0, grid.width - 1)
        values, known = values[:, :, columns], known[:, columns] & is_there
    return values, known


def cells(
    values: Sequence[Shaped[np.ndarray, "_ row width"]], known: Bool[np.ndarray, "row width"]
) -> Float[np.ndarray, "channel cell"]:
    """Means over squares of `ROWS` x `ROWS` known pixels. Means have less speckle and noise than pixels."""
    whole = known.shape[1] // ROWS * ROWS
    keep = known[:, :whole].reshape(ROWS, -1, ROWS).all(axis=(0, 2))
    channels = np.concatenate(values)[..., :whole]
    return channels.reshape(len(channels), ROWS, -1, ROWS).mean(axis=(1, 3), dtype=np.float64)[:, keep]


def _correlation(found: list[Float[np.ndarray, "channel _"]]) -> float | None:
    """Median correlation over channels. Rows are those of one part, then the other. None if cells are few or alike."""
    values = np.concatenate(found, axis=1)
    if values.shape[1] < _CELLS:
        return None
    values -= values.mean(axis=1, keepdims=True)
    one, other = np.split(values, 2)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    if not norms.all():
        return None
    return float(np.median((one * other).sum(axis=1) / norms))
