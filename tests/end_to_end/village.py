"""A real village as a user has it: the product of its scene, tiles of a region, and polygons that somebody drew."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.windows import Window
from rasterio.windows import transform as window_transform
from shapely.geometry.base import BaseGeometry

from tests.scenes.drawn import kml
from tests.scenes.safe import L1C, RESOLUTION, write_band, xml, zipped

OFFSET = 1000
RADAR = "s1_rtc_vv_vh_db.tif"
PRODUCT = "S2A_MSIL1C_20200408T143729_N0500_R096_T18HYE_20230101T000000.SAFE"
LAND_COVER = {5: "LCZ 9", 2: "LCZ A", 4: "LCZ D"}
"""Zones that buildings, trees and crops of the land cover are taken for, which nobody has looked at."""
_SIDE, _RIM = 22, 11
"""Pixels along a square, and along the edge of the scene, where patches are not whole."""
_APART, _BESIDE = 33, 2
"""Pixels between two squares that are two places, and between two that are not."""
_SHARE = 0.8
"""Of its land cover in a square. A model of 0.65 is below the floor of `promote`: a dozen patches decide by chance."""


def product(scene: Path, folder: Path) -> Path:
    """Sentinel-2 of a scene as it is downloaded."""
    safe = folder / PRODUCT
    with rasterio.open(scene / "s2_l1c_13bands_dn.tif") as file:
        for band, values in zip(L1C, file.read(), strict=True):
            metres = RESOLUTION.get(band, 20)
            at = {"crs": file.crs, "transform": file.transform @ Affine.scale(metres / 10)}
            image = f"GRANULE/L1C_T18HYE_A0/IMG_DATA/T18HYE_20200408T143729_{band}.jp2"
            write_band(safe / image, values, metres, **at)
    (safe / "MTD_MSIL1C.xml").write_text(xml("1C", f"{-OFFSET}", "05.00"))
    archive = zipped(safe)
    shutil.rmtree(safe)
    return archive


def tiles(scene: Path, folder: Path) -> Path:
    """West and east of a scene, which overlap, with Sentinel-1 beside them."""
    folder.mkdir()
    for source, end in (("s2_l1c_13bands_dn.tif", ""), (RADAR, "_s1")):
        with rasterio.open(scene / source) as file:
            for name, first in (("west", 0), ("east", file.width - 128)):
                window = Window(first, 0, 128, file.height)
                profile = file.profile | {"width": 128, "transform": window_transform(window, file.transform)}
                with rasterio.open(folder / f"{name}{end}.tif", "w", **profile) as part:
                    part.write(file.read(window=window))
    return folder


def areas(scene: Path, path: Path, beside: bool = False) -> Path:
    """Polygons of places that lie apart, as training areas, or others of the ground beside them."""
    with rasterio.open(scene / "lulc.tif") as file:
        cover, place, crs = file.read(1), file.transform, file.crs
    training = list(_squares(cover, place, _APART, []))
    chosen = list(_squares(cover, place, _BESIDE, training)) if beside else training
    folders: dict[str, list[BaseGeometry]] = {}
    for row, column in chosen:
        (west, north), side = place @ (column, row), _SIDE * place.a
        zone = _zone(cover[row : row + _SIDE, column : column + _SIDE])
        folders.setdefault(str(zone), []).append(shapely.box(west, north - side, west + side, north))
    return kml(path, folders, crs=crs, source="weak labels, drawn by a program from a map of land cover")


def _squares(cover: np.ndarray, place: Affine, gap: int, others: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Upper left corners of squares of one land cover that lie a gap of pixels apart, each with four cells of a map."""
    taken = list(others)
    rows, columns = (range(_first(metres), 224 - _SIDE - _RIM, 10) for metres in (-place.f, place.c))
    for row in rows:
        for column in columns:
            is_free = all(max(abs(row - r), abs(column - c)) >= _SIDE + gap for r, c in taken)
            if is_free and _zone(cover[row : row + _SIDE, column : column + _SIDE]):
                taken.append((row, column))
                yield row, column


def _first(metres: float) -> int:
    """Pixel beyond the rim that is the last before a multiple of 100 m."""
    return _RIM + (9 - round(metres / 10 + _RIM)) % 10


def _zone(square: np.ndarray) -> str | None:
    cover, count = np.unique(square, return_counts=True)
    return LAND_COVER.get(int(cover[count.argmax()])) if count.max() >= _SHARE * square.size else None
