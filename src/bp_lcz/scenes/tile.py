"""Cuts Sentinel scenes into patches with So2Sat's keys, and geo files.

A patch is a square of 320 m around a cell of the scene's grid. Its label is that of the cell, from a raster that is
warped onto the grid or from polygons. Scenes are read in strips of 32 rows, so memory grows with the width of a scene
and not with its area.
"""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped
from rasterio.enums import Resampling
from tqdm import tqdm

from bp_lcz.bands import PATCH_SIDE
from bp_lcz.errors import UsageError, UserError
from bp_lcz.scenes.areas import degrees_around
from bp_lcz.scenes.cells import PolygonCells
from bp_lcz.scenes.labels import RasterCells, class_lookup, label_band, source_of
from bp_lcz.scenes.polygons import Overlaps, are_polygons, read_zones
from bp_lcz.scenes.scene import Scene, SceneOptions, opened_scene
from bp_lcz.scenes.split import SplitRule, new_folder, write_splits
from bp_lcz.scheme import CLASS_COUNT, CODES, NAMES
from bp_lcz.sensors.plausible import Stored
from bp_lcz.sensors.raster import CELL, check_overlap, on_grid, opened
from bp_lcz.so2sat.geo import PIXEL_M, geo_file_of, read_geo_of, world_files
from bp_lcz.so2sat.layout import KEYS, open_patches
from bp_lcz.so2sat.writer import new_patches
from bp_lcz.words import counted

PATCHES = "patches.h5"


@dataclass(frozen=True)
class TileOptions:
    """How patches are cut.

    Attributes:
        city: name in the geo file; None takes that of the output folder.
        stride_m: distance between corners of neighbouring cells in m, a multiple of 10. Corners lie on its multiples.
        min_share: least share of the cell that a class of a raster must cover; None takes `MIN_SHARE`.
        split: rule for the splits: by block for a raster, by polygon for polygons. None writes one file of patches.
        field: field of polygons that holds their zones; see `read_zones`.
        overlaps: what to do with overlapping polygons of different zones; see `read_zones`.
    """

    city: str | None = None
    stride_m: int = 100
    min_share: float | None = None
    split: SplitRule | None = field(default_factory=SplitRule)
    field: str | None = None
    overlaps: Overlaps = "refuse"

    def __post_init__(self) -> None:
        if self.city is not None and not self.city.strip():
            raise UserError("--city", "expected a name; leave it out to take that of the folder")
        if self.stride_m <= 0 or self.stride_m % PIXEL_M:
            raise UserError(f"--stride {self.stride_m}", f"expected a positive multiple of {PIXEL_M:g} m")
        if self.min_share is not None and not 0 < self.min_share <= 1:
            raise UserError(f"--min-share {self.min_share:g}", "expected a share above 0, at most 1")


