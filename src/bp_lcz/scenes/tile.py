"""Own Sentinel scenes into patches: co-registered scenes to So2Sat's keys and geo files.

A patch is the 320 m round a cell of the scene's grid; labels are warped onto that grid. Scenes are read in strips of
32 rows, so memory grows with the width of a scene and not with its area.
"""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped
from rasterio.enums import Resampling
from tqdm import tqdm

from bp_lcz.bands import PATCH_SIDE
from bp_lcz.errors import UserError
from bp_lcz.scenes.labels import class_lookup, classes_of, label_band, source_of
from bp_lcz.scenes.plausible import Stored
from bp_lcz.scenes.raster import CELL, Layer, check_overlap, on_grid, opened
from bp_lcz.scenes.scene import Scene, SceneOptions, opened_scene
from bp_lcz.scenes.split import SplitRule, counted, new_folder, write_splits
from bp_lcz.scheme import CLASS_COUNT, CODES, NAMES
from bp_lcz.so2sat.geo import PIXEL_M, geo_file_of, world_files
from bp_lcz.so2sat.layout import KEYS
from bp_lcz.so2sat.writer import new_patches

PATCHES = "patches.h5"


@dataclass(frozen=True)
class TileOptions:
    """How patches are cut.

    Attributes:
        city: name in the geo file; None takes that of the output folder.
        stride_m: between corners of neighbouring cells, a multiple of 10 m; they stand on multiples of it.
        min_share: of the cell in a patch's middle that its class must cover.
        split: rule for the splits; None leaves all patches in one file.
    """

    city: str | None = None
    stride_m: int = 100
    min_share: float = 0.5
    split: SplitRule | None = field(default_factory=SplitRule)

    def __post_init__(self) -> None:
        if self.city is not None and not self.city.strip():
            raise UserError("--city", "expected a name; leave it out to take that of the folder")
        if self.stride_m <= 0 or self.stride_m % PIXEL_M:
            raise UserError(f"--stride {self.stride_m}", f"expected a positive multiple of {PIXEL_M:g} m")
        if not 0 < self.min_share <= 1:
            raise UserError(f"--min-share {self.min_share:g}", "expected a share above 0, at most 1")


def cut_scenes(
    scenes: SceneOptions, out: Path, labels: Path | None, label_map: Path | None, options: TileOptions
) -> list[str]:
    """Cut scenes into a data set.

    Args:
        scenes: the files.
        out: folder to make: three splits and their geo files, or ``patches.h5`` and ``patches_geo.h5`` without
            labels or without a rule for splits. Without labels there is no key ``label``, without Sentinel-1 no
            key ``sen1``.
        labels: raster of local climate zones: 1..17, or 1..10 and 101..107; everything else is unlabelled.
        label_map: JSON from the values of another raster to codes ``1``..``10``, ``A``..``G`` or null; its labels
            are headed as weak.
        options: see there.

    Returns:
        What was found and done, in lines.

    Raises:
        UserError: for the reasons of `opened_scene`, if labels are no zones, what was cut cannot be what it is
            stored as, or no patch remains.
    """
    with ExitStack() as stack:
        scene = stack.enter_context(opened_scene(scenes))
        notes, zones, lookup = list(scene.lines), None, None
        if labels is not None:
            raster = stack.enter_context(opened(labels))
            check_overlap(labels, raster, *scene.first)
            band, said = label_band(labels, raster)
            notes += said
            zones = on_grid(stack, labels, raster, scene.ground, [band], Resampling.nearest)
            lookup = class_lookup(labels, raster, band, label_map)
        writer = _Strips(scene, zones, lookup, options)
        folder = stack.enter_context(new_folder(out))
        path = folder / PATCHES
        source = None if labels is None else source_of(labels, label_map)
        writer.write(path, options.city or out.name or "city", source)
        notes += writer.losses()
        if not writer.kept:
            raise UserError(scenes.s2[0], f"no patch remains: {'; '.join(writer.losses())}")
        writer.stored.check(scenes.s1[0] if scenes.s1 else scenes.s2[0], scenes.s2[0])
        notes += writer.stored.lines()
        if labels is not None:
            notes += [f"{labels.name}: {writer.classes()}", *writer.stored.warnings(labels)]
        if labels is None or options.split is None:
            return [*notes, f"{PATCHES}  {counted(writer.kept, 'patch')}"]
        notes += write_splits([path], folder, options.split)
        for file in (path, geo_file_of(path)):
            file.unlink()
        return notes


