"""Where training patches lie, as a list that is small enough for a checkpoint: squares of degrees that they touch.

A square is at least a hundredth of a degree wide, which is 1.1 km from south to north, and wider where training data
would touch too many of them. So whoever asks what a network has seen gets no patch too few, and some too many.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from bp_lcz.records import Places
from bp_lcz.so2sat.geo import Geo
from bp_lcz.so2sat.ground import SIDE_M, on_globe

MOST_SQUARES = 512
"""Of a list: 6 kB."""
_STEPS = np.array([0.0, 0.5, 1.0]) * SIDE_M
"""From a side of a footprint to the other, nearer to each other than the sides of any square."""


def places_of(geo: Geo | None) -> Places | None:
    """Squares that the patches of a split touch; None where nobody knows where they lie."""
    if geo is None or not len(geo.epsg):
        return None
    degrees = []
    for epsg in np.unique(geo.epsg):
        rows = geo.epsg == epsg
        found = _touched(geo.easting[rows] + SIDE_M / 2, geo.northing[rows] - SIDE_M / 2, int(epsg))
        if found is None:
            return None
        degrees.append(found.reshape(-1, 2))
    return _listed(_cells(np.concatenate(degrees), 1), 1, are_all=True)


def joined(one: Places | None, other: Places | None) -> Places | None:
    """Squares of both; where those of one are unknown, they are not all."""
    if one is None or other is None:
        known = one or other
        return None if known is None else known.model_copy(update={"are_all": False})
    side = max(one.side, other.side)
    cells = [
        np.stack(np.divmod(each.squares, _columns(each.side)), axis=-1) * each.side // side for each in (one, other)
    ]
    return _listed(np.concatenate(cells), side, are_all=one.are_all and other.are_all)


def near(
    places: Places, east: Float[np.ndarray, " patch"], north: Float[np.ndarray, " patch"], epsg: int
) -> Bool[np.ndarray, " patch"] | None:
    """Whether patches touch a square.

    Args:
        places: see there.
        east: of their middles, in m.
        north: likewise.
        epsg: code of the projection.

    Returns:
        None of a projection that is not in metres.
    """
    points = _touched(east, north, epsg)
    if points is None:
        return None
    squares = _cells(points, places.side) @ [_columns(places.side), 1]
    return np.any(np.isin(squares, places.squares), axis=1)


def _touched(
    east: Float[np.ndarray, " patch"], north: Float[np.ndarray, " patch"], epsg: int
) -> Float[np.ndarray, "patch 9 2"] | None:
    """Longitude and latitude in degrees of points of footprints with these middles."""
    across, down = np.meshgrid(_STEPS - SIDE_M / 2, _STEPS - SIDE_M / 2)
    corners = np.stack([east[:, None] + across.ravel(), north[:, None] + down.ravel()], axis=-1)
    globe = on_globe(corners, epsg)
    return None if globe is None else np.degrees(globe)


def _cells(degrees: Float[np.ndarray, "*n 2"], side: int) -> Int[np.ndarray, "*n 2"]:
    """Row from the south pole and column from the meridian of 180 of the square of each place."""
    hundredths = 100 * (degrees[..., ::-1] + [90, 180])
    return np.floor(hundredths % [18_001, 36_000] / side).astype(np.int64)


def _columns(side: int) -> int:
    return -(-36_000 // side)


def _listed(cells: Int[np.ndarray, "square 2"], side: int, *, are_all: bool) -> Places:
    """Squares, each once, twice as wide until they are few enough."""
    while len(cells := np.unique(cells, axis=0)) > MOST_SQUARES:
        cells, side = cells // 2, 2 * side
    return Places(side=side, squares=tuple((cells @ [_columns(side), 1]).tolist()), are_all=are_all)
