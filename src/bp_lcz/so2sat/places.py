"""Positions of training patches in a short list for checkpoints: the squares of degrees that the patches touch.

A square is at least a hundredth of a degree wide, which is 1.1 km from south to north. Squares are wider if training
data would touch too many. So a test for seen patches misses none, and reports some that were not seen.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from bp_lcz.records import Places
from bp_lcz.so2sat.geo import Geo
from bp_lcz.so2sat.ground import SIDE_M, on_globe

MOST_SQUARES = 512
"""Largest number of squares of a list, which then takes 6 kB."""
_STEPS = np.array([0.0, 0.5, 1.0]) * SIDE_M
"""Steps in m across a footprint. They are smaller than the side of any square."""


def places_of(geo: Geo | None) -> Places | None:
    """Squares that the patches of a split touch; None if their positions are not known."""
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
    """Squares of both lists. If one list is unknown, ``are_all`` is False."""
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
        places: squares of training patches.
        east: eastings of the patches' centres in m.
        north: northings of the patches' centres in m.
        epsg: EPSG code of the projection.

    Returns:
        One value for each patch; None if the projection is not in metres.
    """
    points = _touched(east, north, epsg)
    if points is None:
        return None
    squares = _cells(points, places.side) @ [_columns(places.side), 1]
    return np.any(np.isin(squares, places.squares), axis=1)


def _touched(
    east: Float[np.ndarray, " patch"], north: Float[np.ndarray, " patch"], epsg: int
) -> Float[np.ndarray, "patch 9 2"] | None:
    """Longitude and latitude in degrees of points of footprints with these centres."""
    across, down = np.meshgrid(_STEPS - SIDE_M / 2, _STEPS - SIDE_M / 2)
    corners = np.stack([east[:, None] + across.ravel(), north[:, None] + down.ravel()], axis=-1)
    globe = on_globe(corners, epsg)
    return None if globe is None else np.degrees(globe)


def _cells(degrees: Float[np.ndarray, "*n 2"], side: int) -> Int[np.ndarray, "*n 2"]:
    """Row (from the south pole) and column (from the meridian of 180 degrees) of the square of each place."""
    hundredths = 100 * (degrees[..., ::-1] + [90, 180])
    return np.floor(hundredths % [18_001, 36_000] / side).astype(np.int64)


def _columns(side: int) -> int:
    return -(-36_000 // side)


def _listed(cells: Int[np.ndarray, "square 2"], side: int, *, are_all: bool) -> Places:
    """Distinct squares, whose width is doubled until they are few enough."""
    while len(cells := np.unique(cells, axis=0)) > MOST_SQUARES:
        cells, side = cells // 2, 2 * side
    return Places(side=side, squares=tuple((cells @ [_columns(side), 1]).tolist()), are_all=are_all)
