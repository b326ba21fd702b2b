"""Bands of one or several rasters of the same ground, read like one raster."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Num
from rasterio.enums import Resampling
from rasterio.windows import Window

from bp_lcz.errors import UserError
from bp_lcz.sensors.raster import Grid, Layer, bounds_of, on_grid

_COARSEST_M = 60.0


@dataclass(frozen=True)
class Stored:
    """A band of an open raster, and the text that names it."""

    path: Path
    dataset: Any
    number: int
    text: str


@dataclass(frozen=True)
class Stated:
    """What a product's XML or a STAC item states.

    Attributes:
        by: name of that file.
        level: ``L1C`` or ``L2A``.
        offset: offset of the stored values in digital numbers, 0 or 1000.
        offset_by: where the offset is stated.
        taken: first and last time of acquisition, in the form that `moment` gives.
        scale: scale of the stored values, for files that declare none themselves.
    """

    by: str
    level: str | None = None
    offset: float | None = None
    offset_by: str = ""
    taken: tuple[str, str] | None = None
    scale: float | None = None


class Stack:
    """Bands with the part of rasterio's interface for open rasters that scenes need.

    Attributes:
        path: what the user named.
        bands: bands in stored order.
        stated: what metadata beside the rasters state.
        size: size of the files in bytes.
    """

    def __init__(self, path: Path, bands: Sequence[Stored], stated: Stated | None = None, size: int = 0) -> None:
        self.path, self.bands, self.stated, self.size = path, list(bands), stated, size
        finest = min(bands, key=lambda band: abs(band.dataset.transform.a)).dataset
        self.crs, self.transform, self.width, self.height = finest.crs, finest.transform, finest.width, finest.height
        self.count = len(bands)
        self.descriptions = [band.text for band in bands]
        self.dtypes, self.scales, self.offsets = (
            [getattr(band.dataset, kind)[band.number - 1] for band in bands] for kind in ("dtypes", "scales", "offsets")
        )
        if stated is not None and stated.scale is not None:
            if not np.isin(self.scales, (1.0, stated.scale)).all():
                raise UserError(path, f"states a scale of {stated.scale:g}, but its files declare another")
            self.scales = [stated.scale] * self.count
        for band in bands:
            is_alike = band.dataset.crs == self.crs and np.allclose(
                bounds_of(band.dataset), bounds_of(finest), atol=_COARSEST_M, rtol=0
            )
            if band.dataset is not finest and not is_alike:
                raise UserError(band.path, f"shows other ground than {bands[0].path.name}; bands of one scene do not")

    @property
    def is_one_file(self) -> bool:
        """Whether all bands are in the file that the user named."""
        return all(band.path == self.path for band in self.bands)

    @property
    def naming(self) -> str:
        """How a user can tell which band is which."""
        told = "name all bands with --s2-bands"
        return told if self.is_one_file else "give a file of each, named such as B02.jp2 or B02.tif"

    def tags(self, number: int = 1) -> dict[str, str]:
        """Tags of a band's raster and of the band itself."""
        band = self.bands[number - 1]
        found: dict[str, str] = band.dataset.tags() | band.dataset.tags(band.number)
        return found

    def overviews(self, _number: int = 1) -> list[int]:
        """Factors of the overviews of the raster that has the fewest."""
        return min((band.dataset.overviews(band.number) for band in self.bands), key=len)

    def read(
        self, numbers: Sequence[int], window: Window, out_shape: Sequence[int]
    ) -> Num[np.ndarray, "band row column"]:
        """Bands of a window, resampled to a shape. The window is in pixels of the finest raster."""
        return self._each("read", numbers, window, out_shape)

    def read_masks(
        self, numbers: Sequence[int], window: Window, out_shape: Sequence[int]
    ) -> Num[np.ndarray, "band row column"]:
        """Masks of the same window: 0 where a band is unknown."""
        return self._each("read_masks", numbers, window, out_shape)

    def _each(
        self, method: str, numbers: Sequence[int], window: Window, out_shape: Sequence[int]
    ) -> Num[np.ndarray, "band row column"]:
        chosen = [self.bands[number - 1] for number in numbers]
        if len({id(band.dataset) for band in chosen}) == 1:
            own = [band.number for band in chosen]
            return getattr(chosen[0].dataset, method)(own, window=window, out_shape=tuple(out_shape))
        shape, found = tuple(out_shape)[-2:], []
        for band in chosen:
            x, y = band.dataset.width / self.width, band.dataset.height / self.height
            own_window = Window(window.col_off * x, window.row_off * y, window.width * x, window.height * y)
            found.append(getattr(band.dataset, method)(band.number, window=own_window, out_shape=shape))
        return np.stack(found)

    def place_of(self, number: int) -> str:
        """Where a band is stored, as messages say it."""
        band = self.bands[number - 1]
        return f"{band.path.name}, band {band.number}"

    def on_grid(
        self, stack: ExitStack, grid: Grid, numbers: Sequence[int], fill: float | None, fill_alone: bool
    ) -> "StackLayer":
        """Bands on the grid. Bands of coarser rasters are interpolated."""
        groups: dict[int, list[int]] = {}
        for position, number in enumerate(numbers):
            groups.setdefault(id(self.bands[number - 1].dataset), []).append(position)
        layers = []
        for positions in groups.values():
            bands = [self.bands[numbers[position] - 1] for position in positions]
            own = [band.number for band in bands]
            first = bands[0]
            layer = on_grid(stack, first.path, first.dataset, grid, own, Resampling.bilinear, fill, fill_alone)
            layers.append((layer, positions))
        return StackLayer(layers, len(numbers))


class StackLayer:
    """Layers of several rasters, read like one layer."""

    def __init__(self, layers: list[tuple[Layer, list[int]]], count: int) -> None:
        self._layers, self._count = layers, count

    @property
    def is_resampled(self) -> bool:
        """Whether all bands are interpolated, even the finest."""
        return all(layer.is_resampled for layer, _ in self._layers)

    @property
    def is_warped(self) -> bool:
        """Whether some bands are interpolated."""
        return any(layer.is_resampled for layer, _ in self._layers)

    def read(self, row: int, rows: int) -> tuple[Num[np.ndarray, "band row width"], Bool[np.ndarray, "row width"]]:
        """Like `Layer.read`: a pixel is known where all layers know it."""
        pieces = [(*layer.read(row, rows), positions) for layer, positions in self._layers]
        if len(pieces) == 1:
            return pieces[0][:2]
        known = pieces[0][1]
        values = np.zeros((self._count, *known.shape), np.result_type(*(values for values, _, _ in pieces)))
        for here, is_known, positions in pieces:
            values[positions] = here
            known &= is_known
        return values, known
