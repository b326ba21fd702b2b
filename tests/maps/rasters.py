"""Folders of maps whose content is known."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin

from tests.scenes.rasters import NORTH, UTM, WEST


def write_cells(path: Path, values: np.ndarray, **profile: Any) -> Path:
    """A raster (row, column) or (band, row, column) of 100 m in UTM zone 33 N unless asked otherwise."""
    bands = values if values.ndim == 3 else values[None]
    names = profile.pop("names", ())
    options = {"crs": UTM, "transform": from_origin(WEST, NORTH, 100, 100), "dtype": bands.dtype} | profile
    count, height, width = bands.shape
    with rasterio.open(path, "w", driver="GTiff", count=count, height=height, width=width, **options) as file:
        file.write(bands)
        for number, name in enumerate(names, start=1):
            file.set_band_description(number, name)
    return path


def write_map(folder: Path, lcz: np.ndarray, **profile: Any) -> Path:
    """A folder with the zones, each of them with a probability of 60 % plus its number, and 1 % for all others."""
    folder.mkdir(parents=True, exist_ok=True)
    write_cells(folder / "lcz.tif", lcz.astype(np.uint8), nodata=0, **profile)
    number = np.arange(1, 18)[:, None, None]
    percent = np.where(lcz == number, 60 + number, np.where(lcz == 0, 255, 1)).astype(np.uint8)
    write_cells(folder / "probability.tif", percent, nodata=255, **profile)
    return folder


def patchy(side: int = 60, seed: int = 0) -> np.ndarray:
    """All zones in squares of six cells."""
    squares = np.random.default_rng(seed).integers(1, 18, (side // 6 + 1,) * 2)
    return np.kron(squares, np.ones((6, 6), int))[:side, :side].astype(np.uint8)
