"""Places of two UTM zones on one ground."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.warp import transform

from bp_lcz.so2sat.geo import Geo, world_files
from bp_lcz.so2sat.ground import in_zone, is_utm, near_across, on_globe
from tests.refusals import refuses


def places(easting: np.ndarray, northing: np.ndarray, epsg: int) -> Geo:
    return Geo(np.full(len(easting), "x"), np.full(len(easting), epsg), world_files(easting, northing))


def at(place: tuple[float, float], epsg: int) -> Geo:
    """A patch whose upper left pixel is there."""
    return places(*np.array(transform("EPSG:4326", f"EPSG:{epsg}", [place[0]], [place[1]])), epsg)


def border(latitude: float, epsg: int, count: int = 6, seed: int = 0) -> Geo:
    """Patches within 800 m of a place where two zones meet, at 18 degrees east or 180, in one of the zones."""
    meridian = 180.0 if epsg % 100 in (1, 60) else 18.0
    (x,), (y,) = transform("EPSG:4326", f"EPSG:{epsg}", [meridian], [latitude])
    rng = np.random.default_rng(seed)
    return places(x + rng.uniform(-800, 800, count), y + rng.uniform(-800, 800, count), epsg)


@pytest.mark.parametrize("epsg", [32633, 32701, 32760, 25832])
def test_longitude_and_latitude_are_those_of_proj(epsg):
    rng = np.random.default_rng(0)
    metres = np.stack([rng.uniform(2e5, 8e5, 200), rng.uniform(1e6, 9e6, 200)], axis=1)
    globe = on_globe(metres, epsg)
    expected = np.radians(transform(f"EPSG:{epsg}", "EPSG:4326", *metres.T)).T
    assert np.abs(np.sin((globe - expected) / 2)).max() * 6.4e6 < 0.002
    np.testing.assert_allclose(in_zone(globe, epsg), metres, atol=0.002)


@pytest.mark.parametrize(("epsg", "known"), [(32600, False), (32661, False), (3035, False), (32660, True)])
def test_other_projections_are_known_as_such(epsg, known):
    assert is_utm(epsg) == known


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("epsgs", "place"),
    [
        ((3035, 32633), (14.0, 50.0)),
        ((32661, 32633), (16.0, 83.9)),
        ((31467, 25832), (9.5, 48.0)),
        ((3857, 3035), (24.0, 60.0)),
    ],
)
def test_one_ground_in_any_two_projections_in_metres_is_seen(epsgs, place, turned):
    one, other = (at(place, epsg) for epsg in epsgs)
    here, there = (other, one) if turned else (one, other)
    i, j, _ = near_across(here, there, 320.0)
    assert (i.tolist(), j.tolist()) == ([0], [0])


@pytest.mark.parametrize("epsg", [4326, 2263, 99_999])
def test_places_in_degrees_feet_or_nothing_known_are_not_said_to_lie_apart(epsg):
    here = border(50, 32633)
    with refuses(f"EPSG:{epsg}", "metres"):
        near_across(here, places(here.easting, here.northing, epsg), 320.0)
    assert not len(
        near_across(places(here.easting, here.northing, epsg), places(here.easting, here.northing, epsg), 320.0)[0]
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.5, 70), st.sampled_from([(32633, 32634), (32601, 32660), (32634, 32633)]))
def test_pairs_overlap_exactly_where_a_point_of_the_ground_lies_in_both(seed, latitude, epsgs):
    here, there = (border(latitude, epsg, seed=seed + number) for number, epsg in enumerate(epsgs))
    found = {(int(i), int(j)): metres for i, j, metres in zip(*near_across(here, there, 320.0), strict=True)}
    step = np.arange(2.0, 320, 4)
    column, row = (axis.ravel() for axis in np.meshgrid(step, -step))
    for j in range(len(there.epsg)):
        points = np.stack([there.easting[j] + column, there.northing[j] + row], axis=1)
        inside = in_zone(on_globe(points, epsgs[1]), epsgs[0])
        for i in range(len(here.epsg)):
            right, down = inside[:, 0] - here.easting[i], here.northing[i] - inside[:, 1]
            is_seen = bool(((right > 0) & (right < 320) & (down > 0) & (down < 320)).any())
            # Slivers narrower than the 4 m between points may escape the points.
            assert ((i, j) in found) == is_seen or 310 < found.get((i, j), 320) < 320


def test_the_distance_of_squares_that_are_hardly_turned_is_that_within_a_zone():
    # Zone 33 in the northern and in the southern form: one grid, false northings apart.
    shift = np.array([0.0, 100, 319, 321, 5000])
    here = places(np.array([500_000.0]), np.array([50_000.0]), 32633)
    there = places(500_000 + shift, 10_050_000 + np.zeros(5), 32733)
    _, j, metres = near_across(here, there, 400.0)
    assert j.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(metres, shift[:4], atol=1e-3)


def test_patches_of_one_zone_or_of_no_utm_zone_are_not_compared():
    here = border(50, 32633)
    assert not len(near_across(here, here, 320.0)[0])
    assert not len(near_across(here, places(here.easting, here.northing, 3035), 320.0)[0])
