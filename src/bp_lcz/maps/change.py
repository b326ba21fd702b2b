"""Change between two maps of this package, in cells of which both are certain, and the noise of two maps of a year."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from jaxtyping import Bool, Int
from rasterio.crs import CRS

from bp_lcz.errors import UserError
from bp_lcz.maps.accuracy import FEW_UNITS, shown
from bp_lcz.maps.cells import Reason
from bp_lcz.maps.outputs import CELL_KM2, LCZ, PROBABILITY, QUALITY, QUALITY_BANDS, REPORT
from bp_lcz.maps.reference import blocks
from bp_lcz.records import Change, Estimate, MappedPair, MapReport, SceneFindings
from bp_lcz.scheme import CLASS_COUNT, ZONES
from bp_lcz.scoring.map_accuracy import resampled
from bp_lcz.scoring.significance import LEVEL
from bp_lcz.sensors.raster import opened, reading

CHANGE = "change.csv"
MOST_ERROR = 0.1
"""A cell counts as certain in both maps if (1 - p1) + (1 - p2) is at most this, with both zones' probabilities p."""
NO_FLOOR = (
    "Without a second map of the same year (--same-year) nobody knows how much of this change is noise: two maps of "
    "one summer differ, too."
)
_SHOWN, _TAIL = 8, (1 - LEVEL) / 2


@dataclass(frozen=True)
class OwnCells:
    """Cells of a map of this package.

    Attributes:
        zones: class index 0..16 of each cell, -1 for none.
        lacking: 100 % minus the probability of that zone, in percent.
        is_known: whether the cell has a zone and is like the training data.
    """

    zones: Int[np.ndarray, "row column"]
    lacking: Int[np.ndarray, "row column"]
    is_known: Bool[np.ndarray, "row column"]


def read_own(folder: Path, place: Affine, shape: tuple[int, int]) -> OwnCells:
    """Read a map of this package onto the cells of another one in the same grid.

    Args:
        folder: folder with ``lcz.tif``, ``probability.tif`` and ``quality.tif``.
        place: transform from cells to their coordinates.
        shape: rows and columns of cells.

    Raises:
        UserError: if a file cannot be read.
    """
    found = {}
    for name in (LCZ, PROBABILITY, QUALITY):
        with opened(folder / name) as file, reading(folder / name):
            down, across = round((file.transform.f - place.f) / place.e), round((file.transform.c - place.c) / place.a)
            found[name] = file.read()
    zones = found[LCZ][0].astype(np.int64) - 1
    percent = np.take_along_axis(found[PROBABILITY], np.maximum(zones, 0)[None], axis=0)[0].astype(np.int64)
    cells = OwnCells(
        zones, 100 - percent, (found[QUALITY][QUALITY_BANDS.index("reason")] == Reason.MAPPED) & (zones >= 0)
    )
    here, there = _common(shape, zones.shape, down, across)
    placed = OwnCells(np.full(shape, -1), np.full(shape, 100), np.zeros(shape, bool))
    for values, target in zip(vars(cells).values(), vars(placed).values(), strict=True):
        target[here] = values[there]
    return placed


@dataclass(frozen=True)
class Made:
    """What a map was made from, as far as two maps must agree in it.

    Attributes:
        weights_sha256: SHA-256 of the model's weights.
        filter: filter of the zones.
        scene: what was found in the files.
        temperature: temperature that calibrated the probabilities.
    """

    weights_sha256: str
    filter: str
    scene: SceneFindings
    temperature: float | None

    @property
    def years(self) -> set[str]:
        """Years of the scenes, as far as they are known."""
        return {time[:4] for file in self.scene.files for time in file.taken or ()}