def cut_scenes(
    scenes: SceneOptions, out: Path, labels: Path | None, label_map: Path | None, options: TileOptions
) -> list[str]:
    """Cut scenes into a data set.

    Args:
        scenes: files of the scenes, and options for reading them.
        out: folder to make: three splits and their geo files, or ``patches.h5`` and ``patches_geo.h5`` without
            labels or without a rule for splits. Without labels there is no key ``label``. Without Sentinel-1 there
            is no key ``sen1``.
        labels: polygons or a raster of local climate zones. Values of a raster are 1..17, or 1..10 and 101..107; 0 is
            unlabelled.
        label_map: JSON from the values of another raster, or the names of polygons, to codes ``1``..``10``,
            ``A``..``G`` or null. Labels of such a raster are recorded as weak.
        options: how patches are cut.

    Returns:
        What was found and done, in lines.

    Raises:
        UserError: for the reasons of `opened_scene` and `read_zones`, if labels are not zones, if patches hold
            impossible values, if no patch remains, or if polygons lie in too few places for a split.
        UsageError: if an option is for another kind of labels.
    """
    _check_options(labels, options)
    with ExitStack() as stack:
        scene = stack.enter_context(opened_scene(scenes))
        notes = list(scene.lines)
        cells: RasterCells | PolygonCells | None = None
        source = None
        if labels is not None and are_polygons(labels):
            cells, source, said = _polygon_cells(labels, label_map, scene, options)
            notes += said
        elif labels is not None:
            cells, said = _raster_cells(stack, labels, label_map, scene, options)
            notes += said
            source = source_of(labels, label_map)
        writer = _Strips(scene, cells, options)
        folder = stack.enter_context(new_folder(out))
        path = folder / PATCHES
        writer.write(path, options.city or out.name or "city", source)
        losses = writer.losses() + (cells.lines() if isinstance(cells, PolygonCells) else [])
        notes += losses
        if not writer.kept:
            raise UserError(labels or scenes.s2[0], f"no patch remains: {'; '.join(losses)}")
        writer.stored.check(scenes.s1[0] if scenes.s1 else scenes.s2[0], scenes.s2[0])
        notes += writer.stored.lines()
        if labels is not None:
            notes += [f"{labels.name}: {writer.classes()}", *writer.stored.warnings(labels)]
        if labels is None or options.split is None:
            return [*notes, f"{PATCHES}  {counted(writer.kept, 'patch')}"]
        unit = None
        if isinstance(cells, PolygonCells):
            unit, said = _places(path, cells, options.split)
            notes += said
        notes += write_splits([path], folder, options.split, unit)
        for file in (path, geo_file_of(path)):
            file.unlink()
        return notes


def _check_options(labels: Path | None, options: TileOptions) -> None:
    is_drawn = labels is not None and are_polygons(labels)
    rule = options.split
    for option, is_said, is_about_polygons in (
        ("--field", options.field is not None, True),
        ("--overlaps", options.overlaps != "refuse", True),
        ("--split polygon", rule is not None and rule.by == "polygon", True),
        ("--min-share", options.min_share is not None, False),
        ("--block-size", rule is not None and rule.block_m is not None, False),
        ("--split block", labels is not None and rule is not None and rule.by == "block", False),
    ):
        if is_said and is_drawn != is_about_polygons:
            raise UsageError(option, f"is not for {labels.name if labels else 'a data set without --labels'}")


def _raster_cells(
    stack: ExitStack, path: Path, label_map: Path | None, scene: Scene, options: TileOptions
) -> tuple[RasterCells, list[str]]:
    raster = stack.enter_context(opened(path))
    check_overlap(path, raster, *scene.first)
    band, said = label_band(path, raster)
    zones = on_grid(stack, path, raster, scene.ground, [band], Resampling.nearest)
    return RasterCells(zones, class_lookup(path, raster, band, label_map), options.min_share), said


def _polygon_cells(
    path: Path, label_map: Path | None, scene: Scene, options: TileOptions
) -> tuple[PolygonCells, str, list[str]]:
    grid = scene.grid
    within = degrees_around(grid.crs, grid.transform, (grid.height, grid.width))
    zones = read_zones(path, options.field, label_map, options.overlaps, within)
    return PolygonCells(path, zones, grid), zones.source, list(zones.lines)


def _places(path: Path, cells: PolygonCells, rule: SplitRule) -> tuple[Int[np.ndarray, " patch"], list[str]]:
    with open_patches(path) as reader:
        geo, label = read_geo_of(path, reader.count), reader.labels() > 0
    assert geo is not None
    return cells.places(geo, label, rule.gap_m)


