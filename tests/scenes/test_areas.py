"""Areas as people draw them."""

import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from rasterio.crs import CRS

from bp_lcz.errors import UserError
from bp_lcz.scenes.areas import area_files, drawn_polygons, moved, read_area
from bp_lcz.scenes.scene import SceneOptions, opened_scene
from tests.refusals import refuses
from tests.scenes.drawn import degrees
from tests.scenes.rasters import NORTH, UTM, WEST, optical, write_tif

SQUARE = shapely.box(WEST + 310, NORTH - 610, WEST + 610, NORTH - 310)
BOW = shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])


def geojson(path: Path, *shapes) -> Path:
    features = [{"type": "Feature", "properties": {}, "geometry": json.loads(shapely.to_geojson(s))} for s in shapes]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.mark.parametrize("kind", ["geojson", "gpkg", "shp", "kml"])
def test_polygons_of_any_format_and_coordinates_come_onto_the_grid(tmp_path, kind):
    path, crs = tmp_path / f"area.{kind}", UTM
    driver = {"geojson": "GeoJSON", "gpkg": "GPKG", "shp": "ESRI Shapefile", "kml": "KML"}[kind]
    shape = SQUARE
    if kind in ("geojson", "kml"):
        shape, crs = degrees(shapely.segmentize(SQUARE, 10)), "EPSG:4326"
    wkb = np.array([shapely.to_wkb(shape)])
    pyogrio.raw.write(path, wkb, [], fields=[], geometry_type="Polygon", crs=crs, driver=driver)
    found = read_area(str(path), CRS.from_user_input(UTM))
    assert found.symmetric_difference(SQUARE).area < 0.001 * SQUARE.area


def test_polygons_of_a_collection_are_an_area(tmp_path):
    east = shapely.affinity.translate(SQUARE, 400)
    inner = shapely.GeometryCollection([degrees(east), shapely.Point(13, 52)])
    path = geojson(tmp_path / "area.geojson", shapely.GeometryCollection([degrees(SQUARE), inner]))
    found = read_area(str(path), CRS.from_user_input(UTM))
    assert found.symmetric_difference(shapely.union(SQUARE, east)).area < 0.001 * SQUARE.area
    polygons, others = drawn_polygons(path)
    assert ([one.number for one in polygons], dict(others)) == ([1, 1], {"Point": 1})


def test_a_scene_is_cut_to_the_cells_that_the_area_touches(tmp_path):
    s2 = write_tif(tmp_path / "s2.tif", optical())
    area = geojson(tmp_path / "area.geojson", degrees(SQUARE.buffer(-1)))
    with opened_scene(SceneOptions((s2,), area=str(area))) as scene:
        assert scene.cells == (3, 3)
        cut = scene.strip(0, scene.grid.height)
        place = scene.grid.transform
    with opened_scene(SceneOptions((s2,))) as scene:
        row, column = round((scene.grid.transform.f - place.f) / 10), round((place.c - scene.grid.transform.c) / 10)
        uncut = scene.strip(row, len(cut.outside))
    for key, values in vars(cut).items():
        np.testing.assert_array_equal(values, getattr(uncut, key)[..., column : column + values.shape[-1]])


def test_a_box_in_degrees_may_cross_180():
    box = read_area("179.99,-17.01,-179.99,-16.99", CRS.from_epsg(32701))
    assert box.area == pytest.approx(2130 * 2213, rel=0.01)


@pytest.mark.parametrize("box", ["-72.47,-38.84,-72.49,-38.825", "10.1,50,10,50.1"])
def test_a_box_with_west_and_east_swapped_is_not_taken_for_one_around_the_earth(box):
    with pytest.raises(UserError, match="west and east"):
        read_area(box, CRS.from_epsg(32632))


