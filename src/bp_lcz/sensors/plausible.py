"""A last check of the patches that were cut: are their values possible? So2Sat's published means stand beside them."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

from bp_lcz.bands import SEN2_BANDS, Channels
from bp_lcz.errors import UserError
from bp_lcz.scheme import CODES, NAMES
from bp_lcz.sensors.raster import CELL
from bp_lcz.sensors.sentinel1 import INTENSITIES, MEDIAN_LINEAR
from bp_lcz.sensors.sentinel2 import BRIGHTEST_MEDIAN
from bp_lcz.so2sat.published import PUBLISHED

_PATCHES_A_STRIP = 16
_MOST_ZEROS = 0.25
"""Highest share of zeros in a visible band. Removing an offset twice gives more; water of Level 2A gives fewer."""
_HIGHEST_HUNDREDTH = 30.0
"""Highest 99 % quantile of linear power. So2Sat's 99.9 % quantiles lie between 1 and 15."""
MOST_OF = {"1": 0.2, "2": 0.6, "4": 0.3, "7": 0.4, "10": 0.3}
"""Highest share of a scene's patches or cells that a zone has in cities, by code of the zone."""
_ENOUGH = 10
_SEALED, _WOODED = 0.5, 0.3
_WATER_INFRARED = 0.15


class Stored:
    """A sample of the pixels of written patches, and the greenness (NDVI) of each cell."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._pixels: list[Float32[np.ndarray, "pixel channel"]] = []
        self._cells: list[Float[np.ndarray, "patch 3"]] = []

    def add(
        self,
        sen1: Float32[np.ndarray, "patch 32 32 c1"],
        sen2: Float32[np.ndarray, "patch 32 32 10"],
        label: Float32[np.ndarray, "patch 17"] | None = None,
    ) -> None:
        """Take in the patches of a strip."""
        every = max(len(sen1) // _PATCHES_A_STRIP, 1)
        images = [values[::every, 4::8, 4::8] for values in (sen1, sen2)]
        self._pixels.append(np.concatenate(images, axis=-1).reshape(-1, len(self._channels.names)))
        if label is not None:
            cell = sen2[:, CELL, CELL].mean(axis=(1, 2), dtype=np.float64)
            red, infrared = (cell[:, SEN2_BANDS.index(band)] for band in ("B04", "B08"))
            greenness = (infrared - red) / np.maximum(infrared + red, 1e-6)
            self._cells.append(np.stack([label.argmax(axis=1), greenness, infrared], axis=1))

    def lines(self) -> list[str]:
        """A table with a line for each channel: quantiles of the stored values, and So2Sat's mean."""
        low, median, high = np.quantile(np.concatenate(self._pixels), [0.01, 0.5, 0.99], axis=0)
        width = max(map(len, self._channels.names))
        lines = [f"{'stored':<{width}}      1 %   median     99 %   mean of So2Sat's training"]
        for band, *values in zip(self._channels.names, low, median, high, strict=True):
            numbers = "".join(f"{value:9.4f}" for value in (*values, PUBLISHED.mean["training"][band]))
            lines.append(f"{band:<{width}}{numbers}")
        return lines

    def check(self, s1: Path, s2: Path) -> None:
        """Check that medians, 99 % quantiles and zeros are possible for backscatter and reflectance.

        Raises:
            UserError: if a channel has values that backscatter or reflectance cannot have.
        """
        pixels = np.concatenate(self._pixels)
        median = dict(zip(self._channels.names, np.median(pixels, axis=0), strict=True))
        top = dict(zip(self._channels.names, np.quantile(pixels, 0.99, axis=0), strict=True))
        low, high = MEDIAN_LINEAR
        for band, most in zip(INTENSITIES, (high / 3, high), strict=True):
            if band in median and not (low / 100 <= median[band] <= most and top[band] <= _HIGHEST_HUNDREDTH):
                raise UserError(
                    s1,
                    f"{band} would have a median of {median[band]:.4g}, 1 % above {top[band]:.4g}: no backscatter",
                )
        brightest = max(SEN2_BANDS, key=median.__getitem__)
        if not BRIGHTEST_MEDIAN[0] <= median[brightest] <= BRIGHTEST_MEDIAN[1]:
            raise UserError(
                s2, f"its brightest band {brightest} would have a median reflectance of {median[brightest]:.4g}"
            )
        for band in ("B02", "B03", "B04"):
            zeros = float((pixels[:, self._channels.names.index(band)] == 0).mean())
            if zeros > _MOST_ZEROS:
                raise UserError(
                    s2,
                    f"{band} would be 0 in {zeros:.0%} of all pixels: an offset that is not there, or taken off twice?",
                )

    def warnings(self, labels: Path) -> list[str]:
        """A line for each zone whose patches do not look like that zone."""
        classes, greenness, infrared = np.concatenate(self._cells).T
        lines = []
        for number in np.unique(classes).astype(int):
            code, here = CODES[number], classes == number
            share, green = float(here.mean()), float(np.median(greenness[here]))
            said = []
            if share > MOST_OF.get(code, 1):
                said.append(f"are {share:.0%} of all patches, more than cities have")
            if here.sum() >= _ENOUGH:
                if code in ("1", "2", "3", "10") and green > _SEALED:
                    said.append(f"are as green as vegetation (median NDVI {green:.2f})")
                if code == "A" and green < _WOODED:
                    said.append(f"are not green (median NDVI {green:.2f})")
                if code == "G" and np.median(infrared[here]) > _WATER_INFRARED:
                    said.append(f"are bright in the near infrared ({np.median(infrared[here]):.2f})")
            if said:
                name = f"LCZ {code} ({NAMES[number]})"
                lines.append(f"warning: {labels.name}: patches of {name} {' and '.join(said)}; is it a map of zones?")
        return lines
