"""From GeoTIFFs to the folder of a map."""

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.transform import from_origin

from bp_lcz.errors import BusyError, UserError
from bp_lcz.files import file_sha256, locked
from bp_lcz.maps import accuracy, change, work
from bp_lcz.maps import map as maps
from bp_lcz.maps.against import told
from bp_lcz.maps.cells import Reason
from bp_lcz.maps.filters import majority
from bp_lcz.maps.inputs import input_files
from bp_lcz.maps.map import MapOptions, make_map, plan_map
from bp_lcz.maps.others import Others
from bp_lcz.model.checkpoint import load_classifier, write_checkpoint
from bp_lcz.records import Accuracy, Likeness, MapReport
from bp_lcz.scenes.scene import SceneOptions, opened_scene
from bp_lcz.scheme import CODES
from bp_lcz.serving.predict import predict_file
from tests.conftest import ROOT
from tests.maps.rasters import patchy, write_cells, write_map
from tests.maps.scenes import OPTICAL, classifier_of
from tests.model.networks import INTENSITIES_ONLY
from tests.records import CALIBRATION
from tests.refusals import refuses
from tests.scenes.rasters import NORTH, WEST, optical, radar, run, write_tif
from tests.scenes.safe import RESOLUTION, ground, write_band, write_item

SIDE = 152


@pytest.fixture
def scene(tmp_path):
    values = optical(SIDE)
    values[:, 100:103, 40] = 0  # no data
    return {
        "s2": write_tif(tmp_path / "s2.tif", values, nodata=0),
        "s1": write_tif(tmp_path / "s1.tif", radar(SIDE)[::-1], names=["VH", "VV"]),
    }


@pytest.fixture(scope="module")
def network():
    return classifier_of()


def options_of(scene, **more):
    return MapOptions(SceneOptions((scene["s2"],)), **more)


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("channels", [OPTICAL, INTENSITIES_ONLY], ids=["optical", "intensities"])
def test_a_map_is_tile_and_predict_cell_by_cell_and_bit_for_bit(scene, tmp_path, channels):
    classifier = classifier_of(channels=channels)
    (tmp_path / "model").mkdir()
    description = classifier.description.model_copy(update={"calibration": CALIBRATION})
    write_checkpoint(tmp_path / "model", classifier.network, description)
    classifier = load_classifier(tmp_path / "model")
    found = []

    class Listening(type(classifier)):
        def classify_alike(self, images, first=0, **options):
            classified = super().classify_alike(images, first, **options)
            found.append(classified[0])
            return classified

    listening = Listening(classifier.network, channels, classifier.description, "cpu")
    if not channels.sen1:
        del scene["s1"]
    s1 = (scene["s1"],) if channels.sen1 else ()
    make_map(listening, "model", MapOptions(SceneOptions((scene["s2"],), s1)), tmp_path / "map", print)
    run(scene, tmp_path / "tiles")
    predict_file(tmp_path, str(tmp_path / "model"), tmp_path / "tiles/patches.h5", tmp_path / "p.parquet")
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "p.parquet")
    probability = np.stack([table[f"p_{number}"].to_numpy() for number in range(1, 18)], axis=1)
    assert np.concatenate(found)[: len(probability)].tobytes() == probability.tobytes()
    with rasterio.open(tmp_path / "map/lcz.tif") as file:
        lcz = file.read(1)
        cells = [
            file.index(east + 160, north - 160)
            for east, north in zip(table["easting"].to_pylist(), table["northing"].to_pylist(), strict=True)
        ]
    assert len(cells) == (lcz > 0).sum() > 100
    np.testing.assert_array_equal([lcz[cell] for cell in cells], probability.argmax(axis=1) + 1)


def test_sets_of_classes_have_a_band_of_their_own(scene, network, tmp_path):
    calibrated = network.description.model_copy(update={"calibration": CALIBRATION})
    report = make_map(
        replace(network, description=calibrated), "small", options_of(scene, set_coverage=0.9), tmp_path / "map"
    )
    assert (report.set_coverage, report.temperature) == (0.9, CALIBRATION.temperature)
    with rasterio.open(tmp_path / "map/quality.tif") as file:
        assert file.descriptions[4] == "classes in a set of coverage 90%"
        *_, reason, classes = file.read()
    has_zone = np.isin(reason, (Reason.MAPPED, Reason.UNLIKE))
    assert ((classes[has_zone] >= 1) & (classes[has_zone] <= 17)).all()
    assert (classes[~has_zone] == 255).all()


