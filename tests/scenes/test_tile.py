"""Own scenes into patches, on small GeoTIFFs whose content is known."""

import json
from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import from_origin
from rasterio.warp import transform

from bp_lcz.bands import SEN2_BANDS, Channels
from bp_lcz.errors import UserError
from bp_lcz.gate.leakage import find_neighbours
from bp_lcz.params import SPLITS
from bp_lcz.scenes.scene import SceneOptions
from bp_lcz.scenes.split import SplitRule
from bp_lcz.scenes.tile import TileOptions, cut_scenes
from bp_lcz.so2sat.geo import read_geo_of
from bp_lcz.so2sat.layout import open_patches
from tests.refusals import refuses, states
from tests.scenes.rasters import NORTH, ONE_FILE, UTM, WEST, arrays, optical, radar, run, write_tif, zones

L1C = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12"]


def test_patches_are_the_scene_in_so2sats_units_order_and_places(scene, tmp_path):
    lines = run(scene, tmp_path / "berlin")
    assert "s1.tif: VV and VH in decibels" in lines
    assert "s2.tif: digital numbers, no offset" in lines
    found = arrays(tmp_path / "berlin")
    assert found["sen2"].shape == (49, 32, 32, 10)
    with open_patches(tmp_path / "berlin/patches.h5") as reader:
        assert reader.channels.sen1 == ("VH_lee_intensity", "VV_lee_intensity")
        assert reader.channels.sen2 == SEN2_BANDS
    number = 9  # second row, third column of the 7 x 7 patches
    window = np.s_[:, 10:42, 20:52]
    np.testing.assert_allclose(found["sen2"][number], optical()[window].transpose(1, 2, 0) / 1e4, rtol=1e-6)
    np.testing.assert_allclose(found["sen1"][number], 10 ** (radar()[::-1][window].transpose(1, 2, 0) / 10), rtol=1e-5)
    geo = read_geo_of(tmp_path / "berlin/patches.h5", 49)
    assert geo is not None
    assert (geo.easting[number], geo.northing[number], geo.epsg[number]) == (WEST + 200, NORTH - 100, 32633)
    assert set(geo.city) == {"berlin"}


def test_the_label_is_the_majority_of_the_cell_in_the_middle(scene, tmp_path):
    run(scene, tmp_path / "out")
    found = arrays(tmp_path / "out")["label"]
    # Middle cells are columns 11..20 plus 0, 10, ..., 60: the border at 46 cuts the fourth, 5 to 5.
    for column, zone in enumerate([17, 17, 17, 2, 2, 2, 2]):
        assert found[column].argmax() + 1 == zone or column == 3
    strict = TileOptions(split=None, min_share=0.9)
    lines = run(scene, tmp_path / "strict", strict)
    assert "7 patches without a class on 90% of the cell in the middle" in lines
    assert len(arrays(tmp_path / "strict")["label"]) == 42


def test_the_classes_that_the_labels_were_taken_for_are_said(scene, tmp_path):
    lines = run(scene, tmp_path / "out")
    classes = np.bincount(arrays(tmp_path / "out")["label"].argmax(axis=1), minlength=17)
    assert f"lcz.tif: patches of LCZ 2 (Compact mid-rise) {classes[1]}, G (Water) {classes[16]}" in lines
    scene.pop("labels")
    assert not any("LCZ" in line for line in run(scene, tmp_path / "without"))


def test_without_labels_there_is_no_label_key(scene, tmp_path):
    del scene["labels"]
    run(scene, tmp_path / "out", TileOptions())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["patches.h5", "patches_geo.h5"]
    assert sorted(arrays(tmp_path / "out")) == ["sen1", "sen2"]


def test_without_radar_nothing_of_it_is_in_the_files(scene, tmp_path):
    run(scene, tmp_path / "both")
    del scene["s1"]
    run(scene, tmp_path / "out")
    assert sorted(arrays(tmp_path / "out")) == ["label", "sen2"]
    np.testing.assert_array_equal(arrays(tmp_path / "out")["sen2"], arrays(tmp_path / "both")["sen2"])
    with open_patches(tmp_path / "out/patches.h5") as reader:
        assert reader.channels == Channels((), SEN2_BANDS)


