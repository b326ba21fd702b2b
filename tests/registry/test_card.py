"""Where a card says that a model was tried, by the places of its patches."""

import numpy as np
import pytest

from bp_lcz.registry.card import _place
from bp_lcz.so2sat.geo import Geo, world_files


def geo_of(cities: list[str], epsg: list[int], easting: list[float], northing: list[float]) -> Geo:
    return Geo(np.array(cities), np.array(epsg, np.int64), world_files(np.array(easting), np.array(northing)))


def test_cities_and_degrees_of_patches_in_several_zones() -> None:
    geo = geo_of(
        ["berlin", "santiago", "berlin"],
        [32633, 32719, 32633],
        [389_890.0, 346_000.0, 399_890.0],
        [5_820_110.0, 6_297_000.0, 5_820_110.0],
    )
    assert _place(geo) == "berlin, santiago; 34 S to 53 N, 71 W to 14 E"


@pytest.mark.parametrize("geo", [None, geo_of([], [], [], [])])
def test_without_places_nothing_is_claimed(geo: Geo | None) -> None:
    assert _place(geo) == "the positions of its patches are not known"


def test_many_cities_are_counted() -> None:
    geo = geo_of([f"c{n:02d}" for n in range(70)], [32633] * 70, [400_000.0] * 70, [5_800_000.0] * 70)
    assert "c59 and 10 more; 52 N to 53 N" in _place(geo)
