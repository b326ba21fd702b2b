"""Own Sentinel scenes into patches: co-registered GeoTIFFs to So2Sat's keys and geo files.

Sentinel-2 gives the grid: north-up, 10 m, in its own projected coordinates, or in the local UTM zone where it is
not so. Sentinel-1 and labels are warped onto it while they are read, in strips of 32 rows, so memory grows with
the width of a scene and not with its area.
"""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped
from rasterio.enums import Resampling
from tqdm import tqdm

from bp_lcz.bands import PATCH_SIDE, SEN2_BANDS, Channels
from bp_lcz.errors import UserError
from bp_lcz.scenes.labels import CELL, class_lookup, classes_of, label_band, source_of
from bp_lcz.scenes.plausible import Stored
from bp_lcz.scenes.raster import Grid, Layer, check_overlap, local_grid, on_grid, opened
from bp_lcz.scenes.sentinel1 import UNITS as S1_UNITS
from bp_lcz.scenes.sentinel1 import Radar, read_radar
from bp_lcz.scenes.sentinel2 import OFFSET_DN, Optical, read_optical
from bp_lcz.scenes.split import SplitRule, counted, new_folder, write_splits
from bp_lcz.scheme import CLASS_COUNT, CODES, NAMES
from bp_lcz.so2sat.geo import PIXEL_M, geo_file_of, world_files
from bp_lcz.so2sat.layout import KEYS
from bp_lcz.so2sat.writer import new_patches

PATCHES = "patches.h5"


@dataclass(frozen=True)
class TileOptions:
    """What the files do not say, or say wrongly.

    Attributes:
        city: name in the geo file; None takes that of the output folder.
        stride_m: between corners of neighbouring patches, a multiple of 10 m.
        s1_units: of intensities: ``db``, ``linear``, ``amplitude`` or ``auto``, which takes the one of the first
            two to which nearly all values belong.
        s2_units: ``dn``, ``reflectance`` or ``auto``, which takes whole numbers, or a median above 10, for
            digital numbers.
        s2_offset: in digital numbers; None looks for it.
        s1_bands: ``VV`` and ``VH`` in stored order; None reads the bands' descriptions.
        s2_bands: names in stored order, such as ``B02``; None reads the bands' descriptions.
        min_share: of the cell in a patch's middle that its class must cover.
        split: rule for the splits; None leaves all patches in one file.
    """

    city: str | None = None
    stride_m: int = 100
    s1_units: str = "auto"
    s2_units: str = "auto"
    s2_offset: float | None = None
    s1_bands: tuple[str, ...] | None = None
    s2_bands: tuple[str, ...] | None = None
    min_share: float = 0.5
    split: SplitRule | None = field(default_factory=SplitRule)

    def __post_init__(self) -> None:
        if self.city is not None and not self.city.strip():
            raise UserError("--city", "expected a name; leave it out to take that of the folder")
        if self.s2_offset not in (None, 0.0, OFFSET_DN):
            raise UserError(f"--s2-offset {self.s2_offset:g}", f"expected 0 or {OFFSET_DN:g}")
        for option, value, known in (
            ("--s1-units", self.s1_units, S1_UNITS),
            ("--s2-units", self.s2_units, ("auto", "dn", "reflectance")),
        ):
            if value not in known:
                raise UserError(f"{option} {value}", f"expected {', '.join(known)}")
        if self.stride_m <= 0 or self.stride_m % PIXEL_M:
            raise UserError(f"--stride {self.stride_m}", f"expected a positive multiple of {PIXEL_M:g} m")
        if not 0 < self.min_share <= 1:
            raise UserError(f"--min-share {self.min_share:g}", "expected a share above 0, at most 1")