@pytest.mark.parametrize(("west", "north"), [(0, 0), (-30, 70), (110, -40)])
def test_cells_stand_on_multiples_of_100_m_wherever_the_scene_begins(scene, tmp_path, west, north):
    place = from_origin(WEST + west, NORTH + north, 10, 10)
    scene = {"s2": write_tif(tmp_path / "moved.tif", optical(), transform=place)}
    run(scene, tmp_path / "out")
    geo = read_geo_of(tmp_path / "out/patches.h5")
    assert geo is not None
    assert set((geo.easting + 110) % 100) == set((geo.northing - 110) % 100) == {0}
    row, column = round((NORTH + north - geo.northing[0]) / 10), round((geo.easting[0] - WEST - west) / 10)
    expected = optical()[:, row : row + 32, column : column + 32].transpose(1, 2, 0) / 1e4
    np.testing.assert_allclose(arrays(tmp_path / "out")["sen2"][0], expected, rtol=1e-6)


def test_splits_of_a_scene_do_not_overlap(tmp_path):
    side = 192
    halves = np.where(np.arange(side) % 20 < 10, 17, 2).astype(np.uint8)
    scene = {
        "s1": write_tif(tmp_path / "s1.tif", radar(side)),
        "s2": write_tif(tmp_path / "s2.tif", optical(side)),
        "labels": write_tif(tmp_path / "lcz.tif", np.tile(halves, (side, 1))[None]),
    }
    lines = run(scene, tmp_path / "out", TileOptions(split=SplitRule(block_m=640.0)))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        f"{split}{end}.h5" for split in SPLITS for end in ("", "_geo")
    )
    assert find_neighbours(tmp_path / "out").status == "none"
    assert lines[-1].startswith("left out    ")


@pytest.mark.parametrize(
    ("bands", "names"),
    [
        (10, None),
        (12, None),
        (13, None),
        (13, L1C),
        (13, [f"Band {name[1:]}" for name in L1C]),
        (11, [*SEN2_BANDS[::-1], "SCL"]),
    ],
    ids=["10", "12", "13", "13 named", "13 named otherwise", "reversed with a mask"],
)
def test_bands_are_found_by_name_or_by_the_order_of_the_product(scene, tmp_path, bands, names):
    stored = names or {10: list(SEN2_BANDS), 12: [n for n in L1C if n != "B10"], 13: L1C}[bands]
    values = optical(bands=bands)
    if bands == 13:
        values[10] = 12  # cirrus: nearly nothing
    scene["s2"] = write_tif(tmp_path / "other.tif", values, names=names)
    run(scene, tmp_path / "out")
    found = arrays(tmp_path / "out")["sen2"][0, 0, 0]
    position = {name.replace("Band ", "B").replace("B0", "B"): i for i, name in enumerate(stored)}
    expected = [values[position[band.replace("B0", "B")], 0, 0] / 1e4 for band in SEN2_BANDS]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("bands", [10, 13])
def test_the_offset_of_newer_products_is_found_said_and_removed(scene, tmp_path, bands):
    plain = optical(bands=bands)
    if bands == 13:
        plain[10] = 12
    for name, values in (("old", plain), ("new", plain + 1000)):
        scene["s2"] = write_tif(tmp_path / f"{name}.tif", values.astype(np.uint16))
        lines = run(scene, tmp_path / name)
        said = "digital numbers, no offset" if name == "old" else "the +1000 offset of processing baseline 04.00 found"
        assert any(said in line for line in lines)
    np.testing.assert_allclose(arrays(tmp_path / "new")["sen2"], arrays(tmp_path / "old")["sen2"], atol=1e-7)


def test_the_offset_can_be_told(scene, tmp_path):
    run(scene, tmp_path / "none")
    lines = run(scene, tmp_path / "told", s2_offset=1000.0)
    assert "s2.tif: digital numbers, offset 1000 as asked" in lines
    before, after = (arrays(tmp_path / name)["sen2"] for name in ("none", "told"))
    np.testing.assert_allclose(after, np.maximum(before - 0.1, 0), atol=1e-7)
    assert after.min() == 0


