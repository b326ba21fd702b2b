"""From what people download to a map, by the commands of docs/map.md."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from playwright.sync_api import Page
from rasterio.warp import transform
from typer.testing import CliRunner

from bp_lcz.cli import app
from bp_lcz.scheme import CODES
from tests.scenes.safe import L1C, RESOLUTION, write_band, xml, zipped
from tests.so2sat.servers import Manners, http_server

pytestmark = pytest.mark.shared
OFFSET = 1000
OPTICAL = [band for band in L1C if band not in ("B01", "B09", "B10")]
EARTH_SEARCH = ["blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16", "swir22"]


def command(*arguments: str | Path) -> str:
    """What a command prints that ends well."""
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def scene(shared_data: Path) -> tuple[dict[str, np.ndarray], dict]:
    """Digital numbers of a real scene of Level 1C with its offset, by band, and where they lie."""
    with rasterio.open(shared_data / "scenes/433D_629L_3_1/s2_l1c_13bands_dn.tif") as file:
        return dict(zip(L1C, file.read().astype(np.int64), strict=True)), {"crs": file.crs, "transform": file.transform}


@pytest.fixture(scope="module")
def model(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published weights, from a server on this machine."""
    weights = shared_data / "weights/sen2lcz_drop_32_weights.best.hdf5"
    out = tmp_path_factory.mktemp("models") / "sen2lcz-mf"
    with http_server(weights.parent, Manners()) as address:
        said = command("pretrained", "sen2lcz-mf", "--url", f"{address}/{weights.name}", "--out", out)
    assert said.split() == [str(out)]
    return out


def test_three_commands_lead_from_a_download_to_a_map(
    scene: tuple[dict[str, np.ndarray], dict], model: Path, tmp_path: Path, opened: Callable[..., Page]
) -> None:
    bands, place = scene
    folder = tmp_path / "S2A_MSIL1C_20200101T143729_N0500_R096_T18HYE_20230101T000000.SAFE"
    for band, values in bands.items():
        metres = RESOLUTION.get(band, 20)
        at = {**place, "transform": place["transform"] @ Affine.scale(metres / 10)}
        write_band(folder / f"GRANULE/L1C_T18HYE_A0/IMG_DATA/T18HYE_20200101T143729_{band}.jp2", values, metres, **at)
    (folder / "MTD_MSIL1C.xml").write_text(xml("1C", f"{-OFFSET}", "05.00"))
    product, area, out = zipped(folder), tmp_path / "village.geojson", tmp_path / "village"
    corners = [
        place["transform"] @ (column, row) for column, row in ((60, 50), (180, 50), (180, 150), (60, 150), (60, 50))
    ]
    ring = np.transpose(transform(place["crs"], "EPSG:4326", *zip(*corners, strict=True))).tolist()
    area.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    arguments = ("map", model, "--s2", product, "--area", area, "--out", out)

    planned = command(*arguments, "--dry-run")
    assert "level L1C" in planned
    assert not out.exists()
    said = command(*arguments)
    assert re.search(r"\bL1C\b", said)
    with rasterio.open(out / "lcz.tif") as file:
        lcz, crs = file.read(1), file.crs
        assert [value % 100 for value in file.bounds] == [0, 0, 0, 0]
    assert crs == place["crs"]
    assert 90 <= (lcz > 0).sum() <= 150  # of 12 x 10 cells and those that the edge cuts

    page = opened(out / "map.html")
    assert page.inner_text("h1").split("\n") == ["village", "1 January 2020"]
    box = page.locator("canvas.zones").bounding_box()
    row, column = (shape // 2 for shape in lcz.shape)
    at = (
        box["x"] + (column + 0.5) * box["width"] / lcz.shape[1],
        box["y"] + (row + 0.5) * box["height"] / lcz.shape[0],
    )
    page.mouse.move(*at)
    assert page.inner_text("#cell").startswith(f"{CODES[lcz[row, column] - 1]} ")


@pytest.mark.parametrize(
    ("names", "nodata", "offset", "options"),
    [
        (["B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12"], None, 0, ["--s2-level", "L1C"]),
        (EARTH_SEARCH, 0, OFFSET, ["--s2-level", "L2A", "--other-level"]),
    ],
    ids=["Earth Engine", "odc-stac"],
)
def test_a_composite_of_other_tools_is_approved_and_its_offset_found(
    names: list[str],
    nodata: int | None,
    offset: int,
    options: list[str],
    scene: tuple[dict[str, np.ndarray], dict],
    model: Path,
    tmp_path: Path,
) -> None:
    bands, place = scene
    values = np.stack([bands[band] for band in OPTICAL]).astype(np.int64) - OFFSET + offset
    values[:, :20, :30] = 0  # never clear
    form = {"driver": "GTiff", "dtype": "uint16", "count": 10, "height": 224, "width": 224, "nodata": nodata}
    with rasterio.open(tmp_path / "s2.tif", "w", **form, **place) as file:
        file.write(np.clip(values, 0, None).astype(np.uint16))
        file.descriptions = names
    said = command("map", model, "--s2", tmp_path / "s2.tif", *options, "--out", tmp_path / "city", "--dry-run")
    assert f"offset {offset} " in said
    assert re.search(r"mapped \d\d\.\d %", said)
    assert re.search(r"Sentinel-2 missing|rim", said)
    assert not (tmp_path / "city").exists()
