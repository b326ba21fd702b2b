"""A map against references whose errors are known."""

import csv
import json

import h5py
import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.warp import transform
from rasterio.windows import Window
from shapely import Polygon

from bp_lcz.errors import UserError
from bp_lcz.files import file_sha256
from bp_lcz.maps.accuracy import accuracy_of, doubts_of, told, write_confusion
from bp_lcz.maps.others import Others
from bp_lcz.maps.reference import Reading, near_cells, read_reference, seen_cells
from bp_lcz.records import DataKind
from bp_lcz.so2sat.geo import read_geo, world_files
from bp_lcz.so2sat.places import places_of
from tests.maps.rasters import patchy, write_cells, write_map
from tests.maps.scenes import classifier_of
from tests.refusals import states
from tests.scenes.drawn import geojson, square
from tests.scenes.rasters import NORTH, UTM, WEST

CELLS = (CRS.from_string(UTM), from_origin(WEST, NORTH, 100, 100), (60, 60))


@pytest.fixture(scope="module")
def model():
    return classifier_of().description.model_copy(update={"kind": DataKind.UNSTATED, "dataset": "berlin"})


@pytest.fixture
def raster(tmp_path):
    def written(values):
        return read_reference(write_cells(tmp_path / "known.tif", values, nodata=0), *CELLS)

    return written


def test_a_raster_stands_in_square_kilometres_of_the_grid(raster):
    reference = raster(patchy())
    np.testing.assert_array_equal(reference.zones + 1, patchy())
    counts = np.unique(reference.unit, return_counts=True)[1]
    assert len(counts) == 49  # WEST and NORTH are no multiples of 1 km
    assert counts.max() == 100
    assert counts.sum() == 3600
    assert (reference.unit[:, :-1] == reference.unit[:, 1:]).all(axis=0).sum() == 53
    assert not (reference.unit[:, 0] == reference.unit[:, 1]).all()  # 110 m beyond a multiple of 1 km


def test_a_map_is_as_right_as_it_was_made(raster, model):
    known = patchy()
    known[:, 50:] = 0
    lcz = patchy()
    lcz[:30] = lcz[:30] % 17 + 1
    lcz[0] = 0
    found = accuracy_of(lcz, raster(known), model, None, None)
    assert (found.cells, found.unmapped, found.unit, found.kind) == (59 * 50, 50, "block of 1 km", "raster")
    assert found.metrics["oa"].value == 30 / 59
    low, high = found.metrics["oa"].interval
    assert 0.3 < low < 30 / 59 < high < 0.7
    for zone, counts in zip(found.zones, found.confusion, strict=True):
        assert zone.cells == sum(counts)
        assert zone.km2 * 100 == pytest.approx((lcz == found.zones.index(zone) + 1).sum())
    assert sum(zone.adjusted_km2.value for zone in found.zones) == pytest.approx((lcz > 0).sum() / 100)
    assert found.splits is None
    assert found.ceiling == told(found)[-1]


def test_the_table_has_all_cells_and_the_ends_of_the_intervals(raster, model, tmp_path):
    found = accuracy_of(patchy(), raster(patchy()), model, None, None)
    write_confusion(found, tmp_path / "confusion.csv")
    rows = list(csv.DictReader((tmp_path / "confusion.csv").open()))
    assert sum(int(row["cells"]) for row in rows) == 3600
    assert [int(row[f"map_{row['code']}"]) for row in rows] == [int(row["cells"]) for row in rows]
    assert {(row["producers"], row["users_low"], row["f1_high"]) for row in rows} == {("1.0", "1.0", "1.0")}


def test_a_reference_that_the_map_has_no_zone_in_is_refused(raster, model):
    known = np.where(np.arange(60) < 30, patchy(), 0)
    with pytest.raises(UserError) as refused:
        accuracy_of(np.where(np.arange(60) < 30, 0, patchy()).astype(np.uint8), raster(known), model, None, None)
    assert refused.value.where == "known.tif"


