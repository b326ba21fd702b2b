"""Finds reflectance that is physically impossible: bands in another order, or of another level, unit or offset."""

from itertools import combinations
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bp_lcz.bands import SEN2_BANDS
from bp_lcz.errors import UserError
from bp_lcz.sensors.sampling import pixels_where, thinned

_ENOUGH = 64
"""Fewest pixels of a kind of ground whose spectrum is checked."""
_SOME = 5_000
"""Pixels in which bands are compared."""
_DIM = 0.02
"""Reflectance above which pixels count when bands are compared for equality."""
_EQUAL = 0.2
"""Share of equal pixels above which two bands are the same band. At eight real places it is at most 0.07."""
_NEARLY, _CONTRASTS, _ROUNDED = 0.999, 0.005, 1e-4
"""A band is another one times a factor plus a constant if their correlation and standard deviations lie above the first
two, and the median rest below the third, which is rounding. At three real sites the rest is nine times as large."""
_VARIED, _ALONE = 0.015, 0.5
"""Above this standard deviation, a band correlates with another one by at least the second; real scenes have 0.62."""
_GREEN = (0.15, 2.0)
"""Vegetation: lowest reflectance in the near infrared, and lowest ratio of near infrared to red."""
_CLEARLY = 1.1
_RED, _MOST_RED, _MOST_OF_ALL = 0.18, 2.2, 0.25
"""Limits of bright red: reflectance in red, ratio of red to near infrared, and share of pixels above both."""
_OFFSET = 0.1
_BARELY_RED, _DRY = 1.4, 0.4
"""Limit of red / near infrared on dry ground, and the B11 / B08 above which ground is dry. Ice and water have less."""
_LAND, _MANY, _CONTRAST = 0.08, 500, 0.01
"""Land: lowest reflectance in the near infrared, fewest pixels, and lowest standard deviation in blue for a check."""
_LEAST_RED = 0.85
"""Lowest ratio of standard deviations in red and blue over land. At eight real places it is 1.04 to 2.5."""
_NEIGHBOURS = (
    ("B02", "B03", 0.78, 99, 0.05), ("B03", "B04", 0.75, 99, 0.07), ("B04", "B05", 0.75, 99, 0.05),
    ("B06", "B07", 0.9, 1.45, 0.05), ("B07", "B08", 0.85, 1.18, 0.05), ("B08", "B8A", 0.9, 1.24, 0.05),
    ("B11", "B12", 0, 1.12, 0.05),
)  # fmt: skip
"""Neighbouring bands, lowest and highest ratio of their medians over land, and a difference always allowed."""
_FRESH, _WET, _LEAF, _CLEAR, _SOME_OF_ALL = 0.12, 0.35, 0.25, 0.3, 250
"""Vegetation: lowest B8A - B12, lowest B11 / B8A (snow has less), lowest B12 / B11 (fill has less), highest B02 (clouds
have more), and fewest pixels for a check."""
_EDGE = (0.25, 0.9)
"""Range of (B06 - B05) / (B8A - B12) in vegetation. It is 0.49 to 0.71 at three real sites of both levels."""
_DRY_STEP = (-0.04, 0.09)
"""Range of B06 - B05 where B11 is above B8A, as in soil and roofs. It is -0.015 to 0.04 at these sites."""
_AIR, _THIN_AIR = 0.06, 0.03
"""Lowest blue reflectance of air over black ground, at sea level and at 4,000 m. At three real sites it is 0.08."""
_MOST_RED_AIR = 1.3
_DARKEST = 0.001
_LOWEST_MEDIAN = -0.02
"""Lowest median reflectance of a band. Overcorrected water comes near it."""


