"""Growth of the time of a region with its number of tiles: their maps, and the join."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin

from benchmarks.growth import Curve, Series
from benchmarks.harness import Setup
from benchmarks.rows.maps import any_ground, classifier_of
from bp_lcz.bands import PATCH_SIDE, SEN2_BANDS
from bp_lcz.maps.map import MapOptions
from bp_lcz.regions.join import join_tiles
from bp_lcz.regions.make import make_tile
from bp_lcz.regions.store import Folder
from bp_lcz.scenes.scene import SceneOptions
from bp_lcz.sensors.raster import CELL_PIXELS

_CELLS = 48
"""Along a side of a tile."""


def _scene(setup: Setup, number: int, cells: int) -> Path:
    """The n-th tile from the west, which overlaps the one before by a tenth."""
    path = setup.folder / f"tile-{number:02d}-{cells}.tif"
    pixels = cells * CELL_PIXELS + PATCH_SIDE - CELL_PIXELS
    place = from_origin(199_890 + number * 90 * cells, 5_820_110, 10, 10)
    options: dict[str, Any] = {"height": pixels, "width": pixels, "count": len(SEN2_BANDS), "dtype": np.uint16}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32633", transform=place, **options) as file:
        file.write(any_ground(np.random.default_rng(number), pixels, pixels))
    return path


def tiles(setup: Setup) -> Sequence[Series]:
    """Seconds of a region with EB-CNN, and of the join alone."""
    sizes, cells, repeats = ((1, 2, 3), 3, 1) if setup.quick else ((1, 2, 4, 8, 16), _CELLS, 3)
    classifier = classifier_of(setup, "eb_cnn")
    scenes = [_scene(setup, number, cells) for number in range(max(sizes))]
    whole, join = list[list[float]](), list[list[float]]()
    for size in sizes:
        whole.append([])
        join.append([])
        for repeat in range(repeats):
            store, start = Folder(setup.folder / f"region-{size}-{repeat}"), time.perf_counter()
            states = {
                scene.stem: make_tile(store, scene.stem, classifier, "eb_cnn", MapOptions(SceneOptions((scene,))), str)
                for scene in scenes[:size]
            }
            made = time.perf_counter()
            join_tiles(store, "benchmark", states, {})
            end = time.perf_counter()
            whole[-1].append(end - start)
            join[-1].append(end - made)
    return [Series("maps and join", 1, sizes, whole), Series("join alone", 1, sizes, join)]


CURVES = (Curve("tiles", f"a region of tiles of {_CELLS} x {_CELLS} cells", "tiles", "s", tiles),)
