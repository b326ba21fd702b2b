"""A map against others of the same ground."""

import csv

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.transform import from_origin
from rasterio.warp import transform, transform_bounds

from bp_lcz.errors import UserError
from bp_lcz.maps.against import CEILING, compare_maps, told, write_table
from bp_lcz.maps.exports import write_exports
from tests.maps.rasters import patchy, write_cells, write_map
from tests.scenes.rasters import NORTH, WEST


@pytest.fixture
def lcz(tmp_path):
    return write_map(tmp_path / "map", patchy()) / "lcz.tif"


def test_a_map_agrees_with_itself(lcz, tmp_path):
    result = compare_maps(lcz, write_map(tmp_path / "other", patchy()))
    assert (result.cells, result.here_alone, result.there_alone) == (3600, 0, 0)
    assert (result.scores.oa, result.scores.kappa) == (1, 1)
    assert result.is_own
    assert CEILING not in told(result)


@pytest.mark.parametrize("nothing", [0, -999, np.nan])
def test_what_differs_is_counted_in_cells_that_both_maps_have(lcz, tmp_path, nothing):
    other = patchy()
    other[:6, :6] = other[0, 0] % 17 + 1
    stored = np.where(np.arange(60)[:, None] < 30, other.astype(np.float32), nothing)[:50]
    result = compare_maps(lcz, write_cells(tmp_path / "other.tif", stored, nodata=nothing))
    assert (result.cells, result.here_alone, result.there_alone) == (1800, 1800, 0)
    assert result.scores.oa == pytest.approx(1 - 36 / 1800)
    assert result.scores.confusion[other[0, 0] - 1][patchy()[0, 0] - 1] == 36
    assert told(result)[-1] == CEILING


@pytest.mark.parametrize("name", ["umep", "wudapt", "wrf"])
def test_every_form_that_is_exported_is_read_back(lcz, name):
    write_exports(lcz.parent, [name])
    result = compare_maps(lcz, lcz.parent / f"exports/{name}.tif")
    assert result.band == {"umep": "LCZ", "wudapt": "lczFilter", "wrf": "LCZ"}[name]
    assert result.here_alone <= 60
    if name != "wudapt":  # of which the filtered zones are taken
        assert result.scores.oa == 1


def test_another_grid_is_read_at_the_middle_of_each_cell(lcz, tmp_path):
    thirds = np.kron(patchy(), np.ones((3, 3), np.uint8))[1:]  # 33 m, one row less
    place = from_origin(WEST, NORTH - 100 / 3, 100 / 3, 100 / 3)
    result = compare_maps(lcz, write_cells(tmp_path / "fine.tif", thirds, transform=place, nodata=0))
    assert (result.cells, result.scores.oa) == (3600, 1)


def test_the_table_has_a_row_for_each_zone(lcz, tmp_path):
    write_table(compare_maps(lcz, write_map(tmp_path / "other", patchy())), tmp_path / "against.csv")
    with (tmp_path / "against.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["code"] for row in rows][-3:] == ["E", "F", "G"]
    assert [int(row[f"here_{row['code']}"]) for row in rows] == [(patchy() == zone).sum() for zone in range(1, 18)]


@pytest.mark.parametrize(
    ("values", "profile"),
    [
        (np.full((60, 60), 18, np.uint8), {}),
        (np.full((60, 60), 6.5, np.float32), {}),
        (np.zeros((60, 60), np.uint8), {"nodata": 0}),
        (np.full((60, 60), np.nan, np.float32), {}),
        (np.full((2, 60, 60), 6, np.uint8), {"names": ["zones", "certainty"]}),
        (np.full((60, 60), 6, np.uint8), {"transform": from_origin(WEST + 6000, NORTH, 100, 100)}),
    ],
    ids=["no zone", "interpolated", "empty", "not a number", "no band of zones", "beside"],
)
def test_what_is_no_map_of_this_place_is_refused(lcz, tmp_path, values, profile):
    other = write_cells(tmp_path / "other.tif", values, **profile)
    with pytest.raises(UserError) as caught:
        compare_maps(lcz, other)
    assert caught.value.where == str(other)


def test_a_folder_without_a_map_is_refused_by_the_file_that_it_lacks(lcz, tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError) as caught:
        compare_maps(lcz, tmp_path / "other")
    assert caught.value.where == str(tmp_path / "other/lcz.tif")


def test_classes_of_land_cover_are_warned_of(lcz, tmp_path):
    trees_and_crops = np.where(np.arange(60) < 40, 1, 2) * np.ones((60, 1))
    worldcover = np.full((60, 60), 10)
    for values in (trees_and_crops, worldcover):
        said = told(compare_maps(lcz, write_cells(tmp_path / "cover.tif", values.astype(np.uint8))))
        assert sum("warning" in line and "more than cities have" in line for line in said) == 1
    mixed = np.where(np.arange(60) < 40, 10, 20) * np.ones((60, 1))
    with pytest.raises(UserError) as caught:
        compare_maps(lcz, write_cells(tmp_path / "esa.tif", mixed.astype(np.uint8)))
    assert caught.value.where == str(tmp_path / "esa.tif")


@pytest.mark.shared
@pytest.mark.parametrize("site", ["282D_485L_3_3", "433D_629L_3_1", "38D_378R_2_3"])
def test_real_land_cover_is_warned_of(lcz, tmp_path, shared_data, site):
    with rasterio.open(shared_data / f"scenes/{site}/lulc.tif") as file:
        crs, place = file.crs, file.transform @ Affine.scale(10)
    folder = write_map(tmp_path / "map", patchy()[:22, :22], crs=crs, transform=place)
    said = told(compare_maps(folder / "lcz.tif", shared_data / f"scenes/{site}/lulc.tif"))
    assert any("warning" in line for line in said)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "crs", "band"),
    [
        ("lcz_generator_map.tif", "EPSG:32756", "lczFilter"),
        ("lcz_v3_berlin.tif", "EPSG:32633", "1"),
        ("lcz_v3_rotterdam.tif", "EPSG:32631", "1"),
    ],
)
def test_of_maps_of_others_the_pixel_in_the_middle_of_each_cell_is_taken(shared_data, tmp_path, name, crs, band):
    path = shared_data / "lcz" / name
    with rasterio.open(path) as file:
        west, south, east, north = transform_bounds(file.crs, crs, *file.bounds)
        place = from_origin(round((west + east) / 2 - 1000, -2), round((south + north) / 2 + 750, -2), 100, 100)
        x, y = place @ np.meshgrid(np.arange(20) + 0.5, np.arange(15) + 0.5)
        places = ~file.transform @ np.array(transform(crs, file.crs, x.ravel(), y.ravel()))
        column, row = np.floor(places).astype(int)
        expected = file.read(2 if file.count > 1 else 1)[row, column].reshape(15, 20)
    folder = write_map(tmp_path / "map", expected, crs=crs, transform=place)
    result = compare_maps(folder / "lcz.tif", path)
    assert result.band == band
    assert result.cells >= (expected > 0).sum() - 2  # places at the very edge of two pixels may be of either
    assert result.scores.oa >= 1 - 2 / result.cells
    assert not any("warning" in line for line in told(result))
    assert len(np.unique(expected)) > 2
