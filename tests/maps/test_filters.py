"""Filters of maps, by hand and against the LCZ Generator's own."""

import numpy as np
import pytest
import rasterio

from bp_lcz.maps.filters import FILTERS, majority, wudapt
from tests.maps.rasters import patchy


def cells(*rows):
    return np.array(rows, np.uint8)


def test_a_single_cell_gives_way_to_the_zone_around_it():
    lcz = np.full((5, 5), 6, np.uint8)
    lcz[2, 2] = 8
    assert (majority(lcz) == 6).all()
    assert (wudapt(lcz) == 6).all()


def test_of_equally_frequent_zones_a_cell_keeps_its_own_and_else_gets_the_lowest():
    lcz = cells([9, 9, 4], [9, 4, 4], [9, 4, 7])
    assert majority(lcz)[1, 1] == 4
    lcz = cells([9, 9, 9], [4, 7, 4], [4, 2, 3])
    assert majority(lcz)[1, 1] == 4


@pytest.mark.parametrize("name", ["majority", "wudapt"])
def test_cells_without_a_zone_get_none_and_count_for_none(name):
    lcz = patchy()
    lcz[20:40, 20:40] = 0
    lcz[30, 30] = 5
    filtered = FILTERS[name](lcz)
    assert ((filtered == 0) == (lcz == 0)).all()
    assert filtered[30, 30] == 5


def test_a_river_of_one_cell_stays_where_another_zone_would_not():
    lcz = np.full((9, 9), 14, np.uint8)
    lcz[4] = 17
    assert (wudapt(lcz)[4] == 17).all()
    lcz[4] = 5
    assert (wudapt(lcz) == 14).all()


def test_no_filter_changes_nothing():
    assert (FILTERS["none"](patchy()) == patchy()).all()


@pytest.mark.shared
def test_a_map_of_the_lcz_generator_becomes_its_own_filtered_band(shared_data):
    with rasterio.open(shared_data / "lcz/lcz_generator_map.tif") as file:
        raw, filtered = file.read([1, 2])
    assert (raw != filtered).mean() > 0.1
    assert (wudapt(raw.astype(np.uint8)) != filtered).mean() < 1 / 5000
