"""Compares patches of several projections on the ground, such as in a city on the border of two UTM zones.

The transverse Mercator projection uses Krüger's series to the third order. Its error is about a millimetre within a
zone and its neighbours (Karney 2011, Journal of Geodesy 85:475-485, equations 7 to 36).
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Complex, Float, Int
from scipy.spatial import KDTree

from bp_lcz.bands import PATCH_SIDE
from bp_lcz.errors import UserError
from bp_lcz.so2sat.geo import PIXEL_M, Geo

SIDE_M = PATCH_SIDE * PIXEL_M
"""Side of a footprint in m."""

_SEMI_MAJOR, _FLATTENING, _SCALE = 6_378_137.0, 1 / 298.257223563, 0.9996
_N = _FLATTENING / (2 - _FLATTENING)
_RECTIFYING = _SEMI_MAJOR / (1 + _N) * (1 + _N**2 / 4 + _N**4 / 64) * _SCALE
_ALPHA = (_N / 2 - 2 * _N**2 / 3 + 5 * _N**3 / 16, 13 * _N**2 / 48 - 3 * _N**3 / 5, 61 * _N**3 / 240)
_BETA = (_N / 2 - 2 * _N**2 / 3 + 37 * _N**3 / 96, _N**2 / 48 + _N**3 / 15, 17 * _N**3 / 480)
_DELTA = (2 * _N - 2 * _N**2 / 3 - 2 * _N**3, 7 * _N**2 / 3 - 8 * _N**3 / 5, 56 * _N**3 / 15)
_ECCENTRICITY = 2 * np.sqrt(_N) / (1 + _N)
_FALSE_EASTING, _FALSE_NORTHING = 500_000.0, 10_000_000.0

_SMALLEST_RADIUS = 6.33e6
"""Radius of curvature of the Earth in m. It is smaller than the real one anywhere, so no neighbour is missed."""
_SLACK = 1.1
"""Factor above what rotation and scales of two zones add to the distance of centres."""
_AT_ONCE = 4096


def _series(zeta: Complex[np.ndarray, "*n"], factors: tuple[float, ...]) -> Complex[np.ndarray, "*n"]:
    return sum((factor * np.sin(2 * j * zeta) for j, factor in enumerate(factors, start=1)), np.zeros_like(zeta))


def _zone(epsg: int) -> tuple[float, float] | None:
    """Central meridian in radians and false northing of a UTM zone of WGS 84 or ETRS89; None for other projections."""
    hundred, number = divmod(epsg, 100)
    if hundred not in (326, 327, 258) or not 1 <= number <= 60:
        return None
    return np.radians(6.0 * number - 183), _FALSE_NORTHING if hundred == 327 else 0.0


def is_utm(epsg: int) -> bool:
    """Whether a projection is a UTM zone of WGS 84 or ETRS89."""
    return _zone(epsg) is not None


def on_globe(places: Float[np.ndarray, "*n 2"], epsg: int) -> Float[np.ndarray, "*n 2"] | None:
    """Longitude and latitude in radians of eastings and northings; None if the projection is not in metres."""
    zone = _zone(epsg)
    if zone is None:
        return _by_proj(places, epsg)
    zeta = ((places[..., 1] - zone[1]) + 1j * (places[..., 0] - _FALSE_EASTING)) / _RECTIFYING
    zeta = zeta - _series(zeta, _BETA)
    conformal = np.arcsin(np.sin(zeta.real) / np.cosh(zeta.imag))
    latitude = conformal + _series(conformal.astype(complex), _DELTA).real
    return np.stack([zone[0] + np.arctan2(np.sinh(zeta.imag), np.cos(zeta.real)), latitude], axis=-1)


def _by_proj(places: Float[np.ndarray, "*n 2"], epsg: int) -> Float[np.ndarray, "*n 2"] | None:
    from rasterio.crs import CRS
    from rasterio.errors import CRSError
    from rasterio.warp import transform

    try:
        crs = CRS.from_epsg(epsg)
    except CRSError:
        return None
    if not crs.is_projected or crs.linear_units_factor[1] != 1:
        return None
    flat = places.reshape(-1, 2)
    return np.radians(transform(crs, "EPSG:4326", flat[:, 0], flat[:, 1])).T.reshape(places.shape)


def in_zone(globe: Float[np.ndarray, "*n 2"], epsg: int) -> Float[np.ndarray, "*n 2"]:
    """Eastings and northings in a UTM zone; the inverse of `on_globe`."""
    zone = _zone(epsg)
    assert zone is not None
    sine = np.sin(globe[..., 1])
    tangent = np.sinh(np.arctanh(sine) - _ECCENTRICITY * np.arctanh(_ECCENTRICITY * sine))
    east = globe[..., 0] - zone[0]
    zeta = np.arctan2(tangent, np.cos(east)) + 1j * np.arctanh(np.sin(east) / np.sqrt(1 + tangent**2))
    zeta = _RECTIFYING * (zeta + _series(zeta, _ALPHA))
    return np.stack([zeta.imag + _FALSE_EASTING, zeta.real + zone[1]], axis=-1)


def near_across(
    here: Geo, there: Geo, within_m: float
) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"], Float[np.ndarray, " pair"]]:
    """Pairs of patches in different projections that are near each other on the ground.

    The distance generalises that of two squares of one zone to rotated squares. It is 320 m plus the widest gap between
    them along any of their sides, so they overlap exactly if it is below 320. Both squares are taken in the UTM zone of
    the first, or on the ground if it has none.

    Args:
        here: positions of some patches.
        there: positions of other patches.
        within_m: distance below which a pair is returned, at least 0.

    Returns:
        Index in `here`, index in `there`, distance in m.

    Raises:
        UserError: if there are several projections, and one of them is not in metres.
    """
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    reach = np.sqrt(2) * max(within_m, SIDE_M) * _SLACK / _SMALLEST_RADIUS
    ours, theirs = (
        {int(epsg): np.flatnonzero(geo.epsg == epsg) for epsg in np.unique(geo.epsg)} for geo in (here, there)
    )
    if len(ours.keys() | theirs.keys()) == 1:
        return found[0]
    spheres = {
        (side, epsg): _on_sphere(geo, rows, epsg)
        for side, geo, groups in ((0, here, ours), (1, there, theirs))
        for epsg, rows in groups.items()
    }
    for a, i in ours.items():
        for b, j in theirs.items():
            first, second = spheres[0, a], spheres[1, b]
            if a == b or _are_apart(first, second, reach):
                continue
            for one, other in _candidates(first, second, reach):
                distance = _footprint_gap(_corners(here, i[one]), _corners(there, j[other]), a, b) + SIDE_M
                is_near = distance < within_m
                found.append((i[one][is_near], j[other][is_near], np.maximum(distance[is_near], 0)))
    one, other, distance = (np.concatenate(part) for part in zip(*found, strict=True))
    return one, other, distance


def _corners(geo: Geo, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n 4 2"]:
    """Corners of footprints in clockwise order, beginning with the upper left one."""
    turns = np.array([[0, 0], [1, 0], [1, -1], [0, -1]]) * SIDE_M
    return np.stack([geo.easting[rows], geo.northing[rows]], axis=-1)[:, None] + turns


def _on_sphere(geo: Geo, rows: Int[np.ndarray, " n"], epsg: int) -> Float[np.ndarray, "n 3"]:
    """Centres of footprints on the unit sphere."""
    globe = on_globe(_corners(geo, rows).mean(axis=1), epsg)
    if globe is None:
        raise UserError(
            f"EPSG:{epsg}", "is not a projection in metres, so its patches cannot be compared with those of another"
        )
    longitude, latitude = globe.T
    around = np.cos(latitude)
    return np.stack([around * np.cos(longitude), around * np.sin(longitude), np.sin(latitude)], axis=1)


def _are_apart(first: Float[np.ndarray, "n 3"], second: Float[np.ndarray, "m 3"], reach: float) -> bool:
    """Whether the bounding boxes of two groups show that no two of their members are near."""
    low, high = np.maximum(first.min(axis=0), second.min(axis=0)), np.minimum(first.max(axis=0), second.max(axis=0))
    return bool((low - high > reach).any())


def _candidates(
    first: Float[np.ndarray, "n 3"], second: Float[np.ndarray, "m 3"], reach: float
) -> Iterator[tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]]:
    tree = KDTree(first)
    for start in range(0, len(second), _AT_ONCE):
        near = tree.query_ball_point(second[start : start + _AT_ONCE], reach)
        count = np.array([len(rows) for rows in near])
        if count.any():
            yield (
                np.concatenate([np.array(rows, np.int64) for rows in near]),
                start + np.repeat(np.arange(len(near)), count),
            )


def _around(
    globe: Float[np.ndarray, "pair 4 2"], middle: Float[np.ndarray, "pair 1 2"]
) -> Float[np.ndarray, "pair 4 2"]:
    """Metres east and north of a nearby place."""
    squared = _FLATTENING * (2 - _FLATTENING)
    rest = 1 - squared * np.sin(middle[..., 1]) ** 2
    across = _SEMI_MAJOR / np.sqrt(rest) * np.cos(middle[..., 1])
    along = _SEMI_MAJOR * (1 - squared) / rest**1.5
    turned, up = np.moveaxis(globe - middle, -1, 0)
    turned = np.remainder(turned + np.pi, 2 * np.pi) - np.pi
    return np.stack([turned * across, up * along], axis=-1)


def _footprint_gap(
    ours: Float[np.ndarray, "pair 4 2"], theirs: Float[np.ndarray, "pair 4 2"], a: int, b: int
) -> Float[np.ndarray, " pair"]:
    """Widest gap between two footprints along any of their sides; negative if they overlap (separating axes)."""
    globe, other = on_globe(ours, a), on_globe(theirs, b)
    assert globe is not None
    assert other is not None
    if is_utm(a):
        theirs = in_zone(other, a)
    else:
        ours, theirs = (_around(corners, globe[:, :1]) for corners in (globe, other))
    gaps = []
    for quads in (ours, theirs):
        for side in (quads[:, 1] - quads[:, 0], quads[:, 3] - quads[:, 0]):
            axis = side / np.linalg.norm(side, axis=1, keepdims=True)
            here, there = ((corners * axis[:, None]).sum(axis=2) for corners in (ours, theirs))
            gaps.append(np.maximum(there.min(axis=1) - here.max(axis=1), here.min(axis=1) - there.max(axis=1)))
    return np.max(gaps, axis=0)