def test_reflectance_and_linear_power_are_taken_as_they_are(scene, tmp_path):
    run(scene, tmp_path / "first")
    scene["s2"] = write_tif(tmp_path / "r.tif", (optical() / 1e4).astype(np.float32))
    scene["s1"] = write_tif(tmp_path / "p.tif", 10 ** (radar() / 10))
    lines = run(scene, tmp_path / "second")
    assert "p.tif: VV and VH in linear power" in lines
    assert "r.tif: reflectance, no offset" in lines
    for key in ("sen1", "sen2"):
        np.testing.assert_allclose(arrays(tmp_path / "second")[key], arrays(tmp_path / "first")[key], rtol=1e-5)


def test_radar_and_labels_in_other_coordinates_come_onto_the_grid_of_sentinel_2(scene, tmp_path):
    run(scene, tmp_path / "same")
    # VV = -10 dB in the west and -5 dB in the east, VH 10 dB below, in degrees.
    east, north = (np.array([WEST - 200, WEST + 1200]), np.array([NORTH + 200, NORTH - 1200]))
    lon, lat = transform(UTM, "EPSG:4326", east, north)
    side = 300
    step = ((lon[1] - lon[0]) / side, (lat[0] - lat[1]) / side)
    grid = {"crs": "EPSG:4326", "transform": from_origin(lon[0], lat[0], *step)}
    x = lon[0] + (np.arange(side) + 0.5) * step[0]
    y = lat[0] - (np.arange(side) + 0.5) * step[1]
    columns, _ = transform("EPSG:4326", UTM, np.tile(x, side), np.repeat(y, side))
    is_west = np.array(columns).reshape(side, side) < WEST + 460
    scene["s1"] = write_tif(
        tmp_path / "d1.tif",
        np.stack([np.where(is_west, -10, -5), np.where(is_west, -20, -15)]).astype(np.float32),
        **grid,
    )
    scene["labels"] = write_tif(tmp_path / "dl.tif", np.where(is_west, 17, 2).astype(np.uint8)[None], **grid)
    lines = run(scene, tmp_path / "other")
    assert "0 patches without data in some pixel dropped" in lines
    found, same = arrays(tmp_path / "other"), arrays(tmp_path / "same")
    np.testing.assert_array_equal(found["sen2"], same["sen2"])
    clear = np.arange(49) % 7 != 3
    np.testing.assert_array_equal(found["label"][clear], same["label"][clear])
    vv = 10 * np.log10(found["sen1"][0, :, :, 1])  # columns 0..31: all west
    np.testing.assert_allclose(vv, -10, atol=1e-4)
    np.testing.assert_allclose(10 * np.log10(found["sen1"][6, :, :, 1]), -5, atol=1e-4)


def test_sentinel_2_in_degrees_is_warped_to_its_utm_zone(scene, tmp_path):
    lon, lat = transform(UTM, "EPSG:4326", [WEST, WEST + 1500], [NORTH, NORTH - 1500])
    side = 110
    grid = {
        "crs": "EPSG:4326",
        "transform": from_origin(lon[0], lat[0], (lon[1] - lon[0]) / side, (lat[0] - lat[1]) / side),
    }
    scene["s1"] = write_tif(tmp_path / "d1.tif", radar(side), **grid)
    scene["s2"] = write_tif(tmp_path / "d2.tif", optical(side), **grid)
    del scene["labels"]
    lines = run(scene, tmp_path / "out")
    assert any(states(line, "EPSG:32633") for line in lines)
    geo = read_geo_of(tmp_path / "out/patches.h5")
    assert geo is not None
    assert set(geo.epsg) == {32633}
    assert np.all(np.abs(geo.easting - WEST - 600) < 800)


