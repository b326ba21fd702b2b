"""Predicts zones of cells of 100 m, a few rows at a time, in whole batches. Memory grows only with the width."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, Shaped, UInt8, UInt16
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from bp_lcz.bands import PATCH_SIDE
from bp_lcz.errors import UserError
from bp_lcz.model.calibration import set_sizes
from bp_lcz.model.checkpoint import BATCH, Classifier
from bp_lcz.patches.transform import transform
from bp_lcz.scenes.scene import Scene, Strip
from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.sensors.raster import CELL, CELL_PIXELS
from bp_lcz.so2sat.layout import WORKERS

COLOURS = ("B04", "B03", "B02")
COLOUR_SCALE = 10_000
"""Value of a reflectance of 1 in a picture."""
NO_PERCENT = 255
_MOST_LOOKED_AT = 15
_MOST_SECONDS = 10
"""Seconds for which a dry run looks for a cell that can be mapped."""
_MOST_WAITING = 32
"""Most rows of cells that wait for a full batch."""
_FEWEST, _MOST, _CELLS = 6, 12, 4000
"""Fewest and most rows of cells that are read together, and about how many cells they have: it bounds memory."""


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
        """The reason as messages and reports say it."""
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
    """NumPy type of the values that are kept for a cell.

    Args:
        side: side of its picture in pixels, 1, 2, 5 or 10.
    """
    return np.dtype(
        [
            ("lcz", "u1"),
            ("reason", "u1"),
            ("percent", "u1", (CLASS_COUNT,)),
            ("quality", "u1", (3,)),
            ("classes", "u1"),
            ("picture", "<u2", (side, side, len(COLOURS))),
        ]
    )


def check_channels(scene: Scene, classifier: Classifier) -> None:
    """Refuse a model that takes channels which the scene lacks.

    Raises:
        UserError: if channels are missing; the line names them, and a remedy.
    """
    for name, option, present, wanted in (
        ("Sentinel-1", "--s1", scene.channels.sen1, classifier.channels.sen1),
        ("Sentinel-2", "--s2", scene.channels.sen2, classifier.channels.sen2),
    ):
        missing = [band for band in wanted if band not in present]
        if missing and not present:
            raise UserError(
                option,
                f"the model takes {', '.join(missing)} of {name}; give such a file, or a model that does without",
            )
        if missing:
            raise UserError(
                option,
                f"the files have {', '.join(present)} of {name} and not {', '.join(missing)}, which the model takes; "
                "give files that have them, or a model of Sentinel-2 alone or of the two intensities",
            )


@dataclass
class _Row:
    """A row of cells, and how many of its patches are not predicted yet."""

    cells: np.ndarray
    missing: int


def predict_cells(
    scene: Scene,
    classifier: Classifier,
    kept: np.dtype,
    first: int = 0,
    before: int = 0,
    threshold: float | None = None,
) -> Iterator[np.ndarray]:
    """Predict the cells of a scene, row after row.

    Args:
        scene: scene with the channels that the model takes.
        classifier: the model.
        kept: type of the values that are kept for a cell, from `cell_type`.
        first: row of cells to begin with.
        before: patches that were predicted for the rows above. They decide the place of a patch in its batch.
        threshold: smallest probability of a class in a cell's set of classes; None for no sets.

    Yields:
        The cells of each row, as soon as all of them are known.

    Raises:
        UserError: if a file cannot be read, or the model gives no probabilities.
    """
    batch = _Batch(classifier, before, threshold)
    waiting: deque[_Row] = deque()
    for block in _blocks(scene, classifier, kept, first):
        for cells, patches in zip(block.cells, block.patches, strict=True):
            columns = np.flatnonzero(cells["reason"] == Reason.MAPPED)
            waiting.append(_Row(cells, len(columns)))
            batch.add(waiting[-1], patches, columns)
            if len(waiting) > _MOST_WAITING:
                batch.predict()
            while waiting and not waiting[0].missing:
                yield waiting.popleft().cells
    batch.predict()
    yield from (row.cells for row in waiting)


def looked_at(scene: Scene, classifier: Classifier) -> tuple[Int[np.ndarray, " reason"], int]:
    """Count the reasons of cells in rows spread over the scene, for about a second, or longer if none is mapped.

    Returns:
        How many cells have each reason, and how many rows were looked at.
    """
    down, _ = scene.cells
    counts = np.zeros(len(Reason), np.int64)
    begin, seen = time.monotonic(), 0
    wanted = min(down, _MOST_LOOKED_AT)
    spread = {int((part + 0.5) * down / wanted) for part in range(wanted)}  # the middle of equal parts of the scene
    for row in sorted(range(down), key=lambda row: (row not in spread, abs(row - down // 2))):
        spent = time.monotonic() - begin
        if spent > _MOST_SECONDS or (counts[Reason.MAPPED] and (spent > 1 or row not in spread)):
            break
        block = _Block(scene, classifier, cell_type(1), range(row, row + 1))
        counts += np.bincount(block.cells["reason"].ravel(), minlength=len(Reason))
        seen += 1
    return counts, seen


def _blocks(scene: Scene, classifier: Classifier, kept: np.dtype, first: int) -> Iterator["_Block"]:
    """Rows of cells from `first` on. If a core is free, they are read while the network works on earlier rows.

    Without a free core, a reading thread would slow down a thread of the network, and all others wait for that one.
    """
    down, across = scene.cells
    height = min(max(_CELLS // across, _FEWEST), _MOST)
    rows = [range(row, min(row + height, down)) for row in range(first, down, height)]
    if classifier.device == "cpu" and torch.get_num_threads() >= WORKERS:
        yield from (_Block(scene, classifier, kept, some) for some in rows)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
        ahead: deque[Future[_Block]] = deque()
        for some in rows:
            ahead.append(reader.submit(_Block, scene, classifier, kept, some))
            if len(ahead) > 1:
                yield ahead.popleft().result()
        for block in ahead:
            yield block.result()


class _Block:
    """Rows of cells, and the pixels under them as the network takes them.

    Attributes:
        cells: cells with reasons and pictures, still without zones.
        patches: standardised patches of the cells, as a view. A row of pixels and their channels is one axis.
    """

    cells: Shaped[np.ndarray, "row cell"]
    patches: Float32[Tensor, "row cell 32 row_value"]

    def __init__(self, scene: Scene, classifier: Classifier, kept: np.dtype, rows: range) -> None:
        strip = scene.strip(CELL_PIXELS * rows.start, CELL_PIXELS * (len(rows) - 1) + PATCH_SIDE)
        taken, (_, across) = classifier.channels, scene.cells
        self.cells = np.zeros((len(rows), across), kept)
        self.cells["percent"] = self.cells["quality"] = self.cells["classes"] = NO_PERCENT
        self.cells["reason"] = _reasons(scene, strip, rows, bool(taken.sen1))
        self.cells["picture"] = _pictures(
            strip.sen2[[scene.channels.sen2.index(band) for band in COLOURS]], len(rows), kept["picture"].shape[0]
        )
        sen1, sen2 = (
            _chosen(getattr(strip, key), getattr(scene.channels, key), getattr(taken, key)) for key in ("sen1", "sen2")
        )
        images = torch.from_numpy(transform(sen1.transpose(1, 2, 0), sen2.transpose(1, 2, 0), taken))
        pixels = classifier.network.standardise(images).flatten(1)  # before patches overlap: each pixel only once
        count = len(taken.names)
        self.patches = pixels.unfold(0, PATCH_SIDE, CELL_PIXELS).unfold(1, PATCH_SIDE * count, CELL_PIXELS * count)


def _chosen(
    values: Float32[np.ndarray, "channel row width"], present: Sequence[str], taken: Sequence[str]
) -> Float32[np.ndarray, "taken row width"]:
    """Channels in the order of a model. If it takes all of them, nothing is copied."""
    return values if taken == present else values[[present.index(band) for band in taken]]


def _reasons(scene: Scene, strip: Strip, rows: range, takes_radar: bool) -> UInt8[np.ndarray, "row cell"]:
    """The reason of each cell. It depends on all pixels of its patch."""
    found = np.full((len(rows), scene.cells[1]), Reason.MAPPED, np.uint8)
    for reason, wrong in (
        (Reason.MASKED, strip.masked),
        *([(Reason.SENTINEL1_MISSING, ~strip.sen1_known)] if takes_radar else []),
        (Reason.SENTINEL2_MISSING, ~strip.sen2_known),
        (Reason.RIM, strip.outside),
    ):
        if wrong.any():
            under = np.stack([wrong[CELL_PIXELS * row :][:PATCH_SIDE].any(axis=0) for row in range(len(rows))])
            found[sliding_window_view(under, PATCH_SIDE, axis=1)[:, ::CELL_PIXELS].any(axis=2)] = reason
    for number, row in enumerate(rows):
        within = scene.touches(CELL_PIXELS * row, CELL_PIXELS * np.arange(found.shape[1]))
        found[number, ~within] = Reason.OUTSIDE_AREA
    return found


def _pictures(
    colours: Float32[np.ndarray, "3 pixel_row width"], rows: int, side: int
) -> UInt16[np.ndarray, "{rows} cell {side} {side} 3"]:
    """True colours of cells: mean reflectance of the pixels under each pixel of the picture, times `COLOUR_SCALE`."""
    inner = colours[:, CELL.start :, CELL.start : colours.shape[2] - CELL.start][:, : rows * CELL_PIXELS]
    step = CELL_PIXELS // side
    # Sum over rows first, since a row is contiguous in memory.
    under = inner.reshape(len(COLOURS), rows, side, step, -1).sum(axis=3)
    mean = under.reshape(len(COLOURS), rows, side, -1, side, step).sum(axis=5) / step**2
    whole = np.rint(np.nan_to_num(mean * COLOUR_SCALE)).clip(0, 2**16 - 1).astype(np.uint16)
    return whole.transpose(1, 3, 2, 4, 0)


class _Batch:
    """Patches of several rows of cells, predicted when there are enough of them.

    The number of a patch among all patches of the map decides its place in a batch. So a resumed map has the same bits
    as one made at once, and as predictions for a file of the same patches.
    """

    def __init__(self, classifier: Classifier, before: int, threshold: float | None) -> None:
        self._classifier, self._threshold = classifier, threshold
        self._images = torch.zeros(BATCH, PATCH_SIDE, PATCH_SIDE * len(classifier.channels.names))
        self._start = self._filled = before % BATCH
        self._parts: list[tuple[_Row, np.ndarray]] = []

    def add(self, row: _Row, patches: Float32[Tensor, "cell 32 row_value"], columns: Int[np.ndarray, " patch"]) -> None:
        """Take the patches of some cells of a row."""
        while len(columns):
            now, columns = np.split(columns, [BATCH - self._filled])
            for run in np.split(now, np.flatnonzero(np.diff(now) > 1) + 1):
                self._images[self._filled : self._filled + len(run)] = patches[run[0] : run[-1] + 1]
                self._filled += len(run)
            self._parts.append((row, now))
            if self._filled == BATCH:
                self.predict()

    def predict(self) -> None:
        """Predict the patches that have been added."""
        if not self._parts:
            return
        # Empty places hold a copy of a real patch; their results are not used.
        self._images[: self._start] = self._images[self._start]
        self._images[self._filled :] = self._images[self._start]
        images = self._images.unflatten(2, (PATCH_SIDE, -1))
        found = _found(*self._classifier.classify_alike(images, are_standardised=True), self._threshold)
        at = self._start
        for row, columns in self._parts:
            for name, values in found.items():
                row.cells[name][columns] = values[at : at + len(columns)]
            row.missing -= len(columns)
            at += len(columns)
        self._start = self._filled = self._filled % BATCH
        self._parts.clear()


def _found(
    probability: Float32[np.ndarray, "patch 17"], is_unlike: Bool[np.ndarray, " patch"], threshold: float | None
) -> dict[str, np.ndarray]:
    """Zone, percentages and quality: highest probability, its margin to the second, entropy divided by its maximum.

    With a threshold, also the number of classes in the set of each cell.
    """
    second, first = np.partition(probability, -2, axis=1)[:, -2:].T
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.nansum(probability * np.log(probability), axis=1) / np.log(CLASS_COUNT)
    return {
        "lcz": probability.argmax(axis=1) + 1,
        "reason": np.where(is_unlike, Reason.UNLIKE, Reason.MAPPED),
        "percent": _percent(probability),
        "quality": _percent(np.stack([first, first - second, entropy], axis=1)),
        **({} if threshold is None else {"classes": set_sizes(probability, threshold)}),
    }


def _percent(share: np.ndarray) -> UInt8[np.ndarray, "*shape"]:
    return np.rint(100 * share).clip(0, 100).astype(np.uint8)