def test_a_reference_that_agrees_by_chance_alone_may_be_no_map_of_zones(raster, model):
    rng = np.random.default_rng(1)
    lcz = rng.integers(1, 18, (60, 60)).astype(np.uint8)
    unlike = accuracy_of(
        lcz, raster(np.where(rng.random((60, 60)) < 0.5, 4, patchy()).astype(np.uint8)), model, None, None
    )
    (doubt,) = doubts_of(unlike)
    assert "LCZ 4 (Open high-rise)" in doubt
    assert f"warning: {doubt}" in told(unlike)
    assert not doubts_of(accuracy_of(patchy(), raster(patchy()), model, None, None))


def drawn(path, *more):
    """Squares of zones 3, 3, 11 and one that holds the middle of no cell, beside those given."""
    squares = [square(100, 100, 400), square(1000, 100, 300), square(100, 1000, 500), square(160, 2000, 80), *more]
    return geojson(path, squares, LCZ=["3", "3", "A", "A", *["G"] * len(more)])


def test_polygons_give_their_zone_to_the_cells_whose_middle_they_hold(tmp_path):
    found = read_reference(drawn(tmp_path / "areas.geojson"), *CELLS)
    expected = np.full((60, 60), -1)
    expected[1:5, 1:5], expected[1:4, 10:13], expected[10:15, 1:6] = 2, 2, 10
    np.testing.assert_array_equal(found.zones, expected)
    assert np.unique(found.unit[found.zones >= 0], return_counts=True)[1].tolist() == [16, 9, 25]
    assert (found.kind, found.sha256) == ("polygons", file_sha256(tmp_path / "areas.geojson"))
    assert sum("without the middle of a cell" in line for line in found.lines) == 1


def test_intervals_and_splits_are_by_polygon(tmp_path, model):
    reference = read_reference(drawn(tmp_path / "areas.geojson"), *CELLS)
    lcz = np.where(reference.unit == 1, 6, reference.zones + 1).astype(np.uint8)
    found = accuracy_of(lcz, reference, model, None, None)
    assert (found.units, found.unit, found.cells) == (3, "polygon", 50)
    assert found.metrics["oa"].value == 41 / 50
    assert found.metrics["oa"].interval == (0, 1)  # of the three polygons drawn, all may be right, or all wrong
    assert 25 / 41 <= found.splits["oa"].interval[0] < found.splits["oa"].interval[1] == 1
    assert set(reference.lines) < set(told(found))
    assert any("too narrow" in line for line in told(found))


def test_polygons_elsewhere_and_those_that_contradict_each_other_are_refused(tmp_path):
    path = drawn(tmp_path / "areas.geojson", square(300, 300, 300))
    beside = (*CELLS[:1], from_origin(WEST + 90_000, NORTH, 100, 100), (60, 60))
    for cells, reading in ((CELLS, Reading()), (beside, Reading(overlaps="leave-out")), (CELLS, Reading(field="zone"))):
        with pytest.raises(UserError) as refused:
            read_reference(path, *cells, reading)
        assert refused.value.where == str(path)
    rest = read_reference(path, *CELLS, Reading(overlaps="leave-out"))
    assert rest.zones[4, 4] == -1
    assert (rest.zones[1, 1], rest.zones[5, 5]) == (2, 16)


def test_of_a_world_of_polygons_those_elsewhere_say_nothing(tmp_path):
    alone = read_reference(drawn(tmp_path / "areas.geojson"), *CELLS)
    crossing = Polygon([(4e5, 57e5), (41e4, 571e4), (41e4, 57e5), (4e5, 571e4)])
    path = drawn(tmp_path / "world.geojson", square(90_000, 0), square(90_100, 0), crossing)
    world = json.loads(path.read_text())
    world["features"][-2]["properties"]["LCZ"] = "a harbour"
    path.write_text(json.dumps(world))
    found = read_reference(path, *CELLS)
    np.testing.assert_array_equal(found.zones, alone.zones)
    assert any(states(line, "3 outside the scene") for line in found.lines)