def test_a_model_without_calibration_makes_no_sets_and_no_map(scene, network, tmp_path):
    with refuses("small", "calibration"):
        make_map(network, "small", options_of(scene, set_coverage=0.9), tmp_path / "map")
    assert not (tmp_path / "map").exists()


def test_the_files_of_a_map(scene, network, tmp_path):
    out = tmp_path / "berlin"
    said = []
    report = make_map(network, "small", options_of(scene, exports=("wrf",)), out, said.append)
    names = {"lcz.tif", "lcz.qml", "lcz.tif.aux.xml", "probability.tif", "quality.tif", "areas.csv", "report.json"}
    assert set(content(out)) >= names | {"item.json", "map.html", "exports/wrf.tif"}
    with rasterio.open(out / "lcz.tif") as file:
        assert (file.count, file.dtypes, file.nodata, file.crs.to_epsg()) == (1, ("uint8",), 0, 32633)
        assert (file.transform.c % 100, file.transform.f % 100, file.transform.a) == (0, 0, 100)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.colormap(1)[17] == (106, 106, 255, 255)
        lcz, bounds = file.read(1), file.bounds
    assert bounds.left <= WEST < WEST + 10 * SIDE <= bounds.right
    assert bounds.bottom <= NORTH - 10 * SIDE < NORTH <= bounds.top
    with rasterio.open(out / "quality.tif") as file:
        reason = file.read(4)
    assert dict(zip(*np.unique(reason, return_counts=True), strict=True)) == {
        Reason[key]: report.reasons[Reason[key].word] for key in ("MAPPED", "RIM", "SENTINEL2_MISSING")
    }
    assert sum(report.reasons.values()) == lcz.size
    np.testing.assert_array_equal(lcz > 0, reason == Reason.MAPPED)
    with rasterio.open(out / "probability.tif") as file:
        percent = file.read()
    assert (percent[:, lcz == 0] == 255).all()
    own = [percent[zone - 1, row, column] for (row, column), zone in np.ndenumerate(lcz) if zone]
    np.testing.assert_array_equal(own, percent.max(axis=0)[lcz > 0])
    areas = list(csv.DictReader((out / "areas.csv").open()))
    assert [float(row["km2"]) for row in areas] == [(lcz == value).sum() / 100 for value in range(1, 18)]
    assert MapReport.read(out / "report.json") == report
    item = json.loads((out / "item.json").read_text())
    assert all((out / asset["href"]).is_file() for asset in item["assets"].values())
    assert 13 < item["bbox"][0] < item["bbox"][2] < 14
    assert any("map.html" in line for line in said)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("row", [0, 3, 9])
def test_a_run_that_was_ended_goes_on_and_gives_equal_bytes(scene, network, tmp_path, monkeypatch, row):
    monkeypatch.setattr(work, "_SECONDS", 0)
    make_map(network, "small", options_of(scene), tmp_path / "whole/berlin", print)
    asked = []
    predict = maps.predict_cells

    def ended(scene, classifier, kept, first, *more):
        asked.append(first)
        for number, cells in enumerate(predict(scene, classifier, kept, first, *more), start=first):
            if len(asked) == 1 and number == row:
                raise KeyboardInterrupt
            yield cells

    monkeypatch.setattr(maps, "predict_cells", ended)
    out = tmp_path / "berlin"
    with pytest.raises(KeyboardInterrupt):
        make_map(network, "small", options_of(scene), out, print)
    assert not out.exists()
    (file,) = (tmp_path / ".berlin.work").glob("*.rows")
    with file.open("ab") as rows:
        rows.write(b"half a row")
    make_map(network, "small", options_of(scene), out, print)
    assert asked == [0, row]
    assert content(out) == content(tmp_path / "whole/berlin")
    assert not (tmp_path / ".berlin.work").exists()


