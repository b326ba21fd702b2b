"""Change between maps whose differences are known."""

import csv

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.transform import from_origin

from bp_lcz.errors import UserError
from bp_lcz.maps.cells import Reason
from bp_lcz.maps.change import NO_FLOOR, Made, change_between, check_own, read_own, told, verdict, write_change
from bp_lcz.maps.others import Others
from bp_lcz.records import FileFindings, MappedBy, MapReport, SceneFindings
from tests.maps.rasters import patchy, write_cells
from tests.scenes.rasters import NORTH, UTM, WEST

PLACE = from_origin(WEST, NORTH, 100, 100)
CELLS = (CRS.from_string(UTM), PLACE, (60, 60))


def scene_of(level="L1C", year="2024"):
    taken = (f"{year}-06-01T10:00:00Z",) * 2
    file = FileFindings(
        **{"name": "s2.tif", "size": 1, "quantity": "reflectance", "bands": {}, "units": "dn", "scale": 1.0},
        **{"shift": 0.0, "level": level, "taken": taken, "resampled": False, "evidence": ()},
    )
    return SceneFindings(crs=UTM, level=level, files=(file,))


MADE = Made("weights", "none", scene_of(), 1.5)


def own_map(folder, lcz, percent, *, reason=Reason.MAPPED, east=0, made=MADE, crs=UTM):
    """A folder as `bp-lcz map` leaves it; a map of 60 x 60 cells unless asked otherwise."""
    folder.mkdir()
    place = from_origin(WEST + east, NORTH, 100, 100)
    options = {"transform": place, "crs": crs}
    number = np.arange(1, 18)[:, None, None]
    shares = np.where(lcz == number, percent, np.where(lcz == 0, 255, 0)).astype(np.uint8)
    write_cells(folder / "lcz.tif", lcz.astype(np.uint8), nodata=0, **options)
    write_cells(folder / "probability.tif", shares, nodata=255, **options)
    reasons = np.where(lcz > 0, reason, Reason.RIM).astype(np.uint8)
    bands = [reasons * 0, reasons * 0, reasons * 0, reasons, reasons * 0 + 2]  # the last as with --set-coverage
    write_cells(folder / "quality.tif", np.stack(bands), nodata=255, **options)
    MapReport(
        model=MappedBy(
            **{"name": "small", "trial": "small", "weights_sha256": made.weights_sha256},
            **{"dataset": None, "kind": None, "level": "L1C"},
        ),
        **{"notices": (), "scene": made.scene, "inputs": (), "crs": crs, "west": place.c, "north": place.f},
        **{"rows": lcz.shape[0], "columns": lcz.shape[1], "reasons": {}, "zones": {}, "filter": made.filter},
        **{"temperature": made.temperature, "set_coverage": None},
        **{"against": None, "accuracy": None, "change": None, "versions": {}},
    ).write(folder / "report.json")
    return folder


def other_zone(lcz, where):
    return np.where(where, lcz % 17 + 1, lcz)


def cells_of(folder):
    return read_own(folder, *CELLS[1:])


@pytest.fixture
def this(tmp_path):
    return cells_of(own_map(tmp_path / "this", patchy(), 98))


def test_change_is_counted_where_both_maps_are_certain(this, tmp_path):
    row, column = np.indices((60, 60))
    percent = np.where(column < 30, 95, 85)  # with 98: 7 and 17 lack
    lcz = other_zone(patchy(), (row < 6) & (column < 10) | (row >= 50) & (column >= 30))
    found = change_between(this, cells_of(own_map(tmp_path / "then", lcz, percent)), None, ("then", None), PLACE)
    assert (found.pair.cells, found.pair.certain, found.pair.changed) == (3600, 1800, 60)
    assert found.pair.share.value == 60 / 1800
    low, high = found.pair.share.interval
    assert 0 <= low < 60 / 1800 < high
    matrix = np.array(found.pair.transitions)
    assert matrix.sum() - np.trace(matrix) == 60
    assert matrix[lcz[0, 0] - 1, patchy()[0, 0] - 1] >= 36  # rows are zones of the other map
    assert (found.noise, found.beyond, found.blocks) == (None, None, 28)
    assert told(found)[-1] == NO_FLOOR == verdict(found)


