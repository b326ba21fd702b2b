"""The tools that people use, on what we write: each in an environment of its own, from the package registry or Debian."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.warp import Resampling, reproject, transform_bounds

from bp_lcz.maps.exports import write_exports
from bp_lcz.maps.symbology import VALUES, WUDAPT_VALUES, palette
from bp_lcz.scheme import ZONES
from tests.maps.rasters import patchy, write_map

pytestmark = pytest.mark.slow
DEBIAN = "/usr/bin/python3"
ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}


def run(*command: object, **variables: str) -> str:
    done = subprocess.run(
        [str(part) for part in command], env=ENVIRONMENT | variables, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def environment(folder: Path, requirement: str) -> Path:
    """Folder of the commands of an environment with one tool."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]
    done = subprocess.run(pip, capture_output=True, text=True, env=ENVIRONMENT)
    if done.returncode:
        pytest.skip(f"{requirement} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return folder / "bin"


@pytest.fixture
def zaragoza(shared_data, tmp_path) -> Path:
    """w2w's own sample map, with the cells and the form of ours."""
    with rasterio.open(shared_data / "lcz/w2w/lcz_zaragoza.tif") as file:
        west, south, east, north = (round(side, -2) for side in transform_bounds(file.crs, "EPSG:32630", *file.bounds))
        place, lcz = from_origin(west, north, 100, 100), np.zeros((int(north - south) // 100, int(east - west) // 100))
        reproject(file.read(1), lcz, file.transform, src_crs=file.crs, dst_crs="EPSG:32630", dst_transform=place,
                  resampling=Resampling.nearest)  # fmt: skip
    return write_map(tmp_path / "map", lcz, crs="EPSG:32630", transform=place)


def urban_cells(w2w: Path, folder: Path, domain: Path) -> int:
    """As w2w counts them with our form of a map, with all its checks right."""
    write_exports(folder, ["wrf"])
    shutil.copy(domain, folder / "exports")
    said = run(w2w, folder / "exports", "wrf.tif", domain.name)
    print(said)
    checks = said[said.index("Check 1") :]
    assert re.findall(r"Check (\d)", checks) == list("123456789")
    assert len(re.findall(r"\bOK\b", checks)) == 8 + 6  # the sixth is six
    assert "WARNING" not in said
    (urban,) = re.findall(r"urban extent the same \((\d+)\)", checks)
    return int(urban)


def test_w2w_finds_the_urban_cells_of_its_own_sample_in_our_form_of_it_but_not_in_holes(
    zaragoza, shared_data, tmp_path
):
    w2w, domain = environment(tmp_path / "w2w", "w2w==0.6.0") / "w2w", shared_data / "lcz/w2w/geo_em.d01.nc"
    whole = urban_cells(w2w, zaragoza, domain)
    assert abs(whole - 369) <= 0.02 * 369
    with rasterio.open(zaragoza / "lcz.tif", "r+") as file:
        lcz = file.read(1)
        lcz[np.random.default_rng(0).random(lcz.shape) < 0.1] = 0
        file.write(lcz, 1)
    assert 0.85 * whole < urban_cells(w2w, zaragoza, domain) < 0.95 * whole


def test_lcz4py_finds_areas_and_parameters_of_every_zone(tmp_path):
    lcz = patchy()
    lcz[:6, :6] = 0
    folder = write_map(tmp_path / "map", lcz)
    write_exports(folder, ["wrf"])
    script = """
import json, sys
from LCZ4py import lcz_cal_area, lcz_get_parameters
areas = lcz_cal_area(sys.argv[1]).df
values = lcz_get_parameters(sys.argv[1]).array
print(json.dumps([dict(zip(areas["lcz"].to_list(), areas["area_km2"].to_list())), len(values)]))
"""
    python = environment(tmp_path / "lcz4py", "LCZ4py==0.1.0") / "python"
    areas, parameters = json.loads(run(python, "-c", script, folder / "exports/wrf.tif").splitlines()[-1])
    assert {int(zone): round(area, 2) for zone, area in areas.items()} == {
        zone: round((lcz == zone).sum() * 0.01, 2) for zone in VALUES
    }
    assert parameters == 35


QGIS = """
import json, os, sys
from qgis.core import QgsApplication, QgsMapRendererParallelJob, QgsMapSettings, QgsRasterLayer
from qgis.PyQt.QtCore import QSize
application = QgsApplication([], False)
application.initQgis()
layer = QgsRasterLayer(sys.argv[1], "lcz")
assert layer.isValid()
settings = QgsMapSettings()
settings.setLayers([layer])
settings.setDestinationCrs(layer.crs())
settings.setExtent(layer.extent())
settings.setOutputSize(QSize(600, 600))
job = QgsMapRendererParallelJob(settings)
job.start()
job.waitForFinished()
job.renderedImage().save(sys.argv[2])
renderer = layer.renderer()
classes = [[c.value, c.color.name(), c.label] for c in renderer.classes()]
print(json.dumps([renderer.type(), classes]), flush=True)
os._exit(0)  # an orderly end frees what Python frees, too
"""


@pytest.mark.parametrize(
    ("form", "beside"),
    [("wrf", ".qml"), ("wrf", ".tif.aux.xml"), ("umep", ".qml"), ("umep", ".tif.aux.xml"), ("wudapt", ".qml")],
)
def test_qgis_shows_colours_and_names_from_either_file(tmp_path, form, beside):
    if not Path(DEBIAN).exists() or subprocess.run([DEBIAN, "-c", "import qgis.core"], capture_output=True).returncode:
        pytest.skip("no QGIS: apt-get install python3-qgis")
    lcz = patchy()
    lcz[:6, :6] = 0
    write_exports(write_map(tmp_path, lcz), [form])
    raster = tmp_path / f"exports/{form}.tif"
    values = WUDAPT_VALUES if form == "umep" else VALUES
    for other in {".qml", ".tif.aux.xml"} - {beside}:
        (raster.parent / f"{raster.stem}{other}").unlink()
    picture = tmp_path / "map.png"
    said = run(DEBIAN, "-c", QGIS, raster, picture, QT_QPA_PLATFORM="offscreen", XDG_RUNTIME_DIR=str(tmp_path))
    kind, classes = json.loads(said.splitlines()[-1])
    assert kind == "paletted"
    expected = [[value, z.color, f"{z.code} {z.name}"] for value, z in zip(values, ZONES, strict=True)]
    assert [found for found in classes if found[0] in values] == expected
    with rasterio.open(picture) as file:
        pixels = file.read([1, 2, 3])
    shown = {tuple(color) for color in pixels.reshape(3, -1).T.tolist()}
    assert shown == {palette()[zone][:3] for zone in np.unique(lcz[lcz > 0])} | {(255, 255, 255)}
    assert tuple(pixels[:, 5, 5]) == (255, 255, 255)
