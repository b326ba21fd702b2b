"""Leakage between splits: patches of two splits that show the same ground.

So2Sat's patches are 320 m wide on a stride of 100 m, so neighbours overlap about sevenfold. A split that separates
neighbours tests on pixels that it trained on. If all splits have geo files, the distance of the footprints decides.
Without them, equal pixels decide: two patches of the same scene share the pixels of their overlap bit by bit, and no
others, since radar speckle never repeats. Sentinel-2 is compared if a data set has no Sentinel-1.

docs/adr/0008-leakage.md gives reasons, and overlaps that are not found.
"""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt64
from scipy.spatial import KDTree
from tqdm import tqdm

from bp_lcz.params import SPLITS, Split
from bp_lcz.records import LEAKY_SPLIT, Leakage, Overlap
from bp_lcz.so2sat.geo import Geo, read_geo
from bp_lcz.so2sat.ground import SIDE_M, near_across
from bp_lcz.so2sat.layout import open_split

OVERLAP_M = SIDE_M
"""Two footprints overlap if their corners are nearer than this in easting and in northing, in m."""

NEAREST_M = OVERLAP_M - 1e-6
"""`OVERLAP_M` less the rounding error of coordinates in float64, in m."""

EQUAL_BLOCKS = 2
"""Smallest number of equal samples at which two patches are near-duplicates."""

REMEDY = (
    "a test on ground of the training proves nothing: `bp-lcz split` makes separate splits, and "
    f"`validate.leakage: mark` in params.yaml accepts the overlap and marks every result '{LEAKY_SPLIT}'"
)
"""Advice in the message about an overlap."""

_ONE_IN = 64
"""One in this many 2 x 2 pixel blocks of a patch is sampled: 15 of 961, or 180 bytes a patch."""

_COMMON = 32
"""A sample that occurs in more patches than this is a texture, such as a constant fill, and does not count."""

_ROWS = 256


class Neighbours:
    """Each patch of a split with the patch of another split that is nearest or most similar to it.

    Attributes:
        table: one row for each patch and other split, the later split first. ``neighbours`` names both patches, the
            city and their distance. Either ``distance`` holds it in m, or ``equal_blocks`` the number of sampled
            blocks that both have; the other column is missing.
        by_distance: whether distances were known from geo files.
        pairs: number of pairs of patches that overlap; without geo files a lower bound.
    """

    def __init__(self, table: pd.DataFrame, by_distance: bool, pairs: int) -> None:
        self.table, self.by_distance, self.pairs = table, by_distance, pairs

    @property
    def status(self) -> Overlap:
        """Whether splits overlap, and how this was found."""
        if not self.pairs:
            return "none"
        return "overlap" if self.by_distance else "near-duplicates"

    def summary(self) -> Leakage:
        """The entry ``leakage`` of ``summary.json``, which every result repeats.

        ``distance`` of patches in two UTM zones counts only if they overlap.
        """
        nearest = self.table["distance"].min()
        return Leakage(
            status=self.status,
            pairs=self.pairs,
            distance=None if not np.isfinite(nearest) else round(float(nearest), 3),
        )


def find_neighbours(root: Path) -> Neighbours:
    """Compare the splits of a data set in pairs, by footprints if all have geo files, by pixels otherwise.

    Args:
        root: folder of the data set.

    Raises:
        UserError: if a file is not in form, see `bp_lcz.so2sat.layout`.
    """
    geo = {split: read_geo(root, split) for split in SPLITS}
    known = {split: where for split, where in geo.items() if where is not None}
    if len(known) == len(SPLITS):
        return _by_distance(known)
    return _by_pixels({split: _sample_split(root, split) for split in SPLITS})