@pytest.mark.parametrize("damage", ["missing", "text", "empty", "points", "crossing", "no coordinates", "metres"])
def test_areas_that_are_none_are_one_line(tmp_path, damage):
    path = tmp_path / "area.geojson"
    if damage == "text":
        path.write_text("nothing")
    elif damage == "empty":
        geojson(path)
    elif damage == "points":
        geojson(path, shapely.Point(1, 1))
    elif damage == "crossing":
        geojson(path, BOW)
    elif damage == "metres":  # GeoJSON is in degrees where it does not say otherwise
        geojson(path, SQUARE)
    elif damage == "no coordinates":
        path = tmp_path / "area.shp"
        pyogrio.raw.write(path, np.array([shapely.to_wkb(SQUARE)]), [], fields=[], geometry_type="Polygon")
    with pytest.raises(UserError) as caught:
        read_area(str(path), CRS.from_user_input(UTM))
    assert caught.value.where == str(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [None, "nonsense"])
def test_of_a_shapefile_without_coordinates_is_said_where_they_lie(tmp_path, text):
    path = tmp_path / "area.shp"
    wkb = np.array([shapely.to_wkb(SQUARE)])
    pyogrio.raw.write(path, wkb, [], fields=[], geometry_type="Polygon", crs=UTM, driver="ESRI Shapefile")
    prj = path.with_suffix(".prj")
    prj.unlink() if text is None else prj.write_text(text)
    with pytest.raises(UserError) as caught:
        read_area(str(path), CRS.from_user_input(UTM))
    assert caught.value.where == str(path)
    assert prj.name in caught.value.what


@pytest.mark.parametrize("box", ["1,2,3,x", "10,50,10,51", "10,51,11,50", "500,0,501,1"])
def test_boxes_that_are_none_are_one_line(box):
    with pytest.raises(UserError) as caught:
        read_area(box, CRS.from_user_input(UTM))
    assert caught.value.where == f"--area {box}"


def test_files_beside_a_shapefile_belong_to_the_area(tmp_path):
    files = [tmp_path / f"area.{end}" for end in ("PRJ", "cpg", "dbf", "shp", "shx")]
    for file in (*files, tmp_path / "area.tif", tmp_path / "other.dbf"):
        file.touch()
    assert area_files(str(tmp_path / "area.shp")) == files
    assert area_files(str(tmp_path / "area.tif")) == [tmp_path / "area.tif"]
    assert area_files("13,48,14,49") == area_files(None) == []


def test_an_area_elsewhere_is_refused(tmp_path):
    s2 = write_tif(tmp_path / "s2.tif", optical())
    with pytest.raises(UserError) as caught, opened_scene(SceneOptions((s2,), area="13,48,14,49")):
        pass
    assert caught.value.where == "13,48,14,49"


@pytest.mark.parametrize("far", [2e12, 1e200])
def test_an_area_beyond_what_a_projection_knows_is_one_line(tmp_path, far):
    path = tmp_path / "area.gpkg"
    wkb = np.array([shapely.to_wkb(shapely.box(1e12, 1e12, far, 2e12))])
    pyogrio.raw.write(path, wkb, [], fields=[], geometry_type="Polygon", crs=UTM, driver="GPKG")
    with pytest.raises(UserError) as caught:
        read_area(str(path), CRS.from_epsg(32736))
    assert caught.value.where == str(path)


def test_a_polygon_that_would_be_wound_around_the_earth_is_refused_at_once():
    """One damaged corner: joining its sides took minutes."""
    shape = shapely.Polygon([(390790, 5819810), (391090, 5819810), (391090, 1288621568), (390790, 5820110)])
    with refuses("z.shp"):
        moved("z.shp", shape, CRS.from_epsg(32633), CRS.from_epsg(4326))


def test_the_whole_earth_is_not_too_large():
    world = moved("a", shapely.box(-20037508, -20037508, 20037508, 20037508), CRS.from_epsg(3857), CRS.from_epsg(4326))
    assert np.round(world.bounds).tolist() == [-180, -85, 180, 85]
