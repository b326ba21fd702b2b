"""Colours and names of the zones in the forms that readers of rasters expect."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from bp_lcz.scheme import ZONES

VALUES = tuple(range(1, 18))
"""Values of the zones in maps of this package, in the order of `ZONES`."""
WUDAPT_VALUES = (*range(1, 11), *range(101, 108))
"""Values of the zones in files of some WUDAPT tools, in the order of `ZONES`."""
_COLUMNS = (("Value", 0, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8))
"""Columns of GDAL's attribute table: name, type (0 whole number, 2 text), use (5 value, 2 name, 6..8 colour)."""


def palette(values: Sequence[int] = VALUES) -> dict[int, tuple[int, int, int, int]]:
    """Red, green, blue, alpha of each value, as `rasterio` takes them. The value 0 (no zone) is transparent."""
    colors = {value: (*_rgb(zone.color), 255) for value, zone in zip(values, ZONES, strict=True)}
    return {0: (0, 0, 0, 0), **colors}


def write_symbology(raster: Path, values: Sequence[int] = VALUES) -> None:
    """Write the files beside a raster from which QGIS (``.qml``) and GDAL (``.aux.xml``) take colours and class names.

    Args:
        raster: a map with one band of zones; it is not opened.
        values: values of the zones in it, in the order of `ZONES`.
    """
    for path, tree in (
        (raster.with_suffix(".qml"), _style(values)),
        (raster.with_name(f"{raster.name}.aux.xml"), _attributes(values)),
    ):
        ET.indent(tree)
        path.write_bytes(ET.tostring(tree) + b"\n")  # GDAL cannot read it with an XML declaration


def labels() -> list[str]:
    """Code and name of each zone, such as ``A Dense trees``."""
    return [f"{zone.code} {zone.name}" for zone in ZONES]


def _style(values: Sequence[int]) -> ET.Element:
    """A style of QGIS 3. QGIS fills in the settings that are not given."""
    root = ET.Element("qgis", version="3.22", styleCategories="Symbology")
    renderer = ET.SubElement(
        ET.SubElement(root, "pipe"), "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1"
    )
    colors = ET.SubElement(renderer, "colorPalette")
    for value, zone, label in zip(values, ZONES, labels(), strict=True):
        ET.SubElement(colors, "paletteEntry", value=str(value), color=zone.color, alpha="255", label=label)
    return root


def _attributes(values: Sequence[int]) -> ET.Element:
    """GDAL's own file beside a raster: names by value, and an attribute table."""
    root = ET.Element("PAMDataset")
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    named = dict(zip(values, labels(), strict=True))
    names = ET.SubElement(band, "CategoryNames")
    for value in range(max(values) + 1):
        ET.SubElement(names, "Category").text = named.get(value, "")
    table = ET.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    for i, column in enumerate(_COLUMNS):
        field = ET.SubElement(table, "FieldDefn", index=str(i))
        for tag, content in zip(("Name", "Type", "Usage"), column, strict=True):
            ET.SubElement(field, tag).text = str(content)
    for i, (value, zone) in enumerate(zip(values, ZONES, strict=True)):
        row = ET.SubElement(table, "Row", index=str(i))
        for content in (value, named[value], *_rgb(zone.color)):
            ET.SubElement(row, "F").text = str(content)
    return root


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return red, green, blue