class _Strips:
    """Reads strips of scene and labels and writes the patches that are whole.

    Attributes:
        kept: patches written.
        stored: a sample of what was written, for a last check.
    """

    def __init__(self, scene: Scene, cells: RasterCells | PolygonCells | None, options: TileOptions) -> None:
        self._scene, self._cells = scene, cells
        self.stored = Stored(scene.channels)
        self.kept = self._no_data = self._rim = self._unlabelled = 0
        self._classes = np.zeros(CLASS_COUNT, dtype=np.int64)
        # Cells stand on multiples of the stride, so that patches of two scenes are the same ground.
        self._step = int(options.stride_m // PIXEL_M)
        place = scene.grid.transform
        self._top = round(place.f / PIXEL_M - CELL.start) % self._step
        self._left = -round(place.c / PIXEL_M + CELL.start) % self._step

    def losses(self) -> list[str]:
        """How many patches were dropped, and why."""
        lines = [
            f"{counted(self._no_data, 'patch')} without data in some pixel dropped",
            f"{counted(self._rim, 'patch')} beyond the rim of scene or area dropped",
            *self._scene.losses(),
        ]
        if self._cells is not None:
            lines.append(f"{counted(self._unlabelled, 'patch')} {self._cells.unlabelled}")
        return lines

    def classes(self) -> str:
        """Classes of the patches that were kept. They show a reader whether the labels were understood."""
        found = [f"{CODES[c]} ({NAMES[c]}) {self._classes[c]:,}" for c in np.flatnonzero(self._classes)]
        return f"patches of LCZ {', '.join(found)}"

    def write(self, path: Path, city: str, source: str | None) -> None:
        """Write the patches and their geo file."""
        grid, name = self._scene.grid, city.encode()
        west, north = grid.transform.c, grid.transform.f
        with new_patches(
            path,
            self._scene.channels,
            dtype=dict.fromkeys(KEYS, np.float32),
            has_labels=self._cells is not None,
            source=source,
            level=self._scene.level,
            city_bytes=len(name),
        ) as writer:
            for row in tqdm(range(self._top, grid.height - PATCH_SIDE + 1, self._step), desc="tile", unit="strip"):
                columns, arrays = self._patches(row)
                if not len(columns):
                    continue
                places = {
                    "epsg": np.full(len(columns), grid.crs.to_epsg()),
                    "tfw": world_files(west + PIXEL_M * columns, np.full(len(columns), north - PIXEL_M * row)),
                    "city": np.full(len(columns), name),
                }
                writer.add(**arrays, **places)
            self.kept = writer.count

    def _patches(self, row: int) -> tuple[Int[np.ndarray, " patch"], dict[str, np.ndarray]]:
        """Columns and arrays of the whole patches of one strip. A strip without a polygon is not read."""
        columns = np.arange(self._left, self._scene.grid.width - PATCH_SIDE + 1, self._step)
        classes = np.zeros(len(columns), int) if self._cells is None else self._cells.classes(row, columns)
        is_labelled = classes >= 0
        if isinstance(self._cells, PolygonCells) and not is_labelled.any():
            self._unlabelled += len(columns)
            return columns[:0], {}
        strip = self._scene.strip(row)
        is_beyond = self._cut(strip.outside).any(axis=(1, 2)) | ~self._scene.touches(row, columns)
        is_known = self._cut(strip.sen1_known & strip.sen2_known & ~strip.masked).all(axis=(1, 2))
        self._rim += int(is_beyond.sum())
        self._no_data += int((~is_beyond & ~is_known).sum())
        keep = ~is_beyond & is_known
        self._unlabelled += int((keep & ~is_labelled).sum())
        kept = np.flatnonzero(keep & is_labelled)
        arrays: dict[str, np.ndarray] = {}
        if self._cells is not None:
            self._classes += np.bincount(classes[kept], minlength=CLASS_COUNT)
            arrays["label"] = np.eye(CLASS_COUNT, dtype=np.float32)[classes[kept]]
        for key in ("sen1", "sen2"):
            # (channel, patch, row, column) to patches with channels last
            arrays[key] = self._cut(getattr(strip, key))[:, kept].transpose(1, 2, 3, 0)
        self.stored.add(**arrays)
        return columns[kept], arrays

    def _cut(self, rows: Shaped[np.ndarray, "*channel 32 width"]) -> Shaped[np.ndarray, "*channel patch 32 32"]:
        """All patches of a strip, as a view."""
        windows = np.lib.stride_tricks.sliding_window_view(rows, PATCH_SIDE, axis=-1)[..., self._left :: self._step, :]
        return np.moveaxis(windows, -2, -3)