def check_own(
    folder: Path, made: Made, crs: CRS, place: Affine, shape: tuple[int, int], is_same_year: bool = False
) -> None:
    """Refuse a map with another model, filter, temperature, level of Sentinel-2 or grid of cells.

    Args:
        folder: folder of a map.
        made: what this map is made from.
        crs: coordinates of the cells of this map.
        place: transform from cells to these coordinates.
        shape: rows and columns of cells.
        is_same_year: whether the other map must be of the year of this map.

    Raises:
        UserError: if one of these differs, the map is of another year, or no cell is common.
    """
    report = MapReport.read(folder / REPORT)
    other = Made(report.model.weights_sha256, report.filter, report.scene, report.temperature)
    for what, theirs, ours in (
        ("model", other.weights_sha256[:12], made.weights_sha256[:12]),
        ("filter", other.filter, made.filter),
        ("temperature", other.temperature, made.temperature),
        ("level of Sentinel-2", other.scene.level or "unknown", made.scene.level or "unknown"),
    ):
        if theirs != ours:
            raise UserError(
                folder, f"has another {what} than this map ({theirs}, not {ours}), so its zones differ in any case"
            )
    if is_same_year and other.years and made.years and not other.years & made.years:
        years = " and ".join("/".join(sorted(each)) for each in (other.years, made.years))
        raise UserError(folder, f"is of another year than this map ({years}), so it tells nothing about noise")
    across, down = (report.west - place.c) / place.a, (report.north - place.f) / place.e
    if report.crs != crs.to_string() or across % 1 or down % 1:
        raise UserError(
            folder, f"has cells of {report.crs} that are not those of this map ({crs.to_string()}); give both one --crs"
        )
    here, _ = _common(shape, (report.rows, report.columns), round(down), round(across))
    if not np.empty(shape, bool)[here].size:
        raise UserError(folder, "has no cell in common with this map; do both show the same place?")


def change_between(
    this: OwnCells, other: OwnCells, same_year: OwnCells | None, names: tuple[str, str | None], place: Affine
) -> Change:
    """Change from another map to this one.

    Args:
        this: cells of this map.
        other: cells of the map of another date.
        same_year: cells of a map of the year of this one.
        names: names of the other map and of that of the same year.
        place: transform from cells to their coordinates.
    """
    unit = blocks(place, this.zones.shape).ravel()
    pairs = [_Pair(this, each, str(name)) for each, name in zip((other, same_year), names, strict=True) if each]
    counts = np.stack(
        [np.bincount(unit, part.ravel()).astype(np.int64) for pair in pairs for part in pair.parts], axis=1
    )
    counts = counts[counts.any(axis=1)]  # blocks with a certain cell
    drawn = np.concatenate(list(resampled(counts))) if len(counts) > 1 else None
    estimates = [_ratio(counts, drawn, [number]) for number in range(len(pairs))]
    found = [pair.told(estimate) for pair, estimate in zip(pairs, estimates, strict=True)]
    return Change(
        most_error=MOST_ERROR,
        pair=found[0],
        noise=found[1] if same_year else None,
        beyond=_ratio(counts, drawn, [0, 1]) if same_year else None,
        blocks=len(counts),
    )


def told(found: Change) -> list[str]:
    """A change as messages."""
    lines = [
        f"from {found.pair.other}: {_line(found.pair)}",
        *(f"  {text}" for text in largest(found)),
    ]
    if found.noise is None or found.beyond is None:
        return [*lines, NO_FLOOR]
    return [*lines, f"noise, from {found.noise.other} of the same year: {_line(found.noise)}", verdict(found)]


def verdict(found: Change) -> str:
    """Whether there is more change than noise, in a sentence."""
    if found.beyond is None:
        return NO_FLOOR
    if found.beyond.value is None or found.beyond.interval is None:
        return "too few cells are certain to tell change from noise"
    (low, high), value = found.beyond.interval, found.beyond.value
    sure = "more change than noise" if low > 0 else "no clear change beyond noise"
    few = f", from {found.blocks} blocks alone, so too narrow" if found.blocks < FEW_UNITS else ""
    return f"{sure}: {100 * value:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}{few})"


