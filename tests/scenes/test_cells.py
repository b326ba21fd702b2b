"""Polygons as labels: which cells they give, and that no split tears them."""

import json

import h5py
import numpy as np
import pytest
import rasterio
import shapely

from bp_lcz.gate.leakage import find_neighbours
from bp_lcz.gate.quality import gate
from bp_lcz.params import SPLITS
from bp_lcz.scenes.cells import PolygonCells
from bp_lcz.scenes.polygons import read_zones
from bp_lcz.scenes.scene import SceneOptions
from bp_lcz.scenes.split import SplitRule, assign
from bp_lcz.scenes.tile import TileOptions, cut_scenes
from bp_lcz.sensors.raster import CELL_M, cell_grid
from bp_lcz.so2sat.geo import Geo, read_geo, world_files
from bp_lcz.so2sat.layout import open_patches, open_split
from tests.refusals import refuses, states
from tests.scenes.drawn import geojson, kml, square
from tests.scenes.rasters import NORTH, UTM, WEST, arrays, optical, run, write_tif

BY_POLYGON = TileOptions(split=SplitRule("polygon"))
PLACES = [square(110 + 600 * column, 110 + 600 * row, 200) for row in range(3) for column in range(3)]
"""Of two by two cells, 400 m apart."""


@pytest.fixture
def scene(tmp_path):
    return {"s2": write_tif(tmp_path / "s2.tif", optical(192))}


def test_patches_are_the_cells_that_lie_in_a_polygon_as_a_whole(scene, tmp_path):
    shapes = [square(110, 110, 200), square(750, 750, 300), square(1310, 1310, 80), square(9000, 0)]
    scene["labels"] = geojson(tmp_path / "areas.geojson", shapes, LCZ=["2", "G", "A", "1"], license=["CC0"] * 4)
    lines = run(scene, tmp_path / "out")
    with open_patches(tmp_path / "out/patches.h5") as reader:
        assert list(reader.labels().argmax(axis=1) + 1) == [2] * 4 + [17] * 4
        assert reader.source == "polygons of areas.geojson, zones from field LCZ; licences CC0 (3)"
    with h5py.File(tmp_path / "out/patches_geo.h5") as geo:
        corners = geo["tfw"][:, 4:] - [WEST, NORTH]
    expected = [(0, 0), (100, 0), (0, -100), (100, -100), (700, -700), (800, -700), (700, -800), (800, -800)]
    np.testing.assert_allclose(corners, expected)
    facts = ("1 outside the scene", "1 polygon without a whole cell of 100 m, 1 of them smaller than one")
    assert all(any(states(line, fact) for line in lines) for fact in facts)