def footprint_distance(
    corners: Float[np.ndarray, "n 2"], others: Float[np.ndarray, "m 2"]
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Distance of each footprint to the nearest of some others, and the index of that one.

    The distance is the larger of the differences in easting and northing (Chebyshev), in m: two squares of 320 m
    overlap if it is below 320. Without others, it is infinite and the index is beyond the last one.
    """
    if not len(others):
        return np.full(len(corners), np.inf), np.full(len(corners), len(others))
    distance, nearest = KDTree(others).query(corners, p=np.inf)
    return distance, nearest


def _by_distance(geo: dict[Split, Geo]) -> Neighbours:
    tables, pairs = [], 0
    for first, second in combinations(SPLITS, 2):
        closest = np.full(len(geo[second].epsg), np.inf)
        beside = np.zeros(len(closest), dtype=np.int64)
        # Not by city: two files may spell one city differently.
        for epsg in np.intersect1d(geo[first].epsg, geo[second].epsg):
            (i, here), (j, there) = (_of_projection(geo[split], int(epsg)) for split in (first, second))
            distance, nearest = footprint_distance(there, here)
            if (distance < NEAREST_M).any():
                below = np.nextafter(NEAREST_M, 0.0)
                pairs += int(KDTree(here).count_neighbors(KDTree(there), below, p=np.inf))
            closest[j], beside[j] = distance, i[nearest]
        i, j, distance = near_across(geo[first], geo[second], NEAREST_M)
        pairs += len(distance)
        # The nearest pair of a patch comes last and wins.
        order = np.argsort(-distance, kind="stable")
        i, j, distance = (part[order] for part in (i, j, distance))
        wins = distance < closest[j]
        closest[j[wins]], beside[j[wins]] = distance[wins], i[wins]
        rows = np.flatnonzero(np.isfinite(closest))
        rows = rows[np.argsort(geo[second].epsg[rows], kind="stable")]
        names = [
            f"{second}.h5[{b}] and {first}.h5[{a}] in {name} {metres:.6g} m apart"
            for a, b, name, metres in zip(beside[rows], rows, geo[second].city[rows], closest[rows], strict=True)
        ]
        tables.append(_table(names, closest[rows], np.full(len(names), np.nan)))
    return Neighbours(_joined(tables), True, pairs)


def _of_projection(geo: Geo, epsg: int) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n 2"]]:
    rows = np.flatnonzero(geo.epsg == epsg)
    return rows, np.stack([geo.easting[rows], geo.northing[rows]], axis=1)


class PixelSample:
    """A few pixels of each patch, chosen by a hash of their own values and so independent of the patch's position.

    A block of 2 x 2 pixels is sampled if the hash of its first pixel is divisible by 64. The hash of all four pixels
    identifies it. Overlapping patches sample the same blocks in their overlap, for any shift in pixels.

    Attributes:
        count: number of patches so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._patch: list[Int[np.ndarray, " n"]] = []
        self._hash: list[UInt64[np.ndarray, " n"]] = []

    def add(self, images: Float[np.ndarray, "patch 32 32 channel"]) -> None:
        """Sample the next patches, from one sensor's values rounded to float32."""
        bits = np.ascontiguousarray(images, dtype="<f4").view("<u4")
        factors = np.random.default_rng(42).integers(1, 2**63, size=images.shape[-1] + 4, dtype=np.uint64) * 2 + 1
        pixel = np.zeros(bits.shape[:3], dtype=np.uint64)
        for channel, factor in enumerate(factors[:-4]):
            pixel += bits[..., channel] * factor
        pixel = _mixed(pixel)
        patch, row, column = np.nonzero(pixel[:, :-1, :-1] % _ONE_IN == 0)
        corners = [pixel[patch, row + down, column + right] for down in (0, 1) for right in (0, 1)]
        block = np.zeros(len(patch), dtype=np.uint64)
        for corner, factor in zip(corners, factors[-4:], strict=True):
            block += corner * factor
        # Filled pixels are equal everywhere.
        varied = np.any([corner != corners[0] for corner in corners], axis=0)
        self._patch.append((patch[varied] + self.count).astype(np.int32))
        self._hash.append(_mixed(block)[varied])
        self.count += len(images)

    def result(self) -> tuple[Int[np.ndarray, " n"], UInt64[np.ndarray, " n"]]:
        """Patch and hash of all sampled blocks, sorted by hash."""
        patch = np.concatenate([np.zeros(0, np.int32), *self._patch])
        block = np.concatenate([np.zeros(0, np.uint64), *self._hash])
        order = np.argsort(block, kind="stable")
        return patch[order], block[order]


def _mixed(values: UInt64[np.ndarray, "*n"]) -> UInt64[np.ndarray, "*n"]:
    """Spread the bits over the whole number (the finalizer of SplitMix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _sample_split(root: Path, split: Split) -> PixelSample:
    sample = PixelSample()
    with (
        open_split(root, split) as reader,
        tqdm(total=reader.count, desc=f"leakage {split}", unit="patch") as progress,
    ):
        # Reflectance repeats more often than speckle, but not in all bands of four different pixels.
        optical = (sen2 for _, _, sen2 in reader.images(_ROWS))
        for images in reader.sen1_chunks(_ROWS) if reader.channels.sen1 else optical:
            sample.add(images)
            progress.update(len(images))
    return sample


def _by_pixels(samples: dict[Split, PixelSample]) -> Neighbours:
    tables, pairs = [], 0
    for first, second in combinations(SPLITS, 2):
        here, there, count = _equal_blocks(samples[first], samples[second])
        is_pair = count >= EQUAL_BLOCKS
        pairs += int(is_pair.sum())
        # The most similar patch of the first split comes last and wins.
        order = np.argsort(count, kind="stable")
        alike, most = (np.zeros(samples[second].count, dtype=np.int64) for _ in range(2))
        alike[there[order]], most[there[order]] = here[order], count[order]
        names = [
            f"{second}.h5[{b}] and {first}.h5[{a}] with {n} equal blocks of pixels" if n else f"{second}.h5[{b}]"
            for b, (a, n) in enumerate(zip(alike, most, strict=True))
        ]
        tables.append(_table(names, np.full(len(names), np.nan), most.astype(np.float64)))
    return Neighbours(_joined(tables), False, pairs)


def _equal_blocks(first: PixelSample, second: PixelSample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of patches with equal samples: index in first, index in second, number of equal samples."""
    (here, known), (there, asked) = first.result(), second.result()
    left, right = (np.searchsorted(known, asked, side=side) for side in ("left", "right"))
    many = right - left
    own = np.searchsorted(asked, asked, side="right") - np.searchsorted(asked, asked, side="left")
    keep = (many > 0) & (many <= _COMMON) & (own <= _COMMON)
    many, left, there = many[keep], left[keep], there[keep]
    ranges = np.repeat(left - np.cumsum(many) + many, many) + np.arange(many.sum())
    keys = here[ranges].astype(np.int64) * second.count + np.repeat(there, many)
    pair, count = np.unique(keys, return_counts=True)
    return pair // max(second.count, 1), pair % max(second.count, 1), count


def _table(names: list[str], distance: np.ndarray, equal_blocks: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"neighbours": names, "distance": distance, "equal_blocks": equal_blocks})


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """One table, the nearest first, since messages name the first rows."""
    table = pd.concat([_table([], np.zeros(0), np.zeros(0)), *tables], ignore_index=True)
    table = table.astype({"neighbours": "str", "distance": "float64", "equal_blocks": "float64"})
    return table.sort_values(["distance", "equal_blocks"], ascending=[True, False], kind="stable", ignore_index=True)