def cut_scenes(
    s1: Path, s2: Path, out: Path, labels: Path | None, label_map: Path | None, options: TileOptions
) -> list[str]:
    """Cut scenes into a data set.

    Args:
        s1: Sentinel-1, calibrated: VV and VH intensities in decibels or linear power, or So2Sat's eight channels.
        s2: Sentinel-2 with 10, 12 or 13 bands, or any that have descriptions.
        out: folder to make: three splits and their geo files, or ``patches.h5`` and ``patches_geo.h5`` without
            labels or without a rule for splits. Without labels there is no key ``label``.
        labels: raster of local climate zones: 1..17, or 1..10 and 101..107; everything else is unlabelled.
        label_map: JSON from the values of another raster to codes ``1``..``10``, ``A``..``G`` or null; its labels
            are headed as weak.
        options: see there.

    Returns:
        What was found and done, in lines.

    Raises:
        UserError: if a file is unreadable, has no coordinates or other bands than expected, the scenes do not
            overlap, VV and VH seem swapped, units or offset are not clear, what was cut cannot be what it is
            stored as, or no patch remains.
    """
    with ExitStack() as stack:
        optical, radar = (stack.enter_context(opened(path)) for path in (s2, s1))
        zones = None if labels is None else stack.enter_context(opened(labels))
        for path, other in ((s1, radar), (labels, zones)):
            if path is not None and other is not None:
                check_overlap(path, other, s2, optical)
        grid, notes = local_grid(s2, optical)
        sen2 = read_optical(s2, optical, options.s2_bands, options.s2_units, options.s2_offset)
        sen1 = read_radar(s1, radar, options.s1_bands, options.s1_units)
        notes += sen2.notes + sen1.notes
        layers = {
            key: on_grid(
                stack,
                path,
                dataset,
                grid,
                list(scene.bands.values()),
                Resampling.bilinear,
                scene.fill,
                scene.fill_alone,
            )
            for key, path, dataset, scene in (("sen2", s2, optical, sen2), ("sen1", s1, radar, sen1))
        }
        lookup = None
        if zones is not None and labels is not None:
            band, said = label_band(labels, zones)
            notes += said
            layers["label"] = on_grid(stack, labels, zones, grid, [band], Resampling.nearest)
            lookup = class_lookup(labels, zones, band, label_map)
        writer = _Strips(layers, grid, sen2, sen1, lookup, options)
        folder = stack.enter_context(new_folder(out))
        path = folder / PATCHES
        source = None if labels is None else source_of(labels, label_map)
        writer.write(path, options.city or out.name or "city", source)
        notes += writer.losses(s1, s2)
        if not writer.kept:
            raise UserError(s2, f"no patch remains: {'; '.join(writer.losses(s1, s2))}")
        writer.stored.check(s1, s2)
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
    """Reads strips of all layers and writes the patches that are whole.

    Attributes:
        kept: patches written.
        stored: what was written, for a last look at it.
    """

    def __init__(
        self,
        layers: dict[str, Layer],
        grid: Grid,
        optical: Optical,
        radar: Radar,
        lookup: dict[int, int] | None,
        options: TileOptions,
    ) -> None:
        self._layers, self._grid, self._lookup, self._options = layers, grid, lookup, options
        self._optical, self._radar = optical, radar
        self._channels = Channels(tuple(radar.bands), SEN2_BANDS)
        self.stored = Stored(self._channels)
        self.kept = self._no_data = self._unlabelled = 0
        self._strange = {"sen1": 0, "sen2": 0}
        self._classes = np.zeros(CLASS_COUNT, dtype=np.int64)

    def losses(self, s1: Path, s2: Path) -> list[str]:
        """How many patches were dropped, and why."""
        lines = [f"{counted(self._no_data, 'patch')} without data in some pixel dropped"]
        for path, key, quantity in ((s1, "sen1", "backscatter"), (s2, "sen2", "reflectance")):
            if self._strange[key]:
                strange = counted(self._strange[key], "pixel")
                lines.append(f"{path.name}: {strange} with values that no {quantity} has, taken for no data")
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
        step = int(self._options.stride_m // PIXEL_M)
        rows = range(0, self._grid.height - PATCH_SIDE + 1, step)
        epsg, west, north = self._grid.crs.to_epsg(), self._grid.transform.c, self._grid.transform.f
        name = city.encode()
        with new_patches(
            path,
            self._channels,
            dtype=dict.fromkeys(KEYS, np.float32),
            has_labels=self._lookup is not None,
            source=source,
            level=self._optical.level,
            city_bytes=len(name),
        ) as writer:
            for row in tqdm(rows, desc="tile", unit="strip"):
                columns, arrays = self._patches(row, step)
                places = {
                    "epsg": np.full(len(columns), epsg),
                    "tfw": world_files(west + PIXEL_M * columns, np.full(len(columns), north - PIXEL_M * row)),
                    "city": np.full(len(columns), name),
                }
                writer.add(**arrays, **places)
            self.kept = writer.count

    def _patches(self, row: int, step: int) -> tuple[Int[np.ndarray, " patch"], dict[str, np.ndarray]]:
        """Columns and arrays of the whole patches of one strip."""
        # Rows that the next strip shows again are counted there.
        is_last = row + step > self._grid.height - PATCH_SIDE
        fresh = slice(None if is_last else step)
        scenes = {}
        known = np.ones((PATCH_SIDE, self._grid.width), dtype=bool)
        for key, values_of in (("sen1", self._radar.power), ("sen2", self._optical.reflectance)):
            stored, declared = self._layers[key].strip(row)
            scenes[key], possible = values_of(stored)
            self._strange[key] += int((declared & ~possible & (stored != 0).any(axis=0))[fresh].sum())
            known &= declared & possible
        keep = np.asarray(_windows(known[None], step).reshape(-1, PATCH_SIDE**2).all(axis=1))
        self._no_data += int((~keep).sum())
        arrays: dict[str, np.ndarray] = {}
        if self._lookup is not None:
            values, labelled = self._layers["label"].strip(row)
            classes = _windows(classes_of(values, labelled, self._lookup), step)[:, CELL, CELL, 0].reshape(
                len(keep), -1
            )
            counts = (classes[..., None] == np.arange(CLASS_COUNT)).sum(axis=1)
            is_labelled = counts.max(axis=1) >= self._options.min_share * classes.shape[1]
            self._unlabelled += int((keep & ~is_labelled).sum())
            keep &= is_labelled
            kept = counts.argmax(axis=1)[keep]
            self._classes += np.bincount(kept, minlength=CLASS_COUNT)
            arrays["label"] = np.eye(CLASS_COUNT, dtype=np.float32)[kept]
        columns = np.flatnonzero(keep)
        for key, scene in scenes.items():
            arrays[key] = _windows(scene.astype(np.float32), step)[columns]
        self.stored.add(**arrays)
        return columns * step, arrays


def _windows(strip: Shaped[np.ndarray, "band 32 width"], step: int) -> Shaped[np.ndarray, "patch 32 32 band"]:
    """Patches of a strip, a view."""
    view = np.lib.stride_tricks.sliding_window_view(strip, PATCH_SIDE, axis=2)[:, :, ::step]
    return view.transpose(2, 1, 3, 0)