def test_each_polygon_stands_in_one_split_and_each_zone_in_all(scene, tmp_path):
    folders = {"2": PLACES[:3], "6": PLACES[3:6], "107": PLACES[6:]}
    scene["labels"] = kml(tmp_path / "areas.kml", folders)
    lines = run(scene, tmp_path / "out", BY_POLYGON)
    assert find_neighbours(tmp_path / "out").status == "none"
    owners = {}
    for split in SPLITS:
        with open_split(tmp_path / "out", split) as reader:
            assert set(reader.labels().argmax(axis=1)) == {1, 5, 16}
            count = reader.count
        geo = read_geo(tmp_path / "out", split, count)
        assert geo is not None
        for place in set(zip(geo.easting // 600, geo.northing // 600, strict=True)):
            assert owners.setdefault(place, split) == split
    assert len(owners) == 9
    assert any(states(line, "9 polygons in 9 places") for line in lines)
    assert lines[-1].startswith("left out    0 patches")


def test_polygons_too_few_to_choose_an_epoch_by_are_warned_of(scene, tmp_path):
    scene["labels"] = kml(tmp_path / "areas.kml", {"2": PLACES[:3], "6": PLACES[3:5], "107": PLACES[5:7]})
    assert run(scene, tmp_path / "out", BY_POLYGON)[-1].startswith("warning: validation has one class")


@pytest.mark.parametrize("seed", range(12))
def test_polygons_near_each_other_are_never_torn_apart(tmp_path, seed):
    draw = np.random.default_rng(seed)
    corners, sides = draw.uniform(0, 9000, (40, 2)), draw.uniform(120, 700, 40)
    shapes = [square(*corner, side) for corner, side in zip(corners, sides, strict=True)]
    path = geojson(tmp_path / "areas.geojson", shapes, LCZ=(["2", "3", "D", "G"] * 10))
    zones = read_zones(path, overlaps="leave-out")
    grid = cell_grid(rasterio.CRS.from_user_input(UTM), (WEST, NORTH - 10_000, WEST + 10_000, NORTH))
    cells, patches = PolygonCells(path, zones, grid), []
    for row in range(0, grid.height - 31, 10):
        columns = np.arange(0, grid.width - 31, 10)
        found = cells.classes(row, columns)
        patches += [(row, *pair) for pair in zip(columns[found >= 0], found[found >= 0], strict=True)]
    row, column, zone = np.array(patches).T
    west, north = grid.transform.c + 10.0 * column, grid.transform.f - 10.0 * row
    geo = Geo(np.full(len(row), "x"), np.full(len(row), 32633), world_files(west, north))
    label = np.eye(17, dtype=bool)[zone]
    unit, _ = cells.places(geo, label, 320.0)
    part = assign(geo, SplitRule("polygon", seed=seed), None, unit, label)
    assert (part >= 0).all()
    boxes = shapely.box(west + 110, north - 110 - CELL_M, west + 110 + CELL_M, north - 110)
    inside = [shapely.covers(shape.buffer(1), boxes) for shape in shapes]
    used = [number for number, cells_of in enumerate(inside) if cells_of.any()]
    for one in used:
        for other in used:
            if shapes[one].distance(shapes[other]) < 319:
                kept = [set(part[inside[number] & (zone == zones_of(number))]) for number in (one, other)]
                assert not all(kept) or kept[0] == kept[1]


def zones_of(number):
    return [1, 2, 13, 16][number % 4]


@pytest.mark.parametrize(
    "damage", ["outside", "small", "one place", "two places", "alone", "chain", "no class", "contradiction"]
)
def test_polygons_that_cannot_be_labels_are_one_line_and_leave_nothing(scene, tmp_path, damage):
    shapes, zones, facts = PLACES, ["2", "6", "G"] * 3, []
    if damage == "outside":
        shapes, facts = [square(9000 + 500 * i, 0) for i in range(9)], ["9 outside the scene"]
    elif damage == "small":
        shapes = [shape.buffer(-60) for shape in PLACES]
        facts = ["9 polygons without a whole cell of 100 m, 9 of them smaller than one"]
    elif damage == "one place":
        shapes, zones, facts = PLACES[:1], ["2"], ["1 place", 320]
    elif damage == "two places":
        shapes, zones, facts = PLACES[:2], ["2", "2"], ["2 places", 320, "--split none"]
    elif damage == "alone":
        zones, facts = ["2", "2", "6"] * 2 + ["2", "2", "G"], ["LCZ G", 320, "--label-map"]
    elif damage == "chain":
        links = [square(310 + 600 * column, 110, 400) for column in range(2)]
        shapes, zones, facts = PLACES[:3] + links, ["2"] * 5, ["1 place"]
    elif damage == "no class":
        zones, facts = ["dicht", "offen", "Wasser"] * 3, ["dicht, offen, Wasser", "--label-map"]
    elif damage == "contradiction":
        shapes, zones, facts = [*PLACES, square(150, 150, 120)], [*zones, "9"], ["1 pair", "#10"]
    scene["labels"] = geojson(tmp_path / "areas.geojson", shapes, LCZ=zones)
    before = sorted(path.name for path in tmp_path.iterdir())
    with refuses(scene["labels"], *facts) as caught:
        run(scene, tmp_path / "out", BY_POLYGON)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_polygons_named_in_another_language_are_taken_with_a_map(scene, tmp_path):
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"dicht": "2", "offen": "5", "Wasser": None}))
    scene["labels"] = geojson(tmp_path / "areas.geojson", PLACES, LCZ=["dicht", "offen", "Wasser"] * 3)
    run(scene, tmp_path / "out", TileOptions(split=None), label_map=names)
    assert set(arrays(tmp_path / "out")["label"].argmax(axis=1)) == {1, 4}


@pytest.mark.shared
def test_polygons_on_a_real_scene_pass_the_gate(tmp_path, shared_data):
    folder = shared_data / "scenes/433D_629L_3_1"
    with rasterio.open(folder / "lulc.tif") as file:
        cover, place, crs = file.read(1), file.transform, file.crs
    shapes, zones = [], []
    for row in range(12, 190, 65):
        for column in range(12, 190, 65):
            values, counts = np.unique(cover[row : row + 30, column : column + 30], return_counts=True)
            west, north = place @ (column, row)
            shapes.append(shapely.box(west, north - 300, west + 300, north))
            zones.append({1: "G", 2: "A", 4: "D", 5: "C", 9: "C"}[int(values[counts.argmax()])])
    several = [number for number, zone in enumerate(zones) if zones.count(zone) > 1]
    areas = geojson(
        tmp_path / "areas.geojson",
        [shapes[number] for number in several],
        crs,
        LCZ=[zones[number] for number in several],
        source=["weak labels of lulc.tif"] * len(several),
    )
    scenes = SceneOptions((folder / "s2_l1c_13bands_dn.tif",), (folder / "s1_rtc_vv_vh_db.tif",))
    cut_scenes(scenes, tmp_path / "out", areas, None, BY_POLYGON)
    summary = gate(tmp_path / "out", tmp_path / "gate", reflectance_max=3.0, zeros_max=0.5)
    assert (summary.kind, summary.leakage.status) == ("weak labels", "none")