class _Strips:
    """Reads strips of scene and labels and writes the patches that are whole.

    Attributes:
        kept: patches written.
        stored: what was written, for a last look at it.
    """

    def __init__(self, scene: Scene, zones: Layer | None, lookup: dict[int, int] | None, options: TileOptions) -> None:
        self._scene, self._zones, self._lookup, self._options = scene, zones, lookup, options
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
        if self._lookup is not None:
            unlabelled = counted(self._unlabelled, "patch")
            lines.append(f"{unlabelled} without a class on {self._options.min_share:.0%} of the cell in the middle")
        return lines

    def classes(self) -> str:
        """The classes of the patches that were kept, for a reader to see whether the labels mean what they should."""
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
            has_labels=self._lookup is not None,
            source=source,
            level=self._scene.level,
            city_bytes=len(name),
        ) as writer:
            for row in tqdm(range(self._top, grid.height - PATCH_SIDE + 1, self._step), desc="tile", unit="strip"):
                columns, arrays = self._patches(row)
                places = {
                    "epsg": np.full(len(columns), grid.crs.to_epsg()),
                    "tfw": world_files(west + PIXEL_M * columns, np.full(len(columns), north - PIXEL_M * row)),
                    "city": np.full(len(columns), name),
                }
                writer.add(**arrays, **places)
            self.kept = writer.count

    def _patches(self, row: int) -> tuple[Int[np.ndarray, " patch"], dict[str, np.ndarray]]:
        """Columns and arrays of the whole patches of one strip."""
        strip = self._scene.strip(row)
        is_beyond = np.asarray(self._cut(strip.outside).any(axis=(1, 2)))
        keep = ~is_beyond & self._cut(strip.sen1_known & strip.sen2_known & ~strip.masked).all(axis=(1, 2))
        is_wanted = self._scene.touches(row, self._left + self._step * np.arange(len(keep)))
        keep &= is_wanted
        is_beyond |= ~is_wanted
        self._rim += int(is_beyond.sum())
        self._no_data += int((~keep & ~is_beyond).sum())
        arrays: dict[str, np.ndarray] = {}
        if self._zones is not None and self._lookup is not None:
            classes = classes_of(*self._zones.read(row, PATCH_SIDE), self._lookup)[0]
            cells = self._cut(classes)[:, CELL, CELL].reshape(len(keep), -1)
            counts = (cells[..., None] == np.arange(CLASS_COUNT)).sum(axis=1)
            is_labelled = counts.max(axis=1) >= self._options.min_share * cells.shape[1]
            self._unlabelled += int((keep & ~is_labelled).sum())
            keep &= is_labelled
            kept = counts.argmax(axis=1)[keep]
            self._classes += np.bincount(kept, minlength=CLASS_COUNT)
            arrays["label"] = np.eye(CLASS_COUNT, dtype=np.float32)[kept]
        columns = np.flatnonzero(keep)
        for key in ("sen1", "sen2"):
            # (channel, patch, row, column) to patches with channels last
            arrays[key] = self._cut(getattr(strip, key))[:, columns].transpose(1, 2, 3, 0)
        self.stored.add(**arrays)
        return self._left + columns * self._step, arrays

    def _cut(self, rows: Shaped[np.ndarray, "*channel 32 width"]) -> Shaped[np.ndarray, "*channel patch 32 32"]:
        """Patches of a strip, a view."""
        windows = np.lib.stride_tricks.sliding_window_view(rows, PATCH_SIDE, axis=-1)[..., self._left :: self._step, :]
        return np.moveaxis(windows, -2, -3)