@pytest.mark.parametrize("fill", ["declared", "zero", "smaller radar scene"])
def test_patches_without_data_are_dropped_and_counted(scene, tmp_path, fill):
    if fill == "smaller radar scene":
        scene["s1"] = write_tif(tmp_path / "s.tif", radar(92)[:, :, :72])
    else:
        values = optical()
        values[:, :, 72:] = 0 if fill == "zero" else 7
        scene["s2"] = write_tif(tmp_path / "n.tif", values, nodata=7 if fill == "declared" else None)
    lines = run(scene, tmp_path / "out")
    # Columns 72.. are unknown: patches that begin at 50 and 60 reach them.
    assert "14 patches without data in some pixel dropped" in lines
    assert arrays(tmp_path / "out")["sen1"].shape[0] == 35
    assert np.isfinite(arrays(tmp_path / "out")["sen1"]).all()


def test_mapped_labels_are_weak_labels(scene, tmp_path):
    (tmp_path / "map.json").write_text(json.dumps({"17": "G", "2": None}))
    run(scene, tmp_path / "out", label_map=tmp_path / "map.json")
    assert (arrays(tmp_path / "out")["label"].argmax(axis=1) == 16).all()
    with open_patches(tmp_path / "out/patches.h5") as reader:
        assert reader.source == "weak labels: lcz.tif mapped to local climate zones by map.json"


def test_natural_zones_may_be_numbered_from_101(scene, tmp_path):
    scene["labels"] = write_tif(tmp_path / "w.tif", np.full((1, 92, 92), 107, np.uint8))
    run(scene, tmp_path / "out")
    assert (arrays(tmp_path / "out")["label"].argmax(axis=1) == 16).all()


@pytest.mark.parametrize(
    ("damage", "name", "facts"),
    [
        ("no crs", "s1.tif", ["coordinate reference system"]),
        ("elsewhere", "s1.tif", ["overlap", "s2.tif"]),
        ("no tif", "s2.tif", ["readable"]),
        ("missing", "s2.tif", ["not found"]),
        ("swapped radar", "s1.tif", ["brighter", "--s1-bands"]),
        ("scenes swapped", "s1.tif", ["10 bands", "VV", "VH"]),
        ("bands", "s2.tif", ["9 bands", "10, 12, 13 bands", "--s2-bands"]),
        ("names", "s2.tif", ["bands B12", "--s2-bands"]),
        ("complex", "s1.tif", ["complex"]),
        ("uncalibrated", "s1.tif", ["VV of 300"]),
        ("no zones", "lcz.tif", ["40, 50", "--label-map"]),
        ("map", "map.json", ["'H'"]),
        ("incomplete map", "map.json", [2, "lcz.tif"]),
        ("small", "s2.tif", ["20 x 20 pixels"]),
        ("empty", "s2.tif", ["no data"]),
        ("linear", "s1.tif", ["--s1-units linear"]),
    ],
)
def test_scenes_that_do_not_fit_are_one_line_and_leave_nothing(scene, tmp_path, damage, name, facts):
    said, label_map = {}, None
    if damage == "no crs":
        write_tif(scene["s1"], radar(), crs=None, transform=None)
    elif damage == "elsewhere":
        write_tif(scene["s1"], radar(), west=WEST + 50_000)
    elif damage == "no tif":
        scene["s2"].write_text("nothing")
    elif damage == "missing":
        scene["s2"].unlink()
    elif damage == "swapped radar":
        write_tif(scene["s1"], radar()[::-1])
    elif damage == "scenes swapped":
        scene["s2"].replace(scene["s1"])
        write_tif(scene["s2"], optical())
    elif damage == "bands":
        write_tif(scene["s2"], optical(bands=9))
    elif damage == "names":
        write_tif(scene["s2"], optical(), names=[*SEN2_BANDS[:-1], "SCL"])
    elif damage == "complex":  # a type that GDAL has and NumPy has not
        write_tif(scene["s1"], radar().astype(np.complex64), dtype="complex_int16")
    elif damage == "uncalibrated":
        write_tif(scene["s1"], np.full((2, 92, 92), 300, np.uint16))
    elif damage == "no zones":
        write_tif(scene["labels"], np.where(zones() == 2, 40, 50).astype(np.uint8))
    elif damage in ("map", "incomplete map"):
        label_map = tmp_path / "map.json"
        label_map.write_text(json.dumps({"17": "G", "2": "H"} if damage == "map" else {"17": "G"}))
    elif damage == "small":
        write_tif(scene["s2"], optical(20))
    elif damage == "empty":
        write_tif(scene["s2"], np.zeros_like(optical()))
    else:
        said = {"s1_units": "linear"}
    before = sorted(path.name for path in tmp_path.iterdir())
    with refuses(tmp_path / name, *facts):
        run(scene, tmp_path / "out", ONE_FILE, label_map, **said)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("moved", [False, True], ids=["on the grid", "warped"])
