"""Colours and names beside a raster."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest
import rasterio

from bp_lcz.maps.symbology import VALUES, WUDAPT_VALUES, palette, write_symbology
from bp_lcz.scheme import ZONES
from tests.maps.rasters import patchy, write_cells


def test_a_palette_is_read_back_as_the_colours_of_the_scheme(tmp_path):
    path = write_cells(tmp_path / "lcz.tif", patchy(6), nodata=0)
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, palette())
    with rasterio.open(path) as file:
        colors = file.colormap(1)
    assert ["#{:02x}{:02x}{:02x}".format(*colors[value][:3]) for value in VALUES] == [zone.color for zone in ZONES]
    assert colors[0][3] == 0


@pytest.mark.parametrize("values", [VALUES, WUDAPT_VALUES])
def test_both_files_name_and_colour_every_value(tmp_path, values):
    raster = tmp_path / "some.tif"
    write_symbology(raster, values)
    style = ET.parse(tmp_path / "some.qml").getroot().findall(".//paletteEntry")
    table = ET.parse(tmp_path / "some.tif.aux.xml").getroot()
    rows = [[cell.text for cell in row] for row in table.findall(".//Row")]
    names = [category.text for category in table.findall(".//Category")]
    for i, (value, zone) in enumerate(zip(values, ZONES, strict=True)):
        label = f"{zone.code} {zone.name}"
        assert style[i].attrib == {"value": str(value), "color": zone.color, "alpha": "255", "label": label}
        assert rows[i] == [str(value), label, *(str(int(zone.color[k : k + 2], 16)) for k in (1, 3, 5))]
        assert names[value] == label
    assert [name for name in names if name] == [row[1] for row in rows]
    assert (tmp_path / "some.tif.aux.xml").read_bytes().startswith(b"<PAMDataset>"), "GDAL looks for nothing else"


def test_a_raster_is_read_as_before_with_the_files_beside_it(tmp_path):
    values = patchy(6)
    path = write_cells(tmp_path / "lcz.tif", values, nodata=0)
    write_symbology(path)
    with rasterio.open(path) as file:
        assert (file.read(1) == values).all()
        assert file.nodata == 0
        assert file.dtypes == (np.dtype("uint8").name,)
