"""Rows for a map against the network alone: cost of reading, windows, files and memory."""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.crs import CRS
from rasterio.transform import from_origin

from benchmarks.harness import Goal, Measured, Row, Setup, Side, rates, seconds
from benchmarks.memory import peak_mebibytes
from benchmarks.networks import network_of, trial_of
from benchmarks.speed import figure
from bp_lcz.bands import PATCH_SIDE, SEN2_BANDS, Channels
from bp_lcz.maps.cells import cell_type, predict_cells
from bp_lcz.maps.outputs import CELL_KM2, true_colours, write_rasters
from bp_lcz.maps.page import Story, write_page
from bp_lcz.model.checkpoint import BATCH, Classifier, versions
from bp_lcz.model.memory import OF_BATCHES, keep_freed_memory
from bp_lcz.records import Checkpoint
from bp_lcz.scenes.scene import SceneOptions, opened_scene
from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.sensors.raster import CELL_PIXELS

OPTICAL = Channels((), SEN2_BANDS)
SIDE = {"eb_cnn": 160, "sen2lcz_mf": 96}
"""Cells along a side of the scenes (16 and 10 km), about four seconds of each network on two cores."""
TILE_PIXELS = 10_980
"""Pixels along a side of a tile of Sentinel-2."""


def classifier_of(setup: Setup, backbone: str) -> Classifier:
    small = {"width": 4, "convolutions": 1} if setup.quick and backbone == "sen2lcz_mf" else {}
    trial = trial_of("plain", backbone, **small)
    network = network_of(trial, OPTICAL).eval().requires_grad_(False).to(setup.device)
    settings = {key: value for key, value in trial if key in Checkpoint.model_fields}
    more: dict[str, Any] = {"trial": trial.name, "source": None, "versions": versions(), "parameters": 0}
    return Classifier(network, OPTICAL, Checkpoint(channels=OPTICAL, **settings, **more), setup.device)


def _scene(setup: Setup, height: int, width: int) -> Path:
    """A GeoTIFF of so many pixels without gaps, in blocks of 512 like real products."""
    path = setup.folder / f"scene-{height}-{width}.tif"
    if path.exists():
        return path
    options: dict[str, Any] = {"height": height, "width": width, "count": len(SEN2_BANDS), "dtype": np.uint16}
    options |= {"crs": "EPSG:32633", "transform": from_origin(399_890, 5_820_110, 10, 10)}
    rng = np.random.default_rng(0)
    with rasterio.open(path, "w", driver="GTiff", tiled=True, blockxsize=512, blockysize=512, **options) as file:
        file.write(any_ground(rng, height, width))
    return path


