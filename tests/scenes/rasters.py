"""Small GeoTIFFs whose content is known, and what `cut_scenes` makes of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import rasterio
from rasterio.transform import from_origin

from bp_lcz.bands import SEN2_BANDS
from bp_lcz.scenes.scene import SceneOptions
from bp_lcz.scenes.tile import TileOptions, cut_scenes
from bp_lcz.sensors.names import ORDERS

# 110 m beyond a cell of 100 m: the first pixel of a patch.
WEST, NORTH, UTM = 389_890.0, 5_820_110.0, "EPSG:32633"
ONE_FILE = TileOptions(split=None)


def write_tif(
    path: Path, values: np.ndarray, *, names: list[str] | None = None, west: float = WEST, **profile: Any
) -> Path:
    """A GeoTIFF (band, row, column) of 10 m in UTM zone 33 N unless asked otherwise."""
    options: dict[str, Any] = {"crs": UTM, "transform": from_origin(west, NORTH, 10, 10), **profile}
    count, height, width = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, **({"dtype": values.dtype} | options)
    ) as file:
        file.write(values)
        for number, name in enumerate(names or [], start=1):
            file.set_band_description(number, name)
    return path


def optical(side: int = 92, bands: int = 10, offset: int = 0, seed: int = 0) -> np.ndarray:
    """Digital numbers whose land bands stand at 1000, 1100, ... plus noise, with a corner dark but for the air's blue.

    Of 13 bands the eleventh is that of cirrus, of which there is none.
    """
    rng = np.random.default_rng(seed)
    values = 1000 + 100 * np.arange(bands)[:, None, None] + rng.integers(0, 50, (bands, side, side))
    values[:, -12:, -12:] = 20 + rng.integers(0, 5, (bands, 12, 12))
    values[int(bands > 10), -12:, -12:] += 600
    if bands == 13:
        values[10] = 12
    return (values + offset).astype(np.uint16)


def real_scenes(shared_data: Path) -> Iterator[np.ndarray]:
    """So2Sat's ten bands of each real scene of Sentinel-2, digital numbers (band, row, column)."""
    for path in sorted(shared_data.glob("scenes/*/s2_*.tif")):
        with rasterio.open(path) as file:
            stored = file.read()
        yield stored[[ORDERS[len(stored)].index(band) for band in SEN2_BANDS]]


def radar(side: int = 92, seed: int = 1) -> np.ndarray:
    """VV and VH in decibels."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.uniform(-14, -8, (side, side)), rng.uniform(-24, -18, (side, side))]).astype(np.float32)


def zones(side: int = 92) -> np.ndarray:
    """Water in the west, LCZ 2 in the east."""
    return np.tile(np.where(np.arange(side) < side // 2, 17, 2), (side, 1)).astype(np.uint8)[None]


def run(
    scene: dict[str, Path],
    out: Path,
    options: TileOptions = ONE_FILE,
    label_map: Path | None = None,
    **said: Any,
) -> list[str]:
    s1 = (scene["s1"],) if "s1" in scene else ()
    return cut_scenes(SceneOptions((scene["s2"],), s1, **said), out, scene.get("labels"), label_map, options)


def arrays(out: Path, name: str = "patches.h5") -> dict[str, np.ndarray]:
    with h5py.File(out / name) as file:
        return {key: file[key][:] for key in file}
