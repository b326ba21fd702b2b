"""Joins the maps of a region's tiles: a virtual raster for each UTM zone, one table of areas, one page."""

import io
import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import rasterio
from jaxtyping import Int, UInt8
from PIL import Image
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.warp import reproject, transform_bounds
from rasterio.windows import Window

from bp_lcz.maps.cells import Reason
from bp_lcz.maps.outputs import AREAS, CELL_KM2, LCZ, write_areas
from bp_lcz.maps.symbology import labels, palette, write_symbology
from bp_lcz.patches.likeness import LOOK_AT, too_many_unlike
from bp_lcz.records import MapReport
from bp_lcz.regions.make import report_of
from bp_lcz.regions.page import PAGE, WAITS, Picture, region_page, unlike_share
from bp_lcz.regions.store import TILES, Store
from bp_lcz.scheme import CLASS_COUNT, ZONES
from bp_lcz.sensors.raster import CELL_M

_ROWS = 256
"""Rows that are read at once."""
_MOST_PIXELS = 1000
"""Most pixels along a side of a picture of a UTM zone."""
_MOST_NAMED = 10
"""Most tiles that a sentence names. The table of the page has all."""


def join_tiles(store: Store, title: str, states: Mapping[str, str], failures: Mapping[str, str]) -> list[str]:
    """Join finished maps, and write the result beside the tiles: ``lcz-<zone>.vrt``, ``areas.csv`` and ``index.html``.

    Where two tiles overlap, the map shows the one whose name comes first. Areas count each cell once, also where tiles
    of two UTM zones overlap.

    Args:
        store: store of the region.
        title: title of the page.
        states: states of the tiles that have a map, by name.
        failures: messages about the other tiles, by name.

    Returns:
        Messages with the areas and the names of the files.

    Raises:
        UserError: if the store refuses.
    """
    reports = {tile: report for tile in sorted(states) if (report := report_of(store, tile)) is not None}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for tile in reports:
            (folder / TILES / tile).mkdir(parents=True)
            (folder / TILES / tile / LCZ).write_bytes(store.read(f"{TILES}/{tile}/{LCZ}") or b"")
        zones = sorted({report.crs for report in reports.values()})
        rasters = [_join(folder, crs, {t: r for t, r in reports.items() if r.crs == crs}) for crs in zones]
        counts = count_cells(rasters)[1:].tolist()
        notices = _notices(reports)
        write_areas(folder / AREAS, counts, " ".join(notices))
        pictures = [_picture(raster) for raster in rasters]
        page = region_page(title, counts, pictures, reports, {**states, **failures}, notices)
        (folder / PAGE).write_text(page, encoding="utf-8")
        written = sorted(path for path in folder.iterdir() if path.suffix in (".vrt", ".qml", ".csv", ".html"))
        for path in written:
            store.write(path.name, path.read_bytes())
    areas = [
        f"{zone.code:>3}  {zone.name:<22}{count * CELL_KM2:>12,.2f} km2"
        for zone, count in zip(ZONES, counts, strict=True)
        if count
    ]
    return [*areas, *notices, f"{len(reports)} tiles -> {store.address}: {', '.join(path.name for path in written)}"]


def _notices(reports: Mapping[str, MapReport]) -> list[str]:
    """The warnings of all maps, each once. One sentence names all tiles with many cells unlike the training data."""
    told, shares = set[str](), dict[str, float]()
    for tile, report in reports.items():
        warning = too_many_unlike(report.reasons[Reason.UNLIKE.word], sum(report.zones.values()))
        told |= {notice for notice in report.notices if notice != warning}
        if warning is not None:
            shares[tile] = unlike_share(report)
    worst = sorted(shares, key=lambda tile: -shares[tile])
    more = f" and {len(worst) - _MOST_NAMED} more" if len(worst) > _MOST_NAMED else ""
    named = ", ".join(f"{tile} {100 * shares[tile]:.0f} %" for tile in worst[:_MOST_NAMED]) + more
    unlike_tiles = f"Cells unlike the training data of the model, by tile: {named}; {LOOK_AT}"
    return [*sorted(told), *([unlike_tiles] if worst else [])]


def write_waiting(store: Store, title: str, tiles: Sequence[str]) -> None:
    """Write the page of a region before its maps are made. So a store that refuses is noticed at once."""
    page = region_page(title, [0] * CLASS_COUNT, [], {}, dict.fromkeys(tiles, WAITS), [])
    store.write(PAGE, page.encode())


