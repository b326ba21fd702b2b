"""Polygons of zones as people draw them."""

import json
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from bp_lcz.scenes.polygons import read_zones
from tests.refusals import refuses, states
from tests.scenes.drawn import degrees, geojson, kml, square, written

TWO = [square(0, 0), square(1000, 0)]


@pytest.mark.parametrize("kind", ["geojson", "gpkg", "shp", "kml", "kmz"])
def test_zones_of_any_format_come_in_degrees(tmp_path, kind):
    path = tmp_path / f"areas.{kind}"
    if kind in ("kml", "kmz"):
        kml(tmp_path / "doc.kml", {"2": TWO[:1], "101": TWO[1:]}, height=34)
        (tmp_path / "doc.kml").replace(path)
    if kind == "kmz":
        content = path.read_bytes()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("doc.kml", content)
    if kind == "geojson":
        geojson(path, TWO, LCZ=["2", "A"])
    if kind in ("gpkg", "shp"):
        written(path, {"gpkg": "GPKG", "shp": "ESRI Shapefile"}[kind], TWO, ["2", "A"])
    zones = read_zones(path)
    assert list(zones.classes) == [2, 11]
    assert len(set(zones.ids)) == 2
    for shape, expected in zip(zones.shapes, TWO, strict=True):
        assert not shape.has_z
        assert shape.symmetric_difference(degrees(expected)).area < 0.001 * shape.area


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([1, 17], [1, 17]),
        ([10.0, 101.0], [10, 11]),
        (["LCZ 1", "LCZ G"], [1, 17]),
        (["lcz_04", "LCZ-B: Scattered trees"], [4, 12]),
        (["Compact highrise", "Bush, scrub"], [1, 13]),
        (["2", None], [2]),
    ],
)
def test_codings_of_zones_are_understood(tmp_path, values, classes):
    zones = read_zones(geojson(tmp_path / "areas.geojson", TWO, id=[7, 8], lcz_class=values))
    assert list(zones.classes) == classes


def test_folders_of_the_template_go_before_the_names_of_polygons(tmp_path):
    zones = read_zones(kml(tmp_path / "areas.kml", {"LCZ 3: Compact low-rise": TWO[:1], "Water": TWO[1:], "A": []}))
    assert list(zones.classes) == [3, 17]


def test_a_field_can_be_named_and_foreign_names_mapped_or_dropped(tmp_path):
    shapes = [*TWO, square(2000, 0)]
    path = geojson(tmp_path / "areas.geojson", shapes, LCZ=[1, 2, 3], art=["Dichte Bäume", "Park", "LCZ 2"])
    assert list(read_zones(path).classes) == [1, 2, 3]
    with refuses(path, "art", "Dichte Bäume", "Park", "--label-map", "LCZ 1"):
        read_zones(path, field="art")
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"Dichte Bäume": "A", "Park": None}))
    zones = read_zones(path, "art", names)
    assert list(zones.classes) == [11, 2]
    assert states(zones.lines[1], "1 that --label-map drops")
    with refuses(path, "has no field typ", "art", "LCZ"):
        read_zones(path, field="typ")


def test_what_is_left_out_is_counted_by_reason(tmp_path):
    shapes = [*TWO, TWO[0], square(2000, 0), shapely.Point(390_000, 5_820_000), square(3000, 0), square(4000, 0)]
    path = geojson(
        tmp_path / "areas.geojson",
        shapes,
        LCZ=[2, 3, 2, 4, 5, None, 6],
        qc_step1=["True", "T", "T", "F", "T", "T", "True"],
        license=["CC BY", "CC BY", "CC0", "CC0", "CC0", "CC0", None],
    )
    zones = read_zones(path)
    assert (zones.ids, list(zones.classes)) == (("#1", "#2", "#7"), [2, 3, 6])
    for fact in ("1 Point", "1 without a zone", "1 failed by qc_step1", "1 drawn a second time"):
        assert states(zones.lines[1], fact)
    assert states(zones.source, "licences CC BY (2)")