def largest(found: Change) -> list[str]:
    """A line for each of the largest transitions, with the area that noise gives on as much ground."""
    lines = []
    for start, end, km2, noise in sorted(_transitions(found), key=lambda row: -row[2])[:_SHOWN]:
        floor = "" if noise is None else f", noise {noise:.2f}"
        lines.append(f"{ZONES[start].code} to {ZONES[end].code}: {km2:.2f} km2{floor}")
    return lines


def write_change(found: Change, path: Path) -> None:
    """Write the transition matrix: zones of the other map by zones of this one, in km2 of cells certain in both."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        kinds = [("change", found.pair), *([("noise", found.noise)] if found.noise else [])]
        table.writerow(["kind", "from", "name", *(f"to_{zone.code}" for zone in ZONES)])
        for kind, pair in kinds:
            for zone, counts in zip(ZONES, pair.transitions, strict=True):
                table.writerow([kind, zone.code, zone.name, *(f"{CELL_KM2 * count:.2f}" for count in counts)])


Part = tuple[slice, slice]


def _common(here: tuple[int, int], there: tuple[int, int], down: int, across: int) -> tuple[Part, Part]:
    """The common part of two grids, in each. The second's corner lies `down` and `across` cells from the first's."""
    ours, theirs = [], []
    for length, other, step in zip(here, there, (down, across), strict=True):
        first, last = max(step, 0), max(min(step + other, length), 0)
        ours.append(slice(first, last))
        theirs.append(slice(first - step, max(last - step, 0)))
    return (ours[0], ours[1]), (theirs[0], theirs[1])


class _Pair:
    """Two maps on the same cells, the other one first."""

    def __init__(self, this: OwnCells, other: OwnCells, name: str) -> None:
        self._name = name
        self._both = this.is_known & other.is_known
        certain = self._both & (this.lacking + other.lacking <= round(100 * MOST_ERROR))
        pair = other.zones[certain] * CLASS_COUNT + this.zones[certain]
        self._matrix = np.bincount(pair, minlength=CLASS_COUNT**2).reshape(CLASS_COUNT, CLASS_COUNT)
        self.parts = certain, certain & (this.zones != other.zones)

    def told(self, share: Estimate) -> MappedPair:
        certain, changed = (int(part.sum()) for part in self.parts)
        return MappedPair(
            other=self._name,
            cells=int(self._both.sum()),
            certain=certain,
            changed=changed,
            share=share,
            transitions=tuple(tuple(row) for row in self._matrix.tolist()),
        )


def _ratio(counts: np.ndarray, drawn: np.ndarray | None, numbers: list[int]) -> Estimate:
    """Share of certain cells that changed, for one pair, or for the first minus the second. Intervals are by blocks."""

    def share(sums: np.ndarray) -> np.ndarray:
        certain, changed = sums[..., 0::2], sums[..., 1::2]
        shares = (changed / np.maximum(certain, 1))[..., numbers]
        return np.asarray(shares[..., 0] - shares[..., 1:].sum(axis=-1))

    sums = counts.sum(axis=0)
    if not sums[0::2][numbers].all():
        return Estimate(value=None, interval=None)
    value = float(share(sums))
    if drawn is None:
        return Estimate(value=value, interval=None)
    low, high = np.quantile(share(drawn), [_TAIL, 1 - _TAIL])
    return Estimate(value=value, interval=(float(low), float(high)))


def _transitions(found: Change) -> list[tuple[int, int, float, float | None]]:
    """For each change: zone before, zone after, its area in km2, and the area that noise gives on as much ground."""
    matrix = np.array(found.pair.transitions)
    noise = None
    if found.noise is not None and found.noise.certain:
        noise = np.array(found.noise.transitions) * found.pair.certain / found.noise.certain
    return [
        (int(i), int(j), float(CELL_KM2 * matrix[i, j]), None if noise is None else float(CELL_KM2 * noise[i, j]))
        for i, j in np.argwhere(matrix > 0)
        if i != j
    ]


def _line(pair: MappedPair) -> str:
    return (
        f"{pair.changed:,} of {pair.certain:,} cells of which both maps are certain have another zone, in percent "
        f"{shown(pair.share)}; {pair.cells:,} have a zone in both"
    )