def count_cells(rasters: Sequence[Path]) -> Int[np.ndarray, " value"]:
    """Number of cells with each value 0..17 in some maps. Cells that an earlier map covers count as 0."""
    counts = np.zeros(CLASS_COUNT + 1, np.int64)
    for number, raster in enumerate(rasters):
        with ExitStack() as stack:
            file = stack.enter_context(rasterio.open(raster))
            earlier = [stack.enter_context(rasterio.open(one)) for one in rasters[:number]]
            before = [one for one in earlier if _may_overlap(one, file)]
            for row in range(0, file.height, _ROWS):
                part = Window(0, row, file.width, min(_ROWS, file.height - row))
                lcz = file.read(1, window=part)
                grid = {"dst_crs": file.crs, "dst_transform": file.window_transform(part)}
                for one in before:
                    there = np.zeros_like(lcz)
                    reproject(rasterio.band(one, 1), there, resampling=Resampling.nearest, **grid)
                    lcz[there > 0] = 0
                counts += np.bincount(lcz.ravel(), minlength=len(counts))
    return counts


def _may_overlap(one: DatasetReader, other: DatasetReader) -> bool:
    """Whether two maps may show the same ground. They do not if one has no coordinates in the other's UTM zone."""
    boxes = [transform_bounds(file.crs, "EPSG:4326", *file.bounds) for file in (one, other)]
    (west, south, east, north), (left, bottom, right, top) = boxes
    is_across = west > east or left > right  # of the meridian at 180 degrees
    return min(north, top) > max(south, bottom) and (is_across or min(east, right) > max(west, left))


def _join(folder: Path, crs: str, reports: Mapping[str, MapReport]) -> Path:
    """The virtual raster of all maps in one UTM zone, which share a grid, with its style for QGIS."""
    west, north = min(report.west for report in reports.values()), max(report.north for report in reports.values())
    corners = {t: (round((r.west - west) / CELL_M), round((north - r.north) / CELL_M)) for t, r in reports.items()}
    width = max(corners[tile][0] + report.columns for tile, report in reports.items())
    height = max(corners[tile][1] + report.rows for tile, report in reports.items())
    root = ET.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
    ET.SubElement(root, "SRS").text = CRS.from_string(crs).to_wkt()
    ET.SubElement(root, "GeoTransform").text = f"{west}, {CELL_M}, 0, {north}, 0, {-CELL_M}"
    band = ET.SubElement(root, "VRTRasterBand", dataType="Byte", band="1")
    ET.SubElement(band, "Description").text = "LCZ"
    ET.SubElement(band, "NoDataValue").text = "0"
    ET.SubElement(band, "ColorInterp").text = "Palette"
    colors = ET.SubElement(band, "ColorTable")
    for value in palette().values():
        ET.SubElement(colors, "Entry", {f"c{i}": str(part) for i, part in enumerate(value, start=1)})
    names = ET.SubElement(band, "CategoryNames")
    for text in ("", *labels()):
        ET.SubElement(names, "Category").text = text
    for tile in sorted(reports, reverse=True):  # the last one lies on top
        rows, columns = reports[tile].rows, reports[tile].columns
        source = ET.SubElement(band, "ComplexSource", resampling="nearest")
        ET.SubElement(source, "SourceFilename", relativeToVRT="1").text = f"{TILES}/{tile}/{LCZ}"
        ET.SubElement(source, "SourceBand").text = "1"
        for tag, (x, y) in (("SrcRect", (0, 0)), ("DstRect", corners[tile])):
            ET.SubElement(source, tag, xOff=str(x), yOff=str(y), xSize=str(columns), ySize=str(rows))
        ET.SubElement(source, "NODATA").text = "0"
    ET.indent(root)
    raster = folder / f"lcz-{re.sub(r'[^a-z0-9]+', '-', crs.lower())[:40].strip('-')}.vrt"
    raster.write_bytes(ET.tostring(root) + b"\n")
    write_symbology(raster)
    return raster


def _picture(raster: Path) -> Picture:
    """A small picture of a UTM zone. Each pixel shows the class of one cell, not a mean."""
    with rasterio.open(raster) as file:
        step = max(1, -(-max(file.shape) // _MOST_PIXELS))
        shape = (-(-file.height // step), -(-file.width // step))
        lcz = file.read(1, out_shape=shape, resampling=Resampling.nearest)
        return Picture(file.crs.to_string(), raster.name, _png(lcz))


def _png(lcz: UInt8[np.ndarray, "row column"]) -> bytes:
    """Zones as a PNG in their colours."""
    image = Image.fromarray(lcz)
    image.putpalette([part for color in palette().values() for part in color], "RGBA")
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return content.getvalue()
