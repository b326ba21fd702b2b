"""The forms that other tools read, by the rules with which they read them."""

import json

import numpy as np
import pytest
import rasterio
import shapely.geometry
from rasterio.transform import from_origin
from rasterio.warp import transform

from bp_lcz.errors import UserError
from bp_lcz.maps.exports import export_names, write_exports
from bp_lcz.maps.item import write_item
from tests.maps.rasters import patchy, write_map
from tests.scenes.rasters import NORTH, UTM, WEST


@pytest.fixture
def folder(tmp_path):
    lcz = patchy()
    lcz[50:, :30] = 0
    return write_map(tmp_path / "map", lcz)


def read(path, band=1):
    with rasterio.open(path) as file:
        return file.read(band)


def lcz4r(path):
    """As LCZ4r takes a map: the second of several bands, else the only one; what is not declared no data is a zone."""
    with rasterio.open(path) as file:
        values = file.read(2 if file.count > 1 else 1, masked=True)
    kept = values.compressed()
    assert set(kept) <= set(range(1, 18)), "an undeclared 0 would be taken for a zone"
    return kept


def umep(path):
    """Shares of the zones, as UMEP's LCZ converter counts them: of all values but no data, by 1..10 and 101..107."""
    with rasterio.open(path) as file:
        assert file.nodata is not None
        values = file.read(1).astype(float)
        values[values == file.nodata] = 0
    known = np.count_nonzero(values)
    return [np.count_nonzero(values == code) / known for code in (*range(1, 11), *range(101, 108))]


def test_umep_counts_every_zone(folder):
    write_exports(folder, ["umep"])
    lcz = read(folder / "lcz.tif")
    shares = umep(folder / "exports/umep.tif")
    assert shares == pytest.approx([(lcz == zone).sum() / (lcz > 0).sum() for zone in range(1, 18)])
    assert sum(umep(folder / "lcz.tif")) < 1, "the map itself is none for UMEP: 11 to 17 are no codes of its"


@pytest.mark.parametrize("name", ["wudapt", "wrf"])
def test_lcz4r_takes_no_hole_for_a_zone(folder, name):
    write_exports(folder, [name])
    assert len(lcz4r(folder / f"exports/{name}.tif")) < read(folder / f"exports/{name}.tif").size


def test_wrf_has_the_zones_on_the_grid_of_the_map(folder):
    write_exports(folder, ["wrf"])
    with rasterio.open(folder / "lcz.tif") as source, rasterio.open(folder / "exports/wrf.tif") as file:
        assert (file.read(1) == source.read(1)).all()
        assert (file.transform, file.crs, file.count, file.nodata) == (source.transform, source.crs, 1, 0)
        assert not any("lczFilter" in name for name in file.descriptions), "w2w would take the second band"


def test_wrf_tells_the_share_of_holes(folder, tmp_path):
    (line,) = write_exports(folder, ["wrf"])
    share = 100 * (read(folder / "lcz.tif") == 0).mean()
    assert f"{share:.1f} % of the cells are holes, " in line
    (line,) = write_exports(write_map(tmp_path / "whole", patchy()), ["wrf"])
    assert line.endswith("0.0 % of the cells are holes")


def test_a_wrf_domain_within_the_degrees_that_are_told_lies_on_the_map(tmp_path):
    west = WEST - 200_000  # far from the middle of the zone, where north is turned most
    folder = write_map(tmp_path / "map", patchy(600), transform=from_origin(west, NORTH, 100, 100))
    (line,) = write_exports(folder, ["wrf"])
    words = line.split("within ")[1].replace(" to ", " ").split()
    box = [float(words[i]) for i in (0, 1, 5, 6)]
    for longitude in box[:2]:
        for latitude in box[2:]:
            x, y = transform("EPSG:4326", UTM, [longitude], [latitude])
            assert west - 20 <= x[0] <= west + 60_020
            assert NORTH - 60_020 <= y[0] <= NORTH + 20
    assert box[1] - box[0] > 0.8
    assert box[3] - box[2] > 0.5


def test_wudapt_has_the_three_bands_of_the_lcz_generator_on_its_grid(folder):
    write_exports(folder, ["wudapt"])
    with rasterio.open(folder / "exports/wudapt.tif") as file:
        assert file.descriptions == ("lcz", "lczFilter", "classProbability")
        assert set(file.dtypes) == {"int16"}
        assert file.crs.to_epsg() == 4326
        step = file.transform.a
        assert (file.transform.c / step, file.transform.f / step) == pytest.approx(
            (round(file.transform.c / step), round(file.transform.f / step)), abs=1e-6
        )
        lcz, _, sure = file.read()
        rows, columns = np.nonzero(lcz)
        x, y = transform(file.crs, UTM, *(file.transform @ (columns + 0.5, rows + 0.5)))
    own = read(folder / "lcz.tif")
    row, column = ((NORTH - np.array(y)) // 100).astype(int), ((np.array(x) - WEST) // 100).astype(int)
    assert (lcz[rows, columns] == own[row, column]).mean() > 0.998  # at the very edge of two cells it may be either
    assert (sure[rows, columns] == 60 + lcz[rows, columns]).all()
    assert (sure[lcz == 0] == 0).all()


def test_wudapt_filters_the_cells_of_the_map_before_it_warps_them(tmp_path):
    lcz = np.full((30, 30), 6, np.uint8)
    lcz[15, 15] = 8
    write_exports(write_map(tmp_path / "map", lcz), ["wudapt"])
    with rasterio.open(tmp_path / "map/exports/wudapt.tif") as file:
        raw, filtered, _ = file.read()
    assert (raw == 8).any()
    assert set(filtered[raw > 0]) == {6}


def test_names_are_checked_before_a_map_is_made():
    assert export_names("wrf, umep,wrf") == ("wrf", "umep")
    with pytest.raises(UserError) as caught:
        export_names("wrf,wurf")
    assert caught.value.where == "--export"


def test_a_map_across_180_degrees_has_degrees_that_go_on(tmp_path):
    place = from_origin(167_000, 1_000_000, 100, 100)
    folder = write_map(tmp_path / "map", patchy(), transform=place, crs="EPSG:32601")
    (wrf, _) = write_exports(folder, ["wrf", "wudapt"])
    words = wrf.split("within ")[1].split()
    assert 0.01 < float(words[2]) - float(words[0]) < 0.06
    with rasterio.open(folder / "exports/wudapt.tif") as file:
        assert file.bounds.right - file.bounds.left < 0.08
        assert (file.read(1) > 0).mean() > 0.9
    write_item(folder, "map", [("2022-01-01T00:00:00Z", "2022-01-02T00:00:00Z"), ("2022-02-01T00:00:00Z",) * 2], [])
    item = json.loads((folder / "item.json").read_text())
    west, _, east, _ = item["bbox"]
    assert -180 < east < -179.9 < 179.9 < west < 180
    assert item["geometry"]["type"] == "MultiPolygon"
    shape = shapely.geometry.shape(item["geometry"])
    assert shape.is_valid
    assert (shape.bounds[0], shape.bounds[2]) == (-180, 180)
    assert 0 < shape.area < 0.06**2
    assert item["properties"]["start_datetime"] == "2022-01-01T00:00:00Z"
    assert item["properties"]["end_datetime"] == "2022-02-01T00:00:00Z"