@pytest.mark.slow
def test_a_map_whose_makers_are_killed_again_and_again_has_the_bytes_of_one_made_at_once(network, tmp_path):
    (tmp_path / "model").mkdir()
    write_checkpoint(tmp_path / "model", network.network, network.description)
    s2 = write_tif(tmp_path / "s2.tif", optical(472))
    for folder, kills in (("whole", 0), ("killed", 20)):
        command = [sys.executable, "-m", "tests.maps.killed", tmp_path / "model", s2, tmp_path / folder / "berlin"]
        done = subprocess.run([*command, str(kills)], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5
    assert content(tmp_path / "killed/berlin") == content(tmp_path / "whole/berlin")


def test_rows_of_another_model_are_not_taken(scene, network, tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "write_rasters", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_map(network, "small", options_of(scene), tmp_path / "berlin", print)
    monkeypatch.undo()
    said = []
    other = classifier_of()
    description = other.description.model_copy(update={"weights_sha256": "other"})
    other = type(other)(other.network, other.channels, description, "cpu")
    make_map(other, "other", options_of(scene), tmp_path / "berlin", said.append)
    assert not any("goes on" in line for line in said)


def test_rows_of_a_scene_one_of_whose_assets_has_changed_are_not_taken(network, tmp_path, monkeypatch):
    bands = {band: tmp_path / "r" / f"{band}.tif" for band in ground()}
    for band, path in bands.items():
        write_band(path, ground()[band], RESOLUTION.get(band, 20))
    item = write_item(tmp_path / "item.json", {band: {"href": f"r/{band}.tif"} for band in bands})
    monkeypatch.setattr(maps, "write_rasters", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_map(network, "small", options_of({"s2": item}), tmp_path / "berlin", print)
    monkeypatch.undo()
    write_band(bands["B04"], ground(seed=1)["B04"], 10)
    said = []
    report = make_map(network, "small", options_of({"s2": item}), tmp_path / "berlin", said.append)
    assert not any("goes on" in line for line in said)
    hashes = {file.name: file.sha256 for file in report.inputs}
    assert hashes.keys() == {"item.json", *(f"{band}.tif" for band in bands)}
    assert hashes["B04.tif"] == file_sha256(bands["B04"])


def test_a_file_that_changes_while_it_is_read_makes_no_map(scene, network, tmp_path, monkeypatch):
    predict = maps.predict_cells

    def touched(*arguments):
        yield from predict(*arguments)
        os.utime(scene["s2"], ns=(1, 1))

    monkeypatch.setattr(maps, "predict_cells", touched)
    with pytest.raises(UserError) as refused:
        make_map(network, "small", options_of(scene), tmp_path / "berlin", print)
    assert refused.value.where == str(scene["s2"])
    assert not (tmp_path / "berlin").exists()


def test_files_that_virtual_rasters_name_are_inputs_however_deep(scene, tmp_path):
    inner, outer = tmp_path / "inner.vrt", tmp_path / "outer.vrt"
    rasterio.shutil.copy(scene["s2"], inner, driver="VRT")
    outer.write_text(inner.read_text().replace("s2.tif", "inner.vrt"))
    options = SceneOptions((outer,))
    with opened_scene(options) as opened:
        assert input_files(options, opened) == [outer, inner, scene["s2"]]


def test_an_item_has_the_time_of_its_scenes_and_no_byte_from_the_disk(network, tmp_path):
    item = _item_of(network, tmp_path / "a/S2A_MSIL1C_20220101T101401_N0400_R022_T33UUU_20220102T000000.tif")
    assert item["properties"]["datetime"] == "2022-01-01T10:14:01Z"
    again = _item_of(network, tmp_path / "b/S2A_MSIL1C_20220101T101401_N0400_R022_T33UUU_20220102T000000.tif", 1)
    assert item == again
    unknown = _item_of(network, tmp_path / "c/s2.tif")["properties"]
    assert (unknown["datetime"], unknown["start_datetime"]) == (None, "2015-06-27T00:00:00Z")
    assert unknown["end_datetime"] > "2026"


def _item_of(network, path, time_of_change=None):
    path.parent.mkdir()
    write_tif(path, optical(52, offset=1000))
    if time_of_change is not None:
        os.utime(path, ns=(time_of_change, time_of_change))
    make_map(network, "small", MapOptions(SceneOptions((path,), s2_level="L1C")), path.parent / "city", print)
    return json.loads((path.parent / "city/item.json").read_text())


def test_a_map_of_pixels_that_were_made_anew_says_so_wherever_it_goes(network, tmp_path):
    path = write_tif(tmp_path / "s2.tif", optical(60), transform=from_origin(13.4, 52.5, 1.4e-4, 9e-5), crs="EPSG:4326")
    said = []
    report = make_map(network, "small", options_of({"s2": path}), tmp_path / "berlin", said.append)
    assert report.scene.files[0].resampled
    (notice,) = [notice for notice in report.notices if "made anew" in notice]
    assert notice in said
    assert "made anew" in (tmp_path / "berlin/map.html").read_text()
    assert "made anew" in (tmp_path / "berlin/areas.csv").read_text()


def test_what_cannot_be_made_is_refused_and_leaves_nothing(scene, network, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError) as refused:
        make_map(network, "small", options_of(scene), tmp_path / "there", print)
    assert refused.value.where == str(tmp_path / "there")
    with pytest.raises(UserError) as refused:
        make_map(network, "small", options_of(scene), tmp_path / ("x" * 300), print)
    assert refused.value.where == str(tmp_path / ("x" * 300))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 2**20))
    with pytest.raises(UserError, match="1 MiB free") as refused:
        make_map(network, "small", options_of(scene), tmp_path / "new/berlin", print)
    assert refused.value.where == str(tmp_path)
    monkeypatch.undo()
    small = write_tif(tmp_path / "small.tif", optical(52)[:, :34, :34], west=WEST + 50)
    with pytest.raises(UserError) as refused:
        make_map(network, "small", options_of({"s2": small}), tmp_path / "new/berlin", print)
    assert refused.value.where == str(small)
    assert "rim 100.0 %" in refused.value.what
    assert not list((tmp_path / "new").iterdir())


def test_a_map_in_the_making_is_busy(scene, network, tmp_path):
    with locked(tmp_path / ".berlin.work/lock"), pytest.raises(BusyError):
        make_map(network, "small", options_of(scene), tmp_path / "berlin", print)


def test_a_level_that_the_model_does_not_take_is_refused_unless_told_and_then_said(network, tmp_path):
    names = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
    scene = {"s2": write_tif(tmp_path / "s2.tif", optical(52, 12), names=names)}
    with pytest.raises(UserError, match="L2A") as refused:
        make_map(network, "small", options_of(scene), tmp_path / "berlin", print)
    assert refused.value.where == str(scene["s2"])
    report = make_map(network, "small", options_of(scene, other_level=True), tmp_path / "berlin", print)
    assert any("L2A" in notice for notice in report.notices)
    for name in ("areas.csv", "item.json", "map.html", "report.json"):
        assert "L2A" in (tmp_path / "berlin" / name).read_text()
    for name in ("lcz.tif", "probability.tif", "quality.tif"):
        with rasterio.open(tmp_path / "berlin" / name) as file:
            assert "L2A" in file.tags()["notice"]


def test_a_map_of_cells_unlike_the_training_data_says_so_wherever_it_goes(scene, network, tmp_path):
    likeness = Likeness(centre=(0.0,) * 10, scale=(1.0,) * 10, mixing=None, limit=0.0)
    strange = replace(network, description=network.description.model_copy(update={"likeness": likeness}))
    report = make_map(strange, "small", options_of(scene), tmp_path / "berlin", print)
    assert report.reasons[Reason.UNLIKE.word] == sum(report.zones.values())
    assert report.reasons[Reason.MAPPED.word] == 0
    with rasterio.open(tmp_path / "berlin/lcz.tif") as file:
        assert file.tags()["notice"] == " ".join(report.notices) != ""


def test_a_dry_run_says_what_would_be_made_and_writes_nothing(scene, network, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    lines = []
    found = plan_map(network, "small", options_of(scene), tmp_path / "new/berlin", lines.append)
    assert (found.crs, found.across, found.down, found.cell, found.device) == ("EPSG:32633", 17, 17, 100.0, "cpu")
    assert 0 < found.cells <= 17 * 17
    assert found.reasons[Reason.RIM.word] > 0
    assert found.seconds > 0
    assert any("EPSG:32633, 17 x 17 cells of 100 m" in line for line in lines)
    assert any("rim" in line and "mapped" in line for line in lines)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_of_a_scene_without_a_whole_patch_is_refused_after_what_was_found(network, tmp_path):
    small, lines = write_tif(tmp_path / "small.tif", optical(52)[:, :34, :34], west=WEST + 50), []
    with pytest.raises(UserError) as refused:
        plan_map(network, "small", options_of({"s2": small}), tell=lines.append)
    assert refused.value.where == str(small)
    assert "5 of 5 rows" in refused.value.what
    assert any(line.startswith("grid: ") for line in lines)


@pytest.mark.parametrize("down", [20, 27, 40])
def test_the_rows_that_a_dry_run_looks_at_stand_for_all(network, tmp_path, down):
    path = write_tif(tmp_path / "s2.tif", optical(10 * down)[:, :, :60])
    found = plan_map(network, "small", options_of({"s2": path}), tell=print)
    report = make_map(network, "small", options_of({"s2": path}), tmp_path / "out", print)
    made = sum(report.zones.values())
    assert abs(found.cells - made) <= 1.5 * made / (down - 7), "a row and a half of those that have zones"


def test_a_dry_run_looks_on_until_it_finds_a_cell(network, tmp_path):
    values = optical(600)
    values[:, :550] = 0
    path = write_tif(tmp_path / "s2.tif", values[:, :, :60], nodata=0)
    lines = []
    plan_map(network, "small", options_of({"s2": path}), tell=lines.append)
    assert any("mapped" in line for line in lines)


def test_a_filter_goes_over_the_zones_and_not_the_probabilities(scene, network, tmp_path):
    plain, filtered = tmp_path / "plain", tmp_path / "filtered"
    make_map(network, "small", options_of(scene), plain, print)
    make_map(network, "small", options_of(scene, filter="majority"), filtered, print)
    assert (plain / "probability.tif").read_bytes() == (filtered / "probability.tif").read_bytes()
    before, after = (rasterio.open(folder / "lcz.tif").read(1) for folder in (plain, filtered))
    assert (after == majority(before)).all()
    assert MapReport.read(filtered / "report.json").filter == "majority"


def test_a_report_holds_what_a_comparison_with_other_maps_found(scene, network, tmp_path):
    plain, out = tmp_path / "plain", tmp_path / "out"
    zone = next(iter(make_map(network, "small", options_of(scene), plain, print).zones))
    half = np.where(np.arange(17) < 8, CODES.index(zone) + 1, 2 if zone == "1" else 1) * np.ones((17, 1))
    place = rasterio.open(plain / "lcz.tif").transform
    other = write_cells(tmp_path / "other.tif", half.astype(np.uint8), transform=place, nodata=0)
    said = []
    make_map(
        network,
        "small",
        options_of(scene, others=Others(against=other, compare=plain, same_year=plain)),
        out,
        said.append,
    )
    report = MapReport.read(out / "report.json")
    assert (report.change.pair.changed, report.change.noise.changed) == (0, 0)
    assert report.against.cells == sum(report.zones.values())
    assert 0 < report.against.scores.oa < 1
    for name in ("against", "change"):
        assert (out / f"{name}.csv").is_file()
    assert {*told(report.against), *change.told(report.change)} <= set(said)
    assert change.verdict(report.change).capitalize() in (out / "map.html").read_text()


def test_what_cannot_be_compared_in_the_end_is_refused_at_once(scene, network, tmp_path):
    beside = write_map(tmp_path / "beside", patchy(), transform=from_origin(WEST + 50_000, NORTH, 100, 100)) / "lcz.tif"
    for other in (tmp_path / "none.tif", beside):
        with pytest.raises(UserError) as caught:
            plan_map(network, "small", options_of(scene, others=Others(against=other)), tmp_path / "out")
        assert caught.value.where == str(other)


def test_a_map_that_is_held_against_a_reference_tells_how_right_it_is_wherever_it_goes(scene, network, tmp_path):
    plain, out = tmp_path / "plain", tmp_path / "out"
    make_map(network, "small", options_of(scene), plain, print)
    with rasterio.open(plain / "lcz.tif") as file:
        lcz, place = file.read(1), file.transform
    half = np.where(np.arange(lcz.shape[1]) < 8, lcz, lcz % 17 + (lcz > 0)).astype(np.uint8)
    known = write_cells(tmp_path / "known.tif", half, transform=place, nodata=0)
    said = []
    report = make_map(network, "small", options_of(scene, others=Others(reference=known)), out, said.append)
    found = Accuracy.read(out / "accuracy.json")
    assert found == report.accuracy == MapReport.read(out / "report.json").accuracy
    assert found.metrics["oa"].value == (lcz[:, :8] > 0).sum() / (lcz > 0).sum()
    assert found.seen == 0  # of simulated patches
    assert set(accuracy.told(found)) <= set(said)
    rows = list(csv.DictReader((out / "confusion.csv").open()))
    assert [[int(row[f"map_{code}"]) for code in CODES] for row in rows] == [list(row) for row in found.confusion]
    areas = list(csv.DictReader((out / "areas.csv").open()))
    known_km2 = sum(float(row["km2_adjusted"] or 0) for row in areas)
    assert known_km2 + found.unadjusted_km2 == pytest.approx((lcz > 0).sum() / 100, abs=0.1)
    page = (out / "map.html").read_text()
    assert found.reference in page
    assert "Nobody has checked" not in page
