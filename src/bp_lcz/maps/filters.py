"""Filters that remove single cells from a map. Cells without a zone keep none, and have no influence."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Num, UInt8
from scipy import ndimage

from bp_lcz.scheme import CODES
from bp_lcz.sensors.raster import CELL_M

_RADIUS_SIGMA_M = {
    **dict.fromkeys(("1",), (200, 100)),
    **dict.fromkeys(("2", "3", "4", "5", "6", "7", "9", "E"), (300, 150)),
    **dict.fromkeys(("8", "10"), (500, 250)),
    **dict.fromkeys(("A", "B", "C", "D", "F"), (200, 75)),
    **dict.fromkeys(("G",), (50, 25)),
}
"""Radius and standard deviation of the LCZ Generator's Gaussian filter in m, by zone: wide for large zones, narrow for
rivers."""

Map = UInt8[np.ndarray, "row column"]


def majority(lcz: Map) -> Map:
    """The most frequent zone of the 3 x 3 cells around each cell.

    If several zones are equally frequent, a cell keeps its own if it is one of them, and otherwise gets the lowest.

    Args:
        lcz: zones 1..17, 0 for none.
    """
    around = np.ones((3, 3), np.uint8)
    return _strongest(lcz, lambda cells, _: ndimage.correlate(cells.astype(np.uint8), around, mode="constant"))


def wudapt(lcz: Map) -> Map:
    """The LCZ Generator's filter: each zone is smoothed by its own Gaussian, and the strongest zone takes the cell.

    If several are equally strong, a cell keeps its own or gets the lowest. For maps of the LCZ Generator the result
    differs from their own ``lczFilter`` in one cell of 6,000.

    Args:
        lcz: zones 1..17 of cells of 100 m, 0 for none.

    Source: Demuzere et al. (2021), doi:10.3389/fenvs.2021.637455.
    """
    known = lcz > 0

    def strength(cells: Bool[np.ndarray, "row column"], zone: int) -> Num[np.ndarray, "row column"]:
        radius, sigma = _RADIUS_SIGMA_M[CODES[zone - 1]]
        spread, all_known = (
            ndimage.gaussian_filter(
                part.astype(np.float32), sigma / CELL_M, radius=int(radius // CELL_M), mode="constant", cval=0
            )
            for part in (cells, known)
        )
        return np.divide(spread, all_known, out=np.zeros_like(spread), where=all_known > 0)

    return _strongest(lcz, strength)


FILTERS: dict[str, Callable[[Map], Map]] = {"none": lambda lcz: lcz, "majority": majority, "wudapt": wudapt}
"""Filters by the names that ``--filter`` takes."""


def _strongest(
    lcz: Map, strength: Callable[[Bool[np.ndarray, "row column"], int], Num[np.ndarray, "row column"]]
) -> Map:
    best, winner = np.full(lcz.shape, -1, np.float32), lcz.copy()
    for zone in map(int, np.unique(lcz[lcz > 0])):
        own = lcz == zone
        here = strength(own, zone)
        wins = (here > best) | (own & (here == best))
        best[wins], winner[wins] = here[wins], zone
    winner[lcz == 0] = 0
    return winner
