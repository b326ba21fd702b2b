"""Zones of cells of 100 m, row by row: a ring of rows, whole batches, memory that grows with the width alone."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Float32, Int, Shaped, UInt8, UInt16
from numpy.lib.stride_tricks import sliding_window_view

from bp_lcz.bands import PATCH_SIDE
from bp_lcz.errors import UserError
from bp_lcz.model.checkpoint import BATCH, Classifier
from bp_lcz.patches.transform import transform
from bp_lcz.scenes.raster import CELL, CELL_PIXELS
from bp_lcz.scenes.scene import Scene, Strip
from bp_lcz.scheme import CLASS_COUNT

COLOURS = ("B04", "B03", "B02")
COLOUR_SCALE = 10_000
"""Of a reflectance of 1 in a picture."""
NO_PERCENT = 255
_MOST_LOOKED_AT = 15
_MOST_SECONDS = 10
"""That a dry run looks for a cell that can be mapped."""
_MOST_WAITING = 32
"""Rows of cells that wait for a batch to become full."""


class Reason(IntEnum):
    """Why a cell has a zone, or none; the values of ``quality.tif``."""

    OUTSIDE_AREA = 0
    MAPPED = 1
    RIM = 2
    SENTINEL2_MISSING = 3
    SENTINEL1_MISSING = 4
    MASKED = 5
    UNLIKE = 6

    @property
    def word(self) -> str:
        """For people and reports."""
        return _WORDS[self]


_WORDS = {
    Reason.OUTSIDE_AREA: "outside the area",
    Reason.MAPPED: "mapped",
    Reason.RIM: "rim",
    Reason.SENTINEL2_MISSING: "Sentinel-2 missing",
    Reason.SENTINEL1_MISSING: "Sentinel-1 missing",
    Reason.MASKED: "masked",
    Reason.UNLIKE: "mapped, unlike the training data",
}
WITH_ZONE = (Reason.MAPPED, Reason.UNLIKE)


def cell_type(side: int) -> np.dtype:
    """What is kept of a cell.

    Args:
        side: pixels along a side of its picture, 1, 2, 5 or 10.
    """
    return np.dtype(
        [
            ("lcz", "u1"),
            ("reason", "u1"),
            ("percent", "u1", (CLASS_COUNT,)),
            ("quality", "u1", (3,)),
            ("picture", "<u2", (side, side, len(COLOURS))),
        ]
    )


def check_channels(scene: Scene, classifier: Classifier) -> None:
    """Refuse a model that takes channels which the scene lacks.

    Raises:
        UserError: that names them, and a way out.
    """
    for name, option, present, wanted in (
        ("Sentinel-1", "--s1", scene.channels.sen1, classifier.channels.sen1),
        ("Sentinel-2", "--s2", scene.channels.sen2, classifier.channels.sen2),
    ):
        missing = [band for band in wanted if band not in present]
        if missing and not present:
            raise UserError(
                option, f"the model takes {', '.join(missing)} of {name}; give such a file, or a model without"
            )
        if missing:
            raise UserError(
                option,
                f"the files have {', '.join(present)} of {name} and not {', '.join(missing)}, which the model takes; "
                "give files that have them, or a model of Sentinel-2 alone or of the two intensities",
            )


@dataclass
class _Row:
    """A row of cells whose patches are not all predicted."""

    cells: np.ndarray
    missing: int


def predict_cells(
    scene: Scene, classifier: Classifier, kept: np.dtype, first: int = 0, before: int = 0
) -> Iterator[np.ndarray]:
    """Predict the cells of a scene, row after row.

    Args:
        scene: that has the channels which the model takes.
        classifier: the model.
        kept: what is kept of a cell, a `cell_type`.
        first: row of cells to begin with.
        before: patches of the rows above that a model was asked for: they decide the place of a patch in its batch.

    Yields:
        The cells of each row, as soon as all of them are known.

    Raises:
        UserError: if a file cannot be read, or the model gives no probabilities.
    """
    down, across = scene.cells
    ring = _Ring(scene, classifier, first)
    batch = _Batch(classifier, before)
    waiting: deque[_Row] = deque()
    for row in range(first, down):
        ring.advance(row)
        cells = np.zeros(across, kept)
        cells["percent"] = cells["quality"] = NO_PERCENT
        cells["reason"] = ring.reasons(row)
        cells["picture"] = ring.picture(kept["picture"].shape[0])
        columns = np.flatnonzero(cells["reason"] == Reason.MAPPED)
        waiting.append(_Row(cells, len(columns)))
        batch.add(waiting[-1], ring.patches, columns)
        if len(waiting) > _MOST_WAITING or row == down - 1:
            batch.predict()
        while waiting and not waiting[0].missing:
            yield waiting.popleft().cells


def looked_at(scene: Scene, classifier: Classifier) -> tuple[Int[np.ndarray, " reason"], int]:
    """Reasons of the cells in some rows, spread over the scene: as many as a second allows, more if none is mapped.

    Returns:
        How many cells have each reason, and how many rows were looked at.
    """
    down, _ = scene.cells
    counts = np.zeros(len(Reason), np.int64)
    begin, seen = time.monotonic(), 0
    spread = set(np.linspace(0, down - 1, _MOST_LOOKED_AT + 2).astype(int)[1:-1].tolist())
    for row in sorted(range(down), key=lambda row: (row not in spread, abs(row - down // 2))):
        spent = time.monotonic() - begin
        if spent > _MOST_SECONDS or (counts[Reason.MAPPED] and (spent > 1 or row not in spread)):
            break
        ring = _Ring(scene, classifier, row)
        ring.advance(row)
        counts += np.bincount(ring.reasons(row), minlength=len(Reason))
        seen += 1
    return counts, seen


class _Ring:
    """The 32 rows of pixels under a row of cells, ready for the network."""

    def __init__(self, scene: Scene, classifier: Classifier, first: int) -> None:
        self._scene, self._channels = scene, classifier.channels
        self._sen1, self._sen2 = (
            [getattr(scene.channels, key).index(band) for band in getattr(classifier.channels, key)]
            for key in ("sen1", "sen2")
        )
        self._colours = [scene.channels.sen2.index(band) for band in COLOURS]
        width = scene.grid.width
        self._values = np.empty((PATCH_SIDE, width, len(classifier.channels.names)), np.float32)
        self._wrong = np.empty((4, PATCH_SIDE, width), dtype=bool)
        self._colour = np.empty((PATCH_SIDE, width, len(COLOURS)), np.float32)
        self._first = first

    def advance(self, row: int) -> None:
        """Hold the rows of a row of cells, the first or the one below the last."""
        kept = 0 if row == self._first else PATCH_SIDE - CELL_PIXELS
        for ring in (self._values, self._colour):
            ring[:kept] = ring[PATCH_SIDE - kept :]
        self._wrong[:, :kept] = self._wrong[:, PATCH_SIDE - kept :]
        self._take(self._scene.strip(CELL_PIXELS * row + kept, PATCH_SIDE - kept), kept)

    def _take(self, strip: Strip, kept: int) -> None:
        sen1, sen2 = (values.transpose(1, 2, 0) for values in (strip.sen1[self._sen1], strip.sen2[self._sen2]))
        self._values[kept:] = transform(sen1, sen2, self._channels)
        self._colour[kept:] = strip.sen2[self._colours].transpose(1, 2, 0)
        without_radar = not self._sen1
        radar_missing = np.zeros_like(strip.outside) if without_radar else ~strip.sen1_known
        self._wrong[:, kept:] = np.stack([strip.outside, ~strip.sen2_known, radar_missing, strip.masked])

    def reasons(self, row: int) -> UInt8[np.ndarray, " cell"]:
        """Of each cell of the row, from all pixels of its patch."""
        wrong = sliding_window_view(self._wrong.any(axis=1), PATCH_SIDE, axis=1)[:, ::CELL_PIXELS].max(axis=2)
        within = self._scene.touches(CELL_PIXELS * row, CELL_PIXELS * np.arange(wrong.shape[1]))
        told = [Reason.RIM, Reason.SENTINEL2_MISSING, Reason.SENTINEL1_MISSING, Reason.MASKED]
        found = np.full(len(within), Reason.MAPPED, np.uint8)
        for reason, holds in reversed(list(zip(told, np.asarray(wrong), strict=True))):
            found[holds] = reason
        found[~within] = Reason.OUTSIDE_AREA
        return found

    @property
    def patches(self) -> Float32[np.ndarray, "cell 32 32 channel"]:
        """A view."""
        return sliding_window_view(self._values, PATCH_SIDE, axis=1)[:, ::CELL_PIXELS].transpose(1, 0, 3, 2)

    def picture(self, side: int) -> UInt16[np.ndarray, "cell side side 3"]:
        """True colours of each cell: reflectance times `COLOUR_SCALE`."""
        pixels = self._colour[CELL, CELL.start : self._colour.shape[1] - CELL.start]
        blocks = pixels.reshape(side, CELL_PIXELS // side, -1, side, CELL_PIXELS // side, len(COLOURS)).mean(
            axis=(1, 4)
        )
        return np.rint(np.nan_to_num(blocks * COLOUR_SCALE)).clip(0, 2**16 - 1).astype(np.uint16).transpose(1, 0, 2, 3)


class _Batch:
    """Patches of several rows of cells, predicted when there are enough of them.

    A patch has the place in its batch that its number among all patches of the map gives it, so that a map that goes
    on in its middle has the bits of one made at once, and those of predictions for a file of the same patches.
    """

    def __init__(self, classifier: Classifier, before: int) -> None:
        self._classifier = classifier
        self._images = np.zeros((BATCH, PATCH_SIDE, PATCH_SIDE, len(classifier.channels.names)), np.float32)
        self._start = self._filled = before % BATCH
        self._parts: list[tuple[_Row, np.ndarray]] = []

    def add(
        self, row: _Row, patches: Float32[np.ndarray, "cell 32 32 channel"], columns: Int[np.ndarray, " patch"]
    ) -> None:
        """Take the patches of some cells of a row."""
        while len(columns):
            now, columns = np.split(columns, [BATCH - self._filled])
            self._images[self._filled : self._filled + len(now)] = patches[now]
            self._filled += len(now)
            self._parts.append((row, now))
            if self._filled == BATCH:
                self.predict()

    def predict(self) -> None:
        """Predict what is there."""
        if not self._parts:
            return
        # Places of other patches are filled with a real one; they decide nothing.
        self._images[: self._start] = self._images[self._start]
        self._images[self._filled :] = self._images[self._start]
        probability, is_unlike = self._classifier.classify_alike(torch.from_numpy(self._images))
        at = self._start
        for row, columns in self._parts:
            _store(row.cells, columns, probability[at : at + len(columns)])
            row.cells["reason"][columns[is_unlike[at : at + len(columns)]]] = Reason.UNLIKE
            row.missing -= len(columns)
            at += len(columns)
        self._start = self._filled = self._filled % BATCH
        self._parts.clear()


def _store(
    cells: Shaped[np.ndarray, " cell"], columns: Int[np.ndarray, " patch"], probability: Float32[np.ndarray, "patch 17"]
) -> None:
    """Zone, percent, and how sure: highest probability, its distance to the second, entropy by its largest value."""
    cells["lcz"][columns] = probability.argmax(axis=1) + 1
    cells["percent"][columns] = _percent(probability)
    second, first = np.partition(probability, -2, axis=1)[:, -2:].T
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.nansum(probability * np.log(probability), axis=1) / np.log(CLASS_COUNT)
    cells["quality"][columns] = _percent(np.stack([first, first - second, entropy], axis=1))


def _percent(share: np.ndarray) -> UInt8[np.ndarray, "*shape"]:
    return np.rint(100 * share).clip(0, 100).astype(np.uint8)
