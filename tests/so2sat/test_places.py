"""Where training patches lie, in a list that misses none of them."""

import numpy as np
import pytest

from bp_lcz.so2sat.geo import Geo, world_files
from bp_lcz.so2sat.places import MOST_SQUARES, joined, near, places_of
from tests.so2sat.patches import write_dataset


def geo(east, north, epsg=32633):
    east, north = np.atleast_1d(east).astype(float), np.atleast_1d(north).astype(float)
    return Geo(np.full(len(east), "x"), np.broadcast_to(epsg, len(east)), world_files(east, north))


def is_near(places, east, north, epsg=32633):
    return near(places, np.array([east + 160.0]), np.array([north - 160.0]), epsg).item()


@pytest.mark.parametrize(
    ("north", "epsg"), [(5_820_000, 32633), (100, 32631), (8_800_000, 32633), (4_300_000, 32756)], ids=str
)
def test_whoever_shares_ground_with_a_training_patch_is_near_and_who_is_far_is_not(north, epsg):
    draw = np.random.default_rng(1)
    east = draw.uniform(390_000, 400_000, 40)
    trained = geo(east, north + draw.uniform(0, 3000, 40), epsg)
    places = places_of(trained)
    assert places.are_all
    assert len(places.squares) <= 160
    for x, y in zip(east, trained.northing, strict=True):
        for across, down in ((319, 319), (-319, 0), (0, -319)):
            assert is_near(places, x + across, y + down, epsg)
    assert not is_near(places, 390_000, north + 9_000, epsg)
    assert not is_near(places, 410_000, north, epsg)


def test_patches_of_the_next_zone_and_beyond_the_meridian_of_180_are_where_they_lie():
    from rasterio.warp import transform

    for own, other, east in ((32633, 32632, 166_500), (32660, 32601, 833_500)):
        (x,), (y,) = transform(f"EPSG:{own}", f"EPSG:{other}", [east], [5_820_000])
        assert is_near(places_of(geo(east - 160, 5_820_160, own)), x - 160, y + 160, other)


def test_a_list_stays_short_and_misses_none():
    draw = np.random.default_rng(2)
    east, north = draw.uniform(200_000, 800_000, 5000), draw.uniform(1e6, 8e6, 5000)
    places = places_of(geo(east, north))
    assert len(places.squares) <= MOST_SQUARES
    assert near(places, east + 160, north - 160, 32633).all()
    assert len(places.model_dump_json()) < 6000


def test_two_lists_are_one_and_what_nobody_knows_is_said():
    fine, far = places_of(geo(390_000, 5_820_000)), places_of(geo(590_000, 5_120_000))
    wide = places_of(geo(np.arange(200_000, 800_000, 500), np.arange(1e6, 7e6, 5000)))
    for other, east, north in ((far, 590_000, 5_120_000), (wide, 200_000, 1_000_000)):
        both = joined(fine, other)
        assert both == joined(other, fine)
        assert both.are_all
        assert is_near(both, 390_000, 5_820_000)
        assert is_near(both, east, north)
    assert joined(fine, None) == joined(None, fine) == fine.model_copy(update={"are_all": False})
    assert joined(fine, joined(far, None)).are_all is False
    assert joined(None, None) is None


def test_nothing_is_known_without_a_geo_file_or_coordinates(tmp_path):
    from bp_lcz.so2sat.geo import read_geo

    assert places_of(read_geo(write_dataset(tmp_path), "training")) is None
    assert places_of(geo(10, 50, 4326)) is None
    assert near(places_of(geo(390_000, 5_820_000)), np.array([10.0]), np.array([50.0]), 4326) is None