def check_spectrum(
    path: Path, reflectance: Float[np.ndarray, "10 pixel"], level: str | None, naming: str | None, by_order: bool
) -> list[str]:
    """Refuse impossible reflectance. Give a warning instead where the user named the bands.

    Args:
        path: of the scene.
        reflectance: reflectance without an offset, of pixels that are known in all bands.
        level: level of the scene; None leaves this check out.
        naming: how a user can tell which band is which; None if the user has.
        by_order: whether the bands have no names, and their order decides.

    Raises:
        UserError: if a band has another unit or offset than the others, if two bands are the same, if bands have
            another order, or if a scene of L1C is not L1C.
    """
    said: list[str] = []
    if not reflectance.size:
        return said
    some = np.ascontiguousarray(reflectance[:, :: max(reflectance.shape[1] // _SOME, 1)])
    if found := _same_bands(some):
        raise UserError(path, f"{found}: one band under two names")
    if found := _alone(some):
        said.append(f"{path.name}: warning: {found}; is it of another place or time, turned round, or fill in part?")
    medians = np.median(thinned(reflectance), axis=1)
    if (lowest := medians.min()) < _LOWEST_MEDIAN:
        band = SEN2_BANDS[int(medians.argmin())]
        raise UserError(path, f"{band} would have a median reflectance of {lowest:.3f}: its units or offset are others")
    unlike, is_offset = _unlike_neighbours(some)
    if (found := _wrong_order(reflectance) or (unlike if is_offset else "")) and naming is None:
        said.append(f"{path.name}: warning: {found}, as of bands in another order than --s2-bands says")
    elif found:
        raise UserError(path, f"{found}, which is never so: bands have another order, or some an offset; {naming}")
    elif unlike:
        said.append(f"{path.name}: warning: {unlike}; is one of another unit, place or time?")
    elif found := _blue_for_red(some):
        if by_order:
            raise UserError(path, f"{found}, as if they stood in each other's place; {naming}")
        said.append(f"{path.name}: warning: {found}, as if they stood in each other's place")
    if level == "L1C" and (found := _not_from_above_the_air(reflectance)):
        raise UserError(
            path,
            f"{found}, less than the air alone gives in Level 1C: it is L2A, or its offset is taken off twice, or its "
            "bands have another order; if none of that, say its offset with --s2-offset",
        )
    return said


def _same_bands(reflectance: Float[np.ndarray, "10 pixel"]) -> str:
    """Two bands that are the same, or an empty text. Dark pixels do not count: water may be clipped to one value."""
    for (first, one), (second, other) in combinations(zip(SEN2_BANDS, reflectance, strict=True), 2):
        is_bright = np.maximum(one, other) > _DIM
        if is_bright.sum() >= _ENOUGH and (share := (one[is_bright] == other[is_bright]).mean()) > _EQUAL:
            return f"{first} and {second} are equal in {share:.0%} of all pixels"
    varied = reflectance - reflectance.mean(axis=1, keepdims=True)
    deviations = np.maximum(varied.std(axis=1), 1e-9)
    alike = varied @ varied.T / varied.shape[1] / np.outer(deviations, deviations) > _NEARLY
    for one, other in np.argwhere(np.triu(alike, 1)):
        factor = deviations[other] / deviations[one]
        rest = np.median(abs(factor * varied[one] - varied[other])) / max(factor, 1)
        if deviations[[one, other]].min() > _CONTRASTS and rest < _ROUNDED:
            return f"{SEN2_BANDS[other]} is {factor:.3g} times {SEN2_BANDS[one]} plus a constant in most pixels"
    return ""


def _alone(reflectance: Float[np.ndarray, "10 pixel"]) -> str:
    """A band that correlates with no other band; empty if there is none."""
    varied = reflectance - reflectance.mean(axis=1, keepdims=True)
    deviations = varied.std(axis=1)
    varied /= np.maximum(deviations, 1e-9)[:, None]
    correlation = varied @ varied.T / varied.shape[1]
    np.fill_diagonal(correlation, -1)
    most = np.where(deviations > _VARIED, correlation.max(axis=1), 1)
    at = int(most.argmin())
    return f"{SEN2_BANDS[at]} goes with no other band (correlation {most[at]:.2f})" if most[at] < _ALONE else ""


def _wrong_order(reflectance: Float[np.ndarray, "10 pixel"]) -> str:
    """A sign that bands have another order; empty if there is none.

    In all vegetation B06 is brighter than B05, and B11 brighter than B12. No ground that is bright in red is far darker
    in the near infrared.
    """
    band = dict(zip(SEN2_BANDS, reflectance, strict=True))
    lowest, ratio = _GREEN
    is_green = (band["B08"] > lowest) & (band["B08"] > ratio * band["B04"])
    if is_green.sum() >= _ENOUGH:
        for darker, brighter in (("B05", "B06"), ("B12", "B11")):
            low, high = (float(np.median(band[name][is_green])) for name in (darker, brighter))
            if low > _CLEARLY * high:
                return f"{darker} is brighter than {brighter} in vegetation ({low:.2f}, {high:.2f})"
    is_dry = band["B11"] > _DRY * band["B08"]
    for ratio, where in ((_MOST_RED, True), (_BARELY_RED, is_dry)):
        is_red = (band["B04"] > _RED) & (band["B04"] > ratio * band["B08"]) & where
        if is_red.sum() >= _ENOUGH and is_red.mean() > _MOST_OF_ALL:
            return f"B04 is more than {ratio:g} times as bright as B08 in {is_red.mean():.0%} of all pixels"
    return ""


def _unlike_neighbours(reflectance: Float[np.ndarray, "10 pixel"]) -> tuple[str, bool]:
    """How neighbouring bands differ more than any land does (empty if none do), and whether an offset explains it."""
    is_land = reflectance[SEN2_BANDS.index("B08")] > _LAND
    if is_land.sum() < _MANY:
        return "", False
    median = dict(zip(SEN2_BANDS, np.median(pixels_where(is_land, reflectance), axis=1).tolist(), strict=True))
    told = ""
    for one, other, lowest, highest, least in _NEIGHBOURS:
        here, there = median[one], median[other]
        if abs(there - here) > least and not lowest * here <= there <= highest * here:
            told = f"{one} has a median reflectance of {here:.3f} over land and {other} of {there:.3f}"
            less = there - _OFFSET, here - _OFFSET
            if lowest * here <= less[0] <= highest * here or lowest * less[1] <= there <= highest * less[1]:
                return told, True
    if found := _step_at_the_red_edge(reflectance):
        return found, True
    return told, False


def _step_at_the_red_edge(reflectance: Float[np.ndarray, "10 pixel"]) -> str:
    """How B05 and B06 differ as if only the bands on one side had an offset; empty if they do not.

    Mostly bands beyond B06 decide what is vegetation or soil, so such an offset does not change that.
    """
    band = dict(zip(SEN2_BANDS, reflectance, strict=True))
    step, fall = band["B06"] - band["B05"], band["B8A"] - band["B12"]
    is_leaf = (band["B11"] > _WET * band["B8A"]) & (band["B12"] > _LEAF * band["B11"])
    is_green = is_leaf & (fall > _FRESH) & (band["B02"] < _CLEAR)
    is_dry = (band["B11"] > band["B8A"]) & (band["B11"] > _FRESH)
    for where, by, (lowest, highest) in ((is_green, fall, _EDGE), (is_dry, np.ones_like(step), _DRY_STEP)):
        if where.sum() >= _SOME_OF_ALL and not lowest <= np.median(step[where] / by[where]) <= highest:
            kind = "vegetation" if where is is_green else "soil and roofs"
            return f"B06 differs by {np.median(step[where]):+.3f} from B05 over {kind}"
    return ""


def _blue_for_red(reflectance: Float[np.ndarray, "10 pixel"]) -> str:
    """How B02 varies more than B04 over land, as if they were swapped, or an empty text. Land varies more in red."""
    band = dict(zip(SEN2_BANDS, reflectance, strict=True))
    is_land = (band["B08"] > _LAND) & (band["B08"] > band["B03"])
    if is_land.sum() < _MANY:
        return ""
    blue, red = (float(band[name][is_land].std()) for name in ("B02", "B04"))
    return f"B04 varies by {red:.3f} over land and B02 by {blue:.3f}" if blue > max(_CONTRAST, red / _LEAST_RED) else ""


def _not_from_above_the_air(reflectance: Float[np.ndarray, "10 pixel"]) -> str:
    """How reflectance contradicts Level 1C, which includes the light that air scatters, mostly blue; empty if not."""
    blue, red = (np.quantile(reflectance[SEN2_BANDS.index(name)], _DARKEST) for name in ("B02", "B04"))
    if blue < _THIN_AIR or (blue < _AIR and red > _MOST_RED_AIR * blue):
        return f"the darkest pixels have a reflectance of {blue:.3f} in B02 and {red:.3f} in B04"
    return ""