@pytest.mark.parametrize("key", ["s1", "s2", "labels"])
def test_of_several_scenes_the_truncated_one_is_named_with_the_cause(scene, tmp_path, key, moved):
    values = {"s1": radar(), "s2": optical(), "labels": zones()}[key]
    side = 11 if moved else 10
    write_tif(scene[key], values, transform=from_origin(WEST, NORTH, side, side))  # no names, which lie at its end
    content = scene[key].read_bytes()
    scene[key].write_bytes(content[: len(content) * 3 // 4])
    with refuses(scene[key], "truncated") as caught:
        run(scene, tmp_path / "out")
    assert "previous exception" not in caught.value.what
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "where"),
    [
        *(({"min_share": share}, f"--min-share {share:g}") for share in (0.0, 1.5, float("nan"), float("inf"))),
        *(({"stride_m": stride}, f"--stride {stride}") for stride in (0, -100, 15)),
        *(({"city": city}, "--city") for city in ("", "  ")),
    ],
)
def test_options_that_make_no_sense_are_refused(options, where):
    with refuses(where):
        TileOptions(**options)


@pytest.mark.parametrize("offset", [500.0, -1000.0, float("nan"), float("inf")])
def test_another_offset_than_that_of_the_baseline_is_refused(offset):
    with pytest.raises(UserError, match="0 or 1000"):
        SceneOptions((Path("s2.tif"),), s2_offset=offset)


SCENES = ("282D_485L_3_3", "38D_378R_2_3", "433D_629L_3_1")
CARRY_OFFSET = {("282D_485L_3_3", "l1c_13"), ("433D_629L_3_1", "l1c_13"), ("433D_629L_3_1", "l2a_12")}


@pytest.mark.shared
@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("product", ["l1c_13", "l2a_12"])
def test_the_offset_of_real_scenes_is_found_where_their_values_carry_it(tmp_path, shared_data, name, product):
    folder = shared_data / "scenes" / name
    lines = cut_scenes(
        SceneOptions((folder / f"s2_{product}bands_dn.tif",), (folder / "s1_rtc_vv_vh_db.tif",)),
        tmp_path / "out",
        None,
        None,
        TileOptions(stride_m=640),
    )
    assert any("+1000" in line for line in lines) == ((name, product) in CARRY_OFFSET)
    assert arrays(tmp_path / "out")["sen2"].shape == (9, 32, 32, 10)
    assert arrays(tmp_path / "out")["sen2"].min() < 0.1


@pytest.mark.shared
def test_a_real_scene_passes_the_gate(tmp_path, shared_data):
    from bp_lcz.gate.quality import gate

    folder = shared_data / "scenes/282D_485L_3_3"
    (tmp_path / "map.json").write_text(json.dumps({"1": "G", "2": "A", "6": "6", "9": "C"}))
    cut_scenes(
        SceneOptions((folder / "s2_l1c_13bands_dn.tif",), (folder / "s1_rtc_vv_vh_db.tif",)),
        tmp_path / "manaus",
        folder / "lulc.tif",
        tmp_path / "map.json",
        TileOptions(),
    )
    summary = gate(tmp_path / "manaus", tmp_path / "gate", reflectance_max=3.0, zeros_max=0.5)
    assert summary.kind == "weak labels"
    assert summary.leakage.status == "none"
    assert summary.leakage.distance >= 320
