"""Maps of tiles as one: each cell of the ground once, in its place."""

import csv
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.warp import reproject

from bp_lcz.maps.cells import Reason
from bp_lcz.model.checkpoint import Classifier
from bp_lcz.patches.likeness import LOOK_AT, too_many_unlike
from bp_lcz.records import MapReport
from bp_lcz.regions.join import count_cells, join_tiles, write_waiting
from bp_lcz.regions.make import KEPT, MADE, make_tile
from bp_lcz.regions.page import PAGE
from bp_lcz.regions.store import Folder
from tests.maps.rasters import patchy, write_cells
from tests.regions.conftest import options_of, write_tile
from tests.scenes.rasters import optical, write_tif


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory, network: Classifier) -> Path:
    """Two tiles of one zone that overlap, the same ground as the second of another zone, and one without a map."""
    folder = tmp_path_factory.mktemp("region")
    store = Folder(folder / "out")
    scenes = [write_tile(folder / "tiles", name, number) for number, name in enumerate(("west & up", "east"))]
    # 390,390 E 5,820,110 N in zone 33 is 797,424 E 5,827,922 N in zone 32.
    place = from_origin(797_600, 5_828_000, 10, 10)
    scenes.append(write_tif(folder / "tiles/next.tif", optical(), crs="EPSG:32632", transform=place))
    write_waiting(store, "region", ["broken", "west & up"])
    assert store.read(PAGE) is not None
    for number, scene in enumerate(scenes):
        make_tile(store, scene.stem, network, "small", options_of(scene), lambda _: None)
        with rasterio.open(store.place(scene.stem) / "lcz.tif") as file:
            lcz, crs, place = file.read(1), file.crs, file.transform
        lcz[lcz > 0] = np.random.default_rng(number).integers(1, 18, (lcz > 0).sum())
        write_cells(store.place(scene.stem) / "lcz.tif", lcz, crs=crs, transform=place, nodata=0)
    states = {scene.stem: MADE for scene in scenes}
    said = join_tiles(store, "region", states | {"east": KEPT}, {"broken": "<b>.tif: no raster"})
    assert "lcz-epsg-32632.vrt" in said[-1]
    return folder / "out"


def lcz_of(path: Path) -> tuple[np.ndarray, rasterio.Affine]:
    with rasterio.open(path) as file:
        return file.read(1), file.transform


def test_the_tiles_of_a_zone_are_one_raster_in_which_the_first_by_name_wins(region: Path) -> None:
    with rasterio.open(region / "lcz-epsg-32633.vrt") as file:
        joined, place = file.read(1), file.transform
        assert (file.crs.to_epsg(), file.nodata, file.dtypes) == (32633, 0, ("uint8",))
        assert file.colormap(1)[17] == (106, 106, 255, 255)
        expected = np.zeros_like(joined)
    for tile in ("west & up", "east"):
        lcz, own = lcz_of(region / "tiles" / tile / "lcz.tif")
        column, row = (round(number) for number in ~place @ (own.c, own.f))
        part = expected[row : row + lcz.shape[0], column : column + lcz.shape[1]]
        part[lcz > 0] = lcz[lcz > 0]
    np.testing.assert_array_equal(joined, expected)
    assert (joined > 0).sum() > 0
    assert len(ET.parse(region / "lcz-epsg-32633.vrt").findall(".//ComplexSource[@resampling='nearest']")) == 2
    assert (region / "lcz-epsg-32633.qml").is_file()


def test_overlap_counts_once_within_a_zone_and_between_zones(region: Path) -> None:
    one, two = (lcz_of(region / f"lcz-epsg-{zone}.vrt") for zone in (32632, 32633))
    seen = np.zeros_like(two[0])
    reproject(one[0], seen, src_transform=one[1], src_crs="EPSG:32632", dst_transform=two[1], dst_crs="EPSG:32633")
    shared = int(((seen > 0) & (two[0] > 0)).sum())
    assert 0 < shared < (two[0] > 0).sum()
    rows = list(csv.DictReader((region / "areas.csv").open()))
    assert sum(int(row["cells"]) for row in rows) == (one[0] > 0).sum() + (two[0] > 0).sum() - shared
    for row, value in zip(rows, range(1, 18), strict=True):
        assert int(row["cells"]) == (one[0] == value).sum() + ((two[0] == value) & (seen == 0)).sum()


