"""Finds pixels where one band stands still (has one value) while others vary: undeclared fill and detector faults."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from scipy.ndimage import maximum_filter, maximum_filter1d, minimum_filter, minimum_filter1d

_SIDE = 8
"""Side in pixels of a square of one value. On real ground it is four at most, two pixels of 20 m."""
_STEP = _SIDE // 2
_RUN, _RUN_STEP, _LONGEST_STEP, _LOOKS = 32, 8, 64, 64
"""Length in pixels of a run of one value along a row or column, a patch's side; least and greatest distance of the
pixels that are compared first, and their number along a line."""
REACH = 2
"""Distance in pixels to which a warp spreads the value of such a square: one pixel of 20 m."""
_FEW, _OF_A_FILE = 2, 6
"""Most bands that fill may stand in: with a value for each band, or with one value for all bands of a 20 m file."""
_MANY, _BESIDE = 64, 4
"""A number is fill if it has more pixels than this, and so many times the pixels of numbers within 2 of it."""
ROWS_AROUND = _SIDE - 1 + REACH
"""Rows above and below that decide whether a pixel stands still."""


def still(stored: Num[np.ndarray, "band row column"]) -> Bool[np.ndarray, "band row column"] | None:
    """Pixels, for each band, of squares and lines with one value while other bands vary; None if there are none."""
    bands, rows, columns = _bands_with_squares(stored), _runs(stored), _runs(stored.transpose(0, 2, 1))
    if not (bands.size or rows.size or columns.size):
        return None
    found = np.zeros(stored.shape, dtype=bool)
    for band in bands:
        values = stored[band]
        square = maximum_filter(values, _SIDE, mode="nearest") == minimum_filter(values, _SIDE, mode="nearest")
        found[band] = maximum_filter(square, _SIDE, origin=-1, mode="constant")
    for lines, values, here in ((rows, stored, found), (columns, stored.transpose(0, 2, 1), found.transpose(0, 2, 1))):
        for band, line in lines:
            along = values[band, line]
            run = maximum_filter1d(along, _RUN, mode="nearest") == minimum_filter1d(along, _RUN, mode="nearest")
            here[band, line] |= maximum_filter1d(run, _RUN, origin=-1, mode="constant")
    found &= _is_fill(stored, found)
    return found if found.any() else None


def _bands_with_squares(stored: Num[np.ndarray, "band row column"]) -> Int[np.ndarray, " some"]:
    """Indices of bands that may have such squares."""
    corners = stored[:, ::_STEP, ::_STEP]
    first = corners[:, :-1, :-1]
    alike = first == corners[:, 1:, :-1]
    for other in (corners[:, :-1, 1:], corners[:, 1:, 1:]):
        alike &= first == other
    alike &= ~alike.all(axis=0)
    found: np.ndarray = np.flatnonzero(alike.any(axis=(1, 2)))
    return found


def _runs(stored: Num[np.ndarray, "band line place"]) -> Int[np.ndarray, "some 2"]:
    """Index of band and line for each line with a run of one value. In long lines only longer runs are found."""
    step = min(max(stored.shape[2] // _LOOKS, _RUN_STEP), _LONGEST_STEP)
    some = stored[:, :, ::step]
    alike = some[:, :, 1:] == some[:, :, :-1]
    alike = alike[:, :, 2:] & alike[:, :, 1:-1] & alike[:, :, :-2]  # four pixels alike
    alike &= ~alike.all(axis=0)
    if not alike.any():
        return np.empty((0, 2), int)
    band, line, look = np.nonzero(alike)
    between = stored[band[:, None], line[:, None], step * look[:, None] + np.arange(3 * step + 1)]
    is_run = (between == between[:, :1]).all(axis=1)
    found: np.ndarray = np.unique(np.stack([band, line], axis=1)[is_run], axis=0)
    return found


def _is_fill(
    stored: Num[np.ndarray, "band row column"], found: Bool[np.ndarray, "band row column"]
) -> Bool[np.ndarray, "row column"]:
    """Where one or two bands stand still, or those of one file at one value. If more bands do, the ground is even."""
    count = found.sum(axis=0)
    most = min(_FEW, len(stored) - 1)
    where = count <= most
    several = (count > most) & (count <= _OF_A_FILE) & (count < len(stored))
    if several.any():
        values, here = stored[:, several], found[:, several]
        value = np.take_along_axis(values, here.argmax(axis=0)[None], axis=0)
        where[several] = ((values == value) | ~here).all(axis=0)
    return where


def is_still_at_rim(stored: Num[np.ndarray, "band row column"]) -> bool:
    """Whether such a square may reach into the first or last row."""
    rows = stored[:, [0, -1]]
    alike = rows[:, :, 1:] == rows[:, :, :-1]
    alike &= ~alike.all(axis=0)
    for step in (1, 2, 3):  # ever longer runs of equal pixels
        alike = alike[:, :, step:] & alike[:, :, :-step]
    return bool(alike.any())


def grown(where: Bool[np.ndarray, "row column"]) -> Bool[np.ndarray, "row column"]:
    """Pixels of an area, and those into which a warp spreads their values."""
    found: np.ndarray = maximum_filter(where, 2 * REACH + 1, mode="constant")
    return found


def min_without_fill(bands: Sequence[Float[np.ndarray, " _"]], share: float) -> float:
    """The least quantile of several bands. Bands whose quantile is a number of fill are left out.

    If most bands have such a number, it is not fill but rounding to a coarse scale, and all bands count.

    Args:
        bands: digital numbers of the pixels of each band, at least one pixel for each.
        share: share of pixels below the quantile.
    """
    lows = [float(np.quantile(band, share)) for band in bands]
    kept = [low for band, low in zip(bands, lows, strict=True) if not _is_alone(band, low)]
    return min(kept if len(kept) > len(lows) / 2 else lows)


def _is_alone(band: Float[np.ndarray, " _"], low: float) -> bool:
    """Whether far more pixels have this number than its neighbouring numbers."""
    count = int((band == low).sum())
    return count > max(_MANY, _BESIDE * (int((abs(band - low) <= 2).sum()) - count))