def any_ground(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Plausible digital numbers of Sentinel-2 that compress badly: all bands vary with the light."""
    brightness, own = (
        rng.integers(300, 3000, (1, height, width)),
        rng.integers(0, 300, (len(SEN2_BANDS), height, width)),
    )
    return (brightness + own).astype(np.uint16)


def _map(setup: Setup, backbone: str) -> Measured:
    """Cells of a GeoTIFF through reading, windows and network, against the network on patches in memory."""
    cells = 3 if setup.quick else SIDE[backbone]
    pixels = cells * CELL_PIXELS + PATCH_SIDE - CELL_PIXELS
    path, classifier = _scene(setup, pixels, pixels), classifier_of(setup, backbone)
    keep_freed_memory(OF_BATCHES)  # as `bp-lcz map` does
    patches = torch.rand(cells**2, PATCH_SIDE, PATCH_SIDE, len(SEN2_BANDS))

    def ours(_: int) -> None:
        with opened_scene(SceneOptions((path,))) as scene:
            for _row in predict_cells(scene, classifier, cell_type(1)):
                pass

    alone = Side(lambda _: classifier.classify_alike(patches), cells**2)
    found = rates(setup, Side(ours, cells**2), alone, wide=0.025)
    return Measured(
        *found,
        cache="warm",
        beside={"of ground": f"{figure(float(np.median(found[0])) * CELL_KM2)} km2/s"},
        note=f"{cells} x {cells} cells of a GeoTIFF of {len(SEN2_BANDS)} bands, opened anew each time; float32",
    )


def files(setup: Setup) -> Measured:
    """Seconds a cell for the rasters and the page of a map, against those of the fastest network."""
    side, batch = (20, 1) if setup.quick else (256, 256)
    cells = np.zeros((side, side), cell_type(1))
    rng = np.random.default_rng(0)
    probability = rng.dirichlet(np.full(CLASS_COUNT, 0.3), cells.shape)
    cells["lcz"], cells["reason"] = probability.argmax(axis=2) + 1, 1
    cells["percent"] = np.rint(100 * probability)
    cells["quality"], cells["picture"] = (
        rng.integers(0, 100, (*cells.shape, 3)),
        rng.integers(1, 4000, (*cells.shape, 1, 1, 3)),
    )
    place = from_origin(400_000, 5_820_000, 100, 100)

    def ours(number: int) -> None:
        folder = setup.folder / f"files-{number}-{time.monotonic_ns()}"
        folder.mkdir()
        write_rasters(folder, cells, cells["lcz"].copy(), CRS.from_epsg(32633), place, {})
        write_page(folder, true_colours(cells), Story("benchmark"))
        shutil.rmtree(folder)

    classifier, patches = classifier_of(setup, "eb_cnn"), torch.rand(batch, PATCH_SIDE, PATCH_SIDE, len(SEN2_BANDS))
    found = seconds(setup, Side(ours, cells.size), Side(lambda _: classifier.classify_alike(patches), BATCH))
    return Measured(*found, note=f"{side} x {side} cells, no two alike, so that nothing compresses well")


def memory(setup: Setup) -> Measured:
    """Memory of a map beyond its network, on a scene of a tile's size with data in one corner."""
    side = 1_098 if setup.quick else TILE_PIXELS
    classifier, patches = classifier_of(setup, "eb_cnn"), torch.rand(BATCH, PATCH_SIDE, PATCH_SIDE, len(SEN2_BANDS))
    alone = peak_mebibytes(setup, lambda: classifier.classify_alike(patches))

    keep_freed_memory(OF_BATCHES)  # as `bp-lcz map` does

    def beyond(height: int) -> float:
        path = _sparse(setup, height, side)

        def work() -> None:
            with opened_scene(SceneOptions((path,))) as scene:
                for _row in predict_cells(scene, classifier, cell_type(1)):
                    pass

        return peak_mebibytes(setup, work) - alone

    half, whole = beyond(side // 2), beyond(side)
    return Measured(
        np.array([whole]),
        np.array([1024.0]),
        beside={"half as high": f"{figure(half)} MiB", "the network": f"{figure(alone)} MiB"},
        note=f"a virtual raster of {side:,} x {side:,} pixels",
    )


def _sparse(setup: Setup, height: int, width: int) -> Path:
    """A virtual raster with data only in its corner."""
    corner = _scene(setup, 342, 342)
    path = corner.with_name(f"sparse-{height}-{width}.vrt")
    place = '<SrcRect xOff="0" yOff="0" xSize="342" ySize="342"/><DstRect xOff="0" yOff="0" xSize="342" ySize="342"/>'
    bands = [
        f'<VRTRasterBand dataType="UInt16" band="{band}"><NoDataValue>0</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">{corner.name}</SourceFilename><SourceBand>{band}</SourceBand>{place}'
        "</SimpleSource></VRTRasterBand>"
        for band in range(1, len(SEN2_BANDS) + 1)
    ]
    head = "<SRS>EPSG:32633</SRS><GeoTransform>399890, 10, 0, 5820110, 0, -10</GeoTransform>"
    path.write_text(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{head}{"".join(bands)}</VRTDataset>', "utf-8"
    )
    return path


ALONE = "the network on packed patches"
ROWS = (
    Row("map-eb_cnn", "cells of a map", ALONE, "cells/s", Goal(0.9), lambda setup: _map(setup, "eb_cnn")),
    Row("map-sen2lcz_mf", "cells of a map", ALONE, "cells/s", Goal(0.9), lambda setup: _map(setup, "sen2lcz_mf")),
    Row("map-files", "rasters and page", "EB-CNN alone", "s/cell", Goal(0.05, "at most"), files),
    Row("map-memory", "beyond the network", "1 GiB", "MiB", Goal(1, "at most"), memory),
)
