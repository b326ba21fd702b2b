"""Small products as people download them."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin

from tests.scenes.rasters import NORTH, UTM, WEST

RESOLUTION = dict.fromkeys(["B02", "B03", "B04", "B08"], 10) | dict.fromkeys(["B01", "B09", "B10"], 60)
L1C = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
STEM = "T33UUU_20220101T101401"


def ground(side: int = 120, offset: int = 0, seed: int = 0) -> dict[str, np.ndarray]:
    """Digital numbers of all 13 bands at 10 m: land whose bands differ, with a dark corner; nothing in B10."""
    rng = np.random.default_rng(seed)
    found = {}
    for number, band in enumerate(L1C):
        values = 1000 + 100 * number + rng.integers(0, 50, (side, side))
        values[-12:, -12:] = 20 + rng.integers(0, 5, (12, 12)) + 600 * (band == "B02")
        found[band] = np.where(band == "B10", 12, values) + offset
    return found


def write_band(path: Path, values: np.ndarray, metres: int, **profile: Any) -> Path:
    """One band, of 10 m pixels, at its own resolution; JP2 without loss."""
    step = metres // 10
    height, width = (side // step * step for side in values.shape)
    coarse = values[:height, :width].reshape(height // step, step, width // step, step).mean(axis=(1, 3))
    options: dict[str, Any] = {"crs": UTM, "transform": from_origin(WEST, NORTH, metres, metres)} | profile
    if path.suffix == ".jp2":
        options |= {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"count": 1, "height": coarse.shape[0], "width": coarse.shape[1], "dtype": np.uint16}
    with rasterio.open(path, "w", **shape, **options) as file:
        file.write(np.round(coarse).astype(np.uint16), 1)
    return path


def xml(level: str, offset: str | None, baseline: str) -> str:
    key, quantity = ("RADIO", "") if level == "1C" else ("BOA", "BOA_")
    numbers = (
        ""
        if offset is None
        else "".join(f'<{key}_ADD_OFFSET band_id="{n}">{offset}</{key}_ADD_OFFSET>' for n in range(13))
    )
    return (
        f'<?xml version="1.0"?><n1:Level-{level}_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/">'
        f"<PROCESSING_LEVEL>Level-{level}</PROCESSING_LEVEL><PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>"
        f'<{quantity}QUANTIFICATION_VALUE unit="none">10000</{quantity}QUANTIFICATION_VALUE>{numbers}'
        f"</n1:Level-{level}_User_Product>"
    )


def write_safe(
    folder: Path,
    bands: dict[str, np.ndarray],
    level: str = "1C",
    offset: str | None = "-1000",
    baseline: str = "04.00",
    **profile: Any,
) -> Path:
    """A product without what is not read; ``folder`` is its name, which ends in .SAFE."""
    images = folder / "GRANULE/L_T33UUU_A0/IMG_DATA"
    for band, values in bands.items():
        metres = RESOLUTION.get(band, 20)
        if level == "1C":
            write_band(images / f"{STEM}_{band}.jp2", values, metres, **profile)
        elif band != "B10":
            for coarse in (20, 60) if band == "B05" else (metres,):
                write_band(images / f"R{coarse}m/{STEM}_{band}_{coarse}m.jp2", values, coarse, **profile)
    write_band(folder / "GRANULE/L_T33UUU_A0/QI_DATA/MSK_DETFOO_B02.jp2", bands["B02"], 10, **profile)
    write_band(images / f"{STEM}_TCI.jp2", bands["B02"], 10, **profile)
    (folder / f"MTD_MSIL{level}.xml").write_text(xml(level, offset, baseline))
    return folder


def zipped(folder: Path) -> Path:
    """The same as it is downloaded."""
    path = folder.with_name(f"{folder.name}.zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return path


def write_item(path: Path, assets: dict[str, dict[str, Any]], **properties: Any) -> Path:
    """A STAC item."""
    path.write_text(
        json.dumps({"type": "Feature", "stac_version": "1.0.0", "properties": properties, "assets": assets})
    )
    return path