@pytest.mark.parametrize(("share", "is_more"), [(0.2, True), (0.05, False)])
def test_only_what_exceeds_two_maps_of_one_year_is_more_than_noise(this, tmp_path, share, is_more):
    generator = np.random.default_rng(1)
    then, noisy = (other_zone(patchy(), generator.random((60, 60)) < part) for part in (share, 0.05))
    pair = [cells_of(own_map(tmp_path / name, lcz, 98)) for name, lcz in (("then", then), ("noisy", noisy))]
    found = change_between(this, *pair, ("then", "noisy"), PLACE)
    assert found.beyond.value == pytest.approx(found.pair.share.value - found.noise.share.value)
    assert (found.beyond.interval[0] > 0) is is_more
    assert NO_FLOOR not in told(found)
    write_change(found, tmp_path / "change.csv")
    rows = list(csv.DictReader((tmp_path / "change.csv").open()))
    for kind, each in (("change", found.pair), ("noise", found.noise)):
        km2 = sum(float(row[f"to_{code}"]) for row in rows if row["kind"] == kind for code in ("1", "A", "G"))
        assert km2 * 100 == pytest.approx(np.array(each.transitions)[:, [0, 10, 16]].sum())


def test_a_map_of_another_part_of_the_grid_is_laid_where_it_belongs(this, tmp_path):
    wide = np.hstack([np.full((60, 20), 3), patchy()])[:50]
    there = cells_of(own_map(tmp_path / "then", wide, 98, east=-2000))
    np.testing.assert_array_equal(there.zones[:50], this.zones[:50])
    assert (there.zones[50:] == -1).all()
    narrow = cells_of(own_map(tmp_path / "narrow", patchy()[:, 20:], 98, east=2000))
    np.testing.assert_array_equal(narrow.zones[:, 20:], this.zones[:, 20:])
    assert not narrow.is_known[:, :20].any()


def test_cells_unlike_the_training_data_are_certain_of_nothing(this, tmp_path):
    guesses = cells_of(own_map(tmp_path / "then", patchy(), 99, reason=Reason.UNLIKE))
    found = change_between(this, guesses, guesses, ("then", "noisy"), PLACE)
    assert (found.pair.cells, found.pair.certain, found.pair.share.value) == (0, 0, None)
    assert (found.beyond.value, found.noise.changed) == (None, 0)
    assert verdict(found) in told(found)


@pytest.mark.parametrize(
    "kind",
    [
        {"made": Made("others", "none", scene_of(), 1.5)},
        {"made": Made("weights", "majority", scene_of(), 1.5)},
        {"made": Made("weights", "none", scene_of("L2A"), 1.5)},
        {"made": Made("weights", "none", scene_of(), None)},
        {"east": 50},
        {"crs": "EPSG:32632"},
        {"east": 6000},
    ],
    ids=["model", "filter", "level", "temperature", "shifted", "zone", "beside"],
)
def test_maps_that_differ_anyhow_are_refused(tmp_path, kind):
    folder = own_map(tmp_path / "then", patchy(), 98, **kind)
    with pytest.raises(UserError) as refused:
        check_own(folder, MADE, *CELLS)
    assert refused.value.where == str(folder)


def test_noise_is_of_the_same_year_and_about_a_change(tmp_path):
    folder = own_map(tmp_path / "then", patchy(), 98, made=Made("weights", "none", scene_of(year="2016"), 1.5))
    check_own(folder, MADE, *CELLS)
    with pytest.raises(UserError) as refused:
        check_own(folder, MADE, *CELLS, is_same_year=True)
    assert refused.value.where == str(folder)
    with pytest.raises(UserError) as refused:
        Others(same_year=folder)
    assert refused.value.where == "--compare"


def test_a_folder_that_is_no_map_is_refused_by_the_file_that_it_lacks(tmp_path):
    with pytest.raises(UserError) as refused:
        check_own(tmp_path, MADE, *CELLS)
    assert refused.value.where == str(tmp_path / "report.json")
