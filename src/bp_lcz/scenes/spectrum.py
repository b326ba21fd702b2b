"""What no ground and no air looks like: reflectance whose bands are in another order, or of another level or offset."""

from itertools import combinations
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bp_lcz.bands import SEN2_BANDS
from bp_lcz.errors import UserError

_ENOUGH = 64
"""Pixels of a kind from which on its spectrum tells."""
_SOME = 10_000
"""Pixels of which two bands are compared."""
_DIM = 0.02
"""Reflectance above which no two bands agree everywhere."""
_GREEN = (0.15, 2.0)
"""Reflectance of vegetation in the near infrared, at least, and that by the one in red."""
_CLEARLY = 1.1
_RED, _MOST_RED, _MOST_OF_ALL = 0.18, 2.2, 0.25
"""Reflectance in red, that by the one in the near infrared, and the share of pixels with both that no ground has."""
_AIR, _THIN_AIR = 0.06, 0.03
"""Of blue at the top of the atmosphere over black ground, at sea level and at 4,000 m; at three sites it is 0.08."""
_MOST_RED_AIR = 1.3
_DARKEST = 0.001
_LOWEST_MEDIAN = -0.02
"""Of a band: water that was overcorrected comes near."""


def check_spectrum(
    path: Path, reflectance: Float[np.ndarray, "10 pixel"], level: str | None, naming: str | None
) -> list[str]:
    """Refuse what the pixels contradict; of bands that the user has named in another order, give a warning.

    Args:
        path: of the scene.
        reflectance: without any offset, of pixels that all bands know.
        level: that the scene is taken for; None is held against nothing.
        naming: how a user can tell which band is which; None if the user has.

    Raises:
        UserError: if a band has another unit or offset than the others, two are one, bands have another order, or it
            is no L1C.
    """
    said: list[str] = []
    if not reflectance.size:
        return said
    if found := _same_bands(reflectance):
        raise UserError(path, f"{found} in all pixels: one band under two names")
    medians = np.median(reflectance, axis=1)
    if (lowest := medians.min()) < _LOWEST_MEDIAN:
        band = SEN2_BANDS[int(medians.argmin())]
        raise UserError(path, f"{band} would have a median reflectance of {lowest:.3f}: its units or offset are others")
    if (found := _wrong_order(reflectance)) and naming is None:
        said.append(f"{path.name}: warning: {found}, as of bands in another order than --s2-bands says")
    elif found:
        raise UserError(path, f"{found}, which is never so: its bands have another order; {naming}")
    if level == "L1C" and (found := _not_from_above_the_air(reflectance)):
        raise UserError(
            path,
            f"{found}, less than the air alone gives in Level 1C: it is L2A, or its offset is taken off twice, or its "
            "bands have another order; if none of that, say its offset with --s2-offset",
        )
    return said


def _same_bands(reflectance: Float[np.ndarray, "10 pixel"]) -> str:
    """Two bands that are one; nothing if there are none. Those of dark water may be clipped to one value."""
    some = reflectance[:, :: max(reflectance.shape[1] // _SOME, 1)]
    for (first, one), (second, other) in combinations(zip(SEN2_BANDS, some, strict=True), 2):
        is_bright = (one > _DIM) | (other > _DIM)
        if is_bright.sum() >= _ENOUGH and (one[is_bright] == other[is_bright]).all():
            return f"{first} equals {second}"
    return ""


def _wrong_order(reflectance: Float[np.ndarray, "10 pixel"]) -> str:
    """How bands contradict each other that are named rightly; nothing if they do not.

    The red edge rises and the short-wave infrared falls in all vegetation, and nothing is far darker in the near
    infrared than in red while it is bright in red.
    """
    band = dict(zip(SEN2_BANDS, reflectance, strict=True))
    lowest, ratio = _GREEN
    is_green = (band["B08"] > lowest) & (band["B08"] > ratio * band["B04"])
    if is_green.sum() >= _ENOUGH:
        for darker, brighter in (("B05", "B06"), ("B12", "B11")):
            low, high = (float(np.median(band[name][is_green])) for name in (darker, brighter))
            if low > _CLEARLY * high:
                return f"{darker} is brighter than {brighter} in vegetation ({low:.2f}, {high:.2f})"
    is_red = (band["B04"] > _RED) & (band["B04"] > _MOST_RED * band["B08"])
    if is_red.sum() >= _ENOUGH and is_red.mean() > _MOST_OF_ALL:
        return f"B04 is more than {_MOST_RED:g} times as bright as B08 in {is_red.mean():.0%} of all pixels"
    return ""


def _not_from_above_the_air(reflectance: Float[np.ndarray, "10 pixel"]) -> str:
    """How reflectance contradicts Level 1C, which holds what the air scatters, most of it blue; nothing if not."""
    blue, red = (np.quantile(reflectance[SEN2_BANDS.index(name)], _DARKEST) for name in ("B02", "B04"))
    if blue < _THIN_AIR or (blue < _AIR and red > _MOST_RED_AIR * blue):
        return f"the darkest pixels have a reflectance of {blue:.3f} in B02 and {red:.3f} in B04"
    return ""