def test_of_a_raster_of_the_world_the_cells_of_the_map_are_read(tmp_path):
    (west,), (north,) = transform(CELLS[0], CRS.from_epsg(4326), [WEST], [NORTH])
    path, step = tmp_path / "world.tif", 0.0002
    form = {"driver": "GTiff", "dtype": "uint8", "count": 1, "width": round(360 / step), "height": round(180 / step)}
    form |= {"tiled": True, "blockxsize": 4096, "blockysize": 4096, "SPARSE_OK": True, "BIGTIFF": True, "nodata": 0}
    with rasterio.open(path, "w", crs="EPSG:4326", transform=from_origin(-180, 90, step, step), **form) as file:
        row, column = file.index(west, north)
        file.write(np.full((1, 500, 500), 14, np.uint8), window=Window(column, row, 500, 500))
    found = read_reference(path, *CELLS)
    assert (found.zones[2:-2, 2:-2] == 13).all()


def test_what_polygons_need_is_nothing_for_a_raster_and_a_map_of_ours_is_no_reference(tmp_path):
    path = write_cells(tmp_path / "known.tif", patchy(), nodata=0)
    for reference, reading in ((path, Reading(field="LCZ")), (write_map(tmp_path / "map", patchy()), Reading())):
        with pytest.raises(UserError) as refused:
            read_reference(reference, *CELLS, reading)
        assert refused.value.where == str(reference)


def write_places(root, east, north, epsg):
    root.mkdir()
    with h5py.File(root / "training_geo.h5", "w") as file:
        file["city"] = np.array([b"berlin"] * len(east))
        file["epsg"] = np.asarray(epsg)
        file["tfw"] = world_files(np.asarray(east, float), np.asarray(north, float))
    return root


def test_cells_whose_patch_shares_ground_with_a_training_patch_are_seen(raster, model, tmp_path):
    # A patch round the cell in row 10, column 20, one 40 m to the east, and one far away.
    east, north = WEST + 2050 - 160, NORTH - 1050 + 160
    root = write_places(tmp_path / "berlin", [east, east + 40, east + 90_000], [north] * 3, [32633] * 3)
    seen = seen_cells(root, *CELLS)
    rows, columns = np.nonzero(seen)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (7, 13, 17, 23)
    assert len(rows) == 49
    found = accuracy_of(patchy(), raster(patchy()), model, seen, root)
    assert found.seen == 49
    assert accuracy_of(patchy(), raster(patchy()), model, None, None).seen is None
    simulated = model.model_copy(update={"kind": DataKind.SIMULATED})
    assert accuracy_of(patchy(), raster(patchy()), simulated, None, None).seen == 0


def test_a_checkpoint_bounds_the_cells_that_it_has_seen(raster, model, tmp_path):
    east, north = WEST + 2050 - 160, NORTH - 1050 + 160
    root = write_places(tmp_path / "berlin", [east], [north], [32633])
    places = places_of(read_geo(root, "training"))
    near = near_cells(places, *CELLS)
    assert near[seen_cells(root, *CELLS)].all()
    assert 49 < near.sum() < 900
    for told_all in (True, False):
        knowing = model.model_copy(update={"places": places.model_copy(update={"are_all": told_all})})
        found = accuracy_of(patchy(), raster(patchy()), knowing, near, None)
        assert found.seen == near.sum()
        assert "upper bound" in found.seen_by
        assert ("nobody knows" in found.seen_by) is not told_all
    assert near_cells(places, CRS.from_epsg(4326), *CELLS[1:]) is None


def test_training_patches_of_the_next_zone_are_seen_where_they_lie(tmp_path):
    (east,), (north,) = transform(CELLS[0], CRS.from_epsg(32632), [WEST + 2050], [NORTH - 1050])
    seen = seen_cells(write_places(tmp_path / "berlin", [east - 160], [north + 160], [32632]), *CELLS)
    assert seen[7:14, 17:24].all()
    assert seen.sum() == 49


def test_what_was_trained_on_needs_places_and_a_reference(tmp_path):
    tmp_path.joinpath("empty").mkdir()
    with pytest.raises(UserError) as refused:
        seen_cells(tmp_path / "empty", *CELLS)
    assert refused.value.where == str(tmp_path / "empty/training_geo.h5")
    for alone in ({"trained_on": tmp_path}, {"reading": Reading(field="LCZ")}):
        with pytest.raises(UserError) as refused:
            Others(**alone)
        assert refused.value.where == "--reference"
