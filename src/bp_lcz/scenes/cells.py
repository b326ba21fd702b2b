"""Cells of 100 m that lie in polygons of zones, and which of them must stay together in a split."""

from pathlib import Path

import numpy as np
import shapely
from jaxtyping import Bool, Float, Int
from rasterio.crs import CRS
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bp_lcz.errors import UserError
from bp_lcz.params import SPLITS
from bp_lcz.scenes.areas import moved
from bp_lcz.scenes.polygons import Zones
from bp_lcz.scheme import CODES
from bp_lcz.sensors.raster import CELL, CELL_M, Grid
from bp_lcz.so2sat.geo import PIXEL_M, Geo
from bp_lcz.words import counted

_SLACK_M = 0.01
"""Metres by which a cell may reach out of its polygon, whose corners may be rounded."""


class PolygonCells:
    """Zones of cells from polygons. A cell has a zone if its whole square of 100 m lies in one polygon.

    Attributes:
        unlabelled: how messages describe patches without a zone.
    """

    unlabelled = "whose cell of 100 m in the middle does not lie in a polygon as a whole"

    def __init__(self, path: Path, zones: Zones, grid: Grid) -> None:
        self._path, self._place, self._classes = path, grid.transform, zones.classes - 1
        self._shapes = np.array([moved(path, shape, CRS.from_epsg(4326), grid.crs) for shape in zones.shapes])
        shapely.prepare(self._shapes)
        self._tree = shapely.STRtree(self._shapes)
        self._has_cell = np.zeros(len(self._shapes), dtype=bool)

    def classes(self, row: int, columns: Int[np.ndarray, " patch"]) -> Int[np.ndarray, " patch"]:
        """Class index 0..16, or -1 for none, of patches given by the pixels of their upper left corners."""
        west = self._place.c + PIXEL_M * columns
        cell, polygon = self._within(west, np.full(len(columns), self._place.f - PIXEL_M * row))
        self._has_cell[polygon] = True
        classes = np.full(len(columns), -1)
        classes[cell] = self._classes[polygon]
        return classes

    def lines(self) -> list[str]:
        """A line about polygons that gave no cell. It is right only after all rows were read."""
        small = shapely.area(self._shapes) < CELL_M**2
        empty = counted(int((~self._has_cell).sum()), "polygon")
        return [
            f"{self._path.name}: {empty} without a whole cell of 100 m, "
            f"{int((~self._has_cell & small).sum())} of them smaller than one"
        ]

    def places(
        self, geo: Geo, label: Bool[np.ndarray, "patch klass"], gap_m: float
    ) -> tuple[Int[np.ndarray, " patch"], list[str]]:
        """Number of the place of each patch, and a line about the places.

        Two polygons belong to one place if they, or a chain of polygons between them, are nearer than the gap.

        Args:
            geo: geo table of the patches that lie in polygons.
            label: zones of the same patches.
            gap_m: smallest distance of two places in m, at least the side of a patch.

        Raises:
            UserError: if there are fewer than three places, or all cells of a zone are in one place.
        """
        cell, polygon = self._within(geo.easting, geo.northing)
        used, polygon = np.unique(polygon, return_inverse=True)
        near = shapely.STRtree(self._shapes[used]).query(self._shapes[used], predicate="dwithin", distance=gap_m)
        links = coo_array((np.ones(near.shape[1]), near), shape=(len(used), len(used)))
        count, place = connected_components(links, directed=False)
        unit = np.zeros(len(label), dtype=np.int64)
        unit[cell] = place[polygon]
        apart = f"more than {gap_m:g} m apart"
        if count < len(SPLITS):
            raise UserError(
                self._path,
                f"its polygons are in {counted(count, 'place')}, and three splits need three {apart}; draw more "
                "elsewhere, or take --split none",
            )
        alone = [CODES[zone] for zone in np.flatnonzero(label.any(axis=0)) if len(set(unit[label[:, zone]])) == 1]
        if alone:
            raise UserError(
                self._path,
                f"all cells of LCZ {', '.join(alone)} are in one place, so none would be left to test on; draw polygons"
                f" of it in two more places {apart}, drop it with --label-map, or take --split none",
            )
        return unit, [f"{self._path.name}: {counted(len(used), 'polygon')} in {counted(count, 'place')} {apart}"]

    def _within(
        self, west: Float[np.ndarray, " patch"], north: Float[np.ndarray, " patch"]
    ) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]:
        """Pairs of indices: a patch, given by its corner, and the polygon that its cell lies in."""
        left, top = west + PIXEL_M * CELL.start + _SLACK_M, north - PIXEL_M * CELL.start - _SLACK_M
        side = CELL_M - 2 * _SLACK_M
        boxes = shapely.box(left, top - side, left + side, top)
        cell, polygon = self._tree.query(boxes)
        lies_in = shapely.covers(self._shapes[polygon], boxes[cell])
        return cell[lies_in], polygon[lies_in]