def test_polygons_that_contradict_each_other_are_refused_or_lose_that_ground(tmp_path):
    ring = square(2000, 0, 900).difference(square(2300, 300, 300))
    shapes = [square(0, 0, 400), square(300, 0, 400), ring, square(2300, 300, 300), square(2010, 10, 200)]
    path = geojson(tmp_path / "areas.geojson", shapes, LCZ=[1, 2, 3, "G", 9])
    with refuses(path, "2 pairs", "#1", "LCZ 2", "--overlaps leave-out"):
        read_zones(path)
    zones = read_zones(path, overlaps="leave-out")
    assert zones.ids == ("#1", "#2", "#3", "#4")
    rest = [square(0, 0, 400).difference(shapes[1]), shapes[1].difference(shapes[0]), ring.difference(shapes[4])]
    for shape, expected in zip(zones.shapes, rest, strict=False):
        assert shape.symmetric_difference(degrees(expected)).area < 0.001 * shape.area
    assert any(states(line, "1 wholly taken for another zone") for line in zones.lines)
    assert any(states(line, "2 pairs") for line in zones.lines)


def test_polygons_of_several_parts_with_holes_stay_one(tmp_path):
    parts = shapely.union_all([square(0, 0, 900).difference(square(300, 300)), square(2000, 0)])
    (shape,) = read_zones(geojson(tmp_path / "areas.geojson", [parts], LCZ=["A"])).shapes
    assert shape.symmetric_difference(degrees(parts)).area < 0.001 * shape.area


def test_longitudes_of_a_projection_go_on_beyond_180(tmp_path):
    path = written(tmp_path / "areas.gpkg", "GPKG", [shapely.box(817_000, 8e6, 822_000, 8.001e6)], ["G"], "EPSG:32760")
    west, _, east, _ = read_zones(path).shapes[0].bounds
    assert west < 180 < east < west + 0.1


@pytest.mark.parametrize(
    "damage", ["missing", "empty", "no zones", "numbered", "one folder", "crossing", "all failed", "no GeoParquet"]
)
def test_files_without_usable_zones_are_one_line(tmp_path, damage):
    path, facts = tmp_path / "areas.geojson", []
    if damage == "empty":
        geojson(path, [])
    elif damage == "no zones":
        path, facts = kml(tmp_path / "areas.kml", {"Mitte": TWO[:1], "Wedding": TWO[1:]}), ["Mitte", "LCZ 1"]
    elif damage == "one folder":  # whose name may be that of the file, not of a zone
        path, facts = kml(tmp_path / "areas.kml", {"LCZ 2": TWO}), ["polygon 1", "polygon 2"]
    elif damage == "numbered":
        geojson(path, TWO, name=["1", "18"])
        facts = [18]
    elif damage == "crossing":
        geojson(path, [*TWO, shapely.Polygon([(4e5, 58e5), (41e4, 581e4), (41e4, 58e5), (4e5, 581e4)])], LCZ=[1, 2, 3])
        facts = ["polygon 3"]
    elif damage == "no GeoParquet":
        path = tmp_path / "areas.parquet"
        pq.write_table(pa.table({"LCZ": [1]}), path)
    elif damage == "all failed":
        geojson(path, TWO, LCZ=[1, 2], qc_step2=[False, False])
        facts = ["2 failed by qc_step2"]
    with refuses(path, *facts) as caught:
        read_zones(path)
    assert "\n" not in str(caught.value)


@pytest.mark.shared
def test_real_submissions_of_berlin_are_tidied(shared_data):
    path = shared_data / "lcz/wudapt_berlin.parquet"
    with refuses(path, "1 pair", "#5", "#8"):
        read_zones(path)
    found = read_zones(path, overlaps="leave-out")
    assert list(found.classes) == [2, 4, 5, 1, 2, 2, 2, 2, 2, 2]
    assert states(found.lines[1], "2 failed by qc_step2")
    assert states(found.lines[1], "4 drawn a second time")
    assert "CC BY-NC-SA 4.0 (6)" in found.source