def test_ground_of_two_zones_counts_as_that_of_one_map_over_both(tmp_path: Path) -> None:
    """Ten thousand cells on both sides of 12 degrees east, once as each zone has them, are one square and its rims."""
    own = write_cells(tmp_path / "33.tif", np.full((60, 60), 2, np.uint8), nodata=0)
    with rasterio.open(own) as file:
        from rasterio.warp import calculate_default_transform

        place, width, height = calculate_default_transform(
            file.crs, "EPSG:32632", file.width, file.height, *file.bounds, resolution=100
        )
    other = np.full((height, width), 6, np.uint8)
    write_cells(tmp_path / "32.tif", other, nodata=0, crs="EPSG:32632", transform=place)
    counts = count_cells([tmp_path / "32.tif", tmp_path / "33.tif"])
    assert counts[6] == other.size
    assert counts[2] == 0, "the box round the turned square covers all of it"
    assert count_cells([tmp_path / "33.tif", tmp_path / "32.tif"])[2] == 3600


def test_zones_too_far_apart_to_share_ground_are_counted_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    places = {"EPSG:32718": (600_000, 5_700_000), "EPSG:32736": (300_000, 7_000_000), "EPSG:32601": (200_000, 100_000)}
    rasters = [
        write_cells(tmp_path / f"{crs[-5:]}.tif", patchy(), nodata=0, crs=crs, transform=from_origin(*place, 100, 100))
        for crs, place in places.items()
    ]
    assert count_cells(rasters)[1:].sum() == 3 * 60 * 60
    assert not caplog.records


def test_the_page_links_each_map_and_tells_what_has_none(region: Path) -> None:
    page = (region / PAGE).read_text()
    assert 'href="tiles/west%20%26%20up/map.html">west &amp; up</a>' in page
    assert '<td class="failed">&lt;b&gt;.tif: no raster</td>' in page
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page.replace("http-equiv", "")


def test_tiles_with_many_cells_unlike_the_training_data_are_named_worst_first(
    tmp_path: Path, network: Classifier
) -> None:
    store, shares = Folder(tmp_path / "out"), {"a": 0.05, "b": 0.2, "c": 0.7}
    for number, (tile, share) in enumerate(shares.items()):
        scene = write_tile(tmp_path / "tiles", tile, number)
        make_tile(store, tile, network, "small", options_of(scene), lambda _: None)
        file = store.place(tile) / "report.json"
        report = MapReport.read(file)
        mapped = sum(report.zones.values())
        unlike = round(share * mapped)
        warning = too_many_unlike(unlike, mapped)
        report.model_copy(
            update={
                "reasons": report.reasons | {Reason.UNLIKE.word: unlike},
                "notices": ("of all", *([warning] if warning else [])),
            }
        ).write(file)
    said = join_tiles(store, "region", dict.fromkeys(shares, MADE), {})
    (notice,) = (line for line in said if LOOK_AT in line)
    assert re.findall(r"(\w) \d+ %", notice) == ["c", "b"]
    page = (tmp_path / "out" / PAGE).read_text()
    assert page.count('<div class="notice">') == 2
    assert notice in page


def test_a_map_across_the_rows_that_are_read_at_once_is_counted_whole(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 18, (600, 40)).astype(np.uint8)
    write_cells(tmp_path / "long.tif", values, nodata=0)
    np.testing.assert_array_equal(count_cells([tmp_path / "long.tif"]), np.bincount(values.ravel(), minlength=18))


def test_a_region_without_any_map_has_a_page_and_no_areas(tmp_path: Path) -> None:
    assert "index.html" in join_tiles(Folder(tmp_path), "none", {}, {"a": "unreadable"})[-1]
    assert not list(tmp_path.glob("*.vrt"))
    assert "km²" in (tmp_path / PAGE).read_text()
