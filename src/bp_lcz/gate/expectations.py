"""Expectations of the quality gate: small tables of a data set's statistics, and bounds on their columns.

A missing value in a table was not checked: few patches are not enough to judge spectra, and only a split with as many
patches as a published one is compared with it. Each bound states its origin. The bounds were tried on simulated data of
several seeds and class frequencies and on real patches, whole and by site (`tests/gate/test_defects.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from bp_lcz.bands import SEN2_BANDS, Channels
from bp_lcz.gate.spectral import neighbour_correlation, swaps
from bp_lcz.gate.statistics import TAIL, tailed
from bp_lcz.params import SPLITS
from bp_lcz.scheme import CLASS_COUNT, CODES, NAMES
from bp_lcz.so2sat.layout import open_split
from bp_lcz.so2sat.published import PUBLISHED, Published

ENOUGH = 100
"""Smallest number of patches at which spectra, levels and spreads of a split are judged.

300 random samples of 100 real or simulated patches all pass. Among samples of 30, one in a hundred comes near the
bounds below.
"""

OFFSET = 0.1
"""Reflectance of an offset of +1000 digital numbers, which products of processing baseline 04.00 and later have."""

RADAR_MAX = 1e5
"""Largest plausible linear backscatter. So2Sat's maxima are near 10^4, for a strong target that fills a pixel. Larger
values are digital numbers without calibration."""

SWAP = 0.5
"""Rise of the sum of neighbours' correlations that only exchanged bands explain. If B12 is given as B08, the rise is
1.9 on real patches and at least 0.6 on simulated ones. In the right order, any exchange gives at most 0.05 on samples
of 50 real patches, and 0.38 (B03 with B04) on a single winter scene of 63 real patches."""

UNUSUAL_SWAP = 0.15
"""Rise that is only reported. Exchanged B02 and B04 give 0.39 on real patches of several scenes, but -0.01 to 0.12 on
single scenes and simulated patches, where correct bands reach as much. So no bound can make it an error."""


@dataclass(frozen=True)
class Expectation:
    """Each value of one column of a table lies between two bounds.

    Attributes:
        name: what is expected, in plain words.
        target: split, band or array that it is about.
        table: name of a table of `tables`.
        column: column of that table.
        minimum: smallest admissible value, or None.
        maximum: largest admissible value, or None.
        warning: whether a violation is only reported, and does not stop the pipeline.
        by_many: whether only splits with at least `ENOUGH` patches are judged.
        needs: what a data set must have to be checked, if some data sets lack it.
    """

    name: str
    target: str
    table: str
    column: str
    minimum: float | None = None
    maximum: float | None = None
    warning: bool = False
    by_many: bool = False
    needs: str = ""

    @property
    def why_not_checked(self) -> str:
        """What the data set lacks, if there was no row to check."""
        return f"needs {self.needs or (f'a split of {ENOUGH} patches' if self.by_many else f'such {self.table}')}"

    @property
    def title(self) -> str:
        """What it is about and what is expected."""
        return f"{self.target}: {self.name}"


def suite(
    channels: Channels, reflectance_max: float, zeros_max: float, published: Published = PUBLISHED
) -> list[Expectation]:
    """All expectations, in the order in which a failure is reported: causes before their consequences."""
    return [
        Expectation("at least one patch in each split", "split", "splits", "patches", minimum=1.0),
        *_release(published),
        Expectation("all values finite", "pixels", "patches", "non_finite", maximum=0.0),
        Expectation("one-hot label", "label", "patches", "class", minimum=0.0, maximum=float(CLASS_COUNT - 1)),
        Expectation("at least two classes in training", "label", "splits", "classes_to_learn", minimum=2.0),
        *_optical(channels, reflectance_max, zeros_max),
        *_radar(channels, zeros_max),
        Expectation("no identical patch in two splits", "pixels", "patches", "splits_with_it", maximum=1.0),
        Expectation(
            "no identical patch twice in a split", "pixels", "patches", "copies_in_split", maximum=1.0, warning=True
        ),
        Expectation(
            "each class of testing occurs in training",
            "label",
            "classes",
            "unseen_in_testing",
            maximum=0.0,
            warning=True,
        ),
        # Means of So2Sat's 42 cities on five continents differ by less than one standard deviation of its pixels.
        Expectation(
            "mean within one standard deviation of So2Sat's",
            "bands",
            "bands",
            "mean_shift",
            minimum=-1.0,
            maximum=1.0,
            warning=True,
            by_many=True,
        ),
        Expectation(
            "spread within a factor of three of So2Sat's",
            "bands",
            "bands",
            "spread_ratio",
            minimum=1 / 3,
            maximum=3.0,
            warning=True,
            by_many=True,
        ),
    ]


def _release(published: Published) -> list[Expectation]:
    """Expectations of a split with as many patches as a split of the release: it must agree with that split."""
    name = published.name
    expectations = [
        *(
            Expectation(f"patches of each class as in {name}", split, "classes", f"{split}_surplus", 0.0, 0.0)
            for split in SPLITS
        ),
        Expectation(f"first labels of testing as in {name}", "label", "splits", "other_first_labels", maximum=0.0),
        # The published figures are exact; 1 % leaves room for files that were stored again in another type.
        Expectation(f"mean as in {name}", "bands", "bands", "release_mean", minimum=-0.01, maximum=0.01),
        Expectation(f"spread as in {name}", "bands", "bands", "release_spread", minimum=0.99, maximum=1.01),
        # A file that was stored again holds the same patches, so this is only a warning.
        Expectation(f"float64 as in {name}", "layout", "files", "float64", minimum=1.0, warning=True),
        Expectation(f"one run of bytes as in {name}", "layout", "files", "contiguous", minimum=1.0, warning=True),
        Expectation(f"file size as in {name}", "layout", "splits", "excess_bytes", 0.0, 0.0, warning=True),
    ]
    return [replace(expectation, needs=f"a split of as many patches as {name} has") for expectation in expectations]


def _optical(channels: Channels, reflectance_max: float, zeros_max: float) -> list[Expectation]:
    return [
        # So2Sat's smallest reflectance is 0.0001, so zeros are fill. Blank patches would upset the later expectations.
        Expectation(
            f"no blank patches, share of zeros at most {zeros_max:g}",
            "sen2",
            "patches",
            "zeros_sen2",
            maximum=zeros_max,
        ),
        # Fresh snow and thick cloud reach about 0.9. Digital numbers are 10,000 times reflectance, per cent 100 times.
        Expectation("reflectance, not digital numbers", "sen2", "bands", "level", maximum=1.5),
        Expectation("no band stored twice", "sen2", "pairs", "identical", maximum=0.5),
        # In samples of 50 patches, neighbours correlate by at least 0.7, and radar with optical bands by at most 0.2.
        Expectation("each band goes with its neighbours", "sen2", "bands", "neighbour", minimum=0.3, by_many=True),
        Expectation("no two bands in each other's place", "sen2", "pairs", "swap", maximum=SWAP, by_many=True),
        # Shadow and water are nearly black in the short-wave infrared, where the air itself scatters least.
        Expectation(
            "no offset of +1000 digital numbers", "sen2", "splits", "darkest", maximum=0.9 * OFFSET, by_many=True
        ),
        *(Expectation("reflectance at least 0", band, "patches", f"{band}_min", minimum=0.0) for band in channels.sen2),
        *(
            Expectation(
                f"reflectance at most {reflectance_max:g}", band, "patches", f"{band}_max", maximum=reflectance_max
            )
            for band in channels.sen2
        ),
        Expectation(
            "bands in spectral order", "sen2", "pairs", "swap", maximum=UNUSUAL_SWAP, warning=True, by_many=True
        ),
        Expectation(
            "no offset of +1000 digital numbers in any city",
            "sen2",
            "cities",
            "darkest",
            maximum=0.9 * OFFSET,
            warning=True,
            needs=f"a city of {ENOUGH} patches with B11 or B12",
        ),
    ]


def _radar(channels: Channels, zeros_max: float) -> list[Expectation]:
    return [
        *(
            Expectation("intensity at least 0", band, "patches", f"{band}_min", minimum=0.0)
            for band in channels.sen1
            if band.endswith("_intensity")
        ),
        # Speckle has both signs. A reflectance in the place of a radar channel has one.
        Expectation("complex channels take both signs", "sen1", "bands", "both_signs", minimum=0.5),
        # Surfaces return less in cross-polarisation than in co-polarisation.
        Expectation("VV brighter than VH", "sen1", "splits", "vv_brighter", minimum=0.25),
        *(
            Expectation(f"magnitude at most {RADAR_MAX:g}", band, "patches", f"{band}_{side}", -RADAR_MAX, RADAR_MAX)
            for band in channels.sen1
            for side in ("min", "max")
            if not (band.endswith("_intensity") and side == "min")
        ),
        Expectation(f"share of zeros at most {zeros_max:g}", "sen1", "patches", "zeros_sen1", maximum=zeros_max),
        # The noise floor of Sentinel-1 is near -25 dB, its brightest cities on average near 0 dB.
        Expectation("median backscatter from -40 to +10 dB", "sen1", "bands", "decibel", -40.0, 10.0, warning=True),
        # In So2Sat 0.1 % of the values exceed 1 to 15, by channel.
        Expectation(f"at most 1 % of values beyond {TAIL:g}", "sen1", "bands", "tail", maximum=0.01, warning=True),
    ]


def tables(
    root: Path, statistics: pd.DataFrame, channels: Channels, published: Published = PUBLISHED
) -> dict[str, pd.DataFrame]:
    """The tables that expectations check. The first column names a row in messages.

    Args:
        root: folder of the data set, whose files state their layout.
        statistics: statistics of every patch, see `bp_lcz.gate.statistics`.
        channels: channels of the data set.
        published: the release with which a split of as many patches is compared.

    Returns:
        ``splits``, ``classes``, ``files``, ``bands``, ``pairs``, ``cities`` and ``patches``. Levels, spreads and
        correlations use only patches whose values are all finite.
    """
    counts = class_counts(statistics)
    rows: dict[str, pd.DataFrame] = {split: statistics[statistics["split"] == split] for split in SPLITS}
    claimed: dict[str, bool] = {split: len(rows[split]) == published.count(split) for split in SPLITS}
    # An identical patch within a split must not count as one in two splits.
    copies = statistics.groupby(["split", "content"])["index"].transform("size")
    spread = statistics.groupby("content")["split"].transform("nunique")
    patches = statistics.assign(copies_in_split=copies, splits_with_it=spread)
    # One NaN or infinity would make the mean NaN or infinite, and with it correlations and levels.
    finite = statistics[statistics["non_finite"] == 0]
    sound: dict[str, pd.DataFrame] = {split: finite[finite["split"] == split] for split in SPLITS}
    return {
        "splits": _splits(root, rows, sound, counts, channels, claimed, published),
        "classes": _classes(counts, claimed, published),
        "files": _files(root, claimed),
        "bands": _bands(sound, channels, claimed, published),
        "pairs": _pairs(sound, channels),
        "cities": _cities(finite, channels),
        "patches": patches[["patch", *(column for column in patches.columns if column != "patch")]],
    }


def class_counts(statistics: pd.DataFrame) -> dict[str, list[int]]:
    """Number of patches of each class by split; patches without a one-hot label do not count."""
    counts: dict[str, list[int]] = {}
    for split in SPLITS:
        classes = statistics.loc[statistics["split"] == split, "class"].to_numpy()
        counts[split] = np.bincount(classes[classes >= 0], minlength=CLASS_COUNT).tolist()
    return counts


def band_statistics(rows: pd.DataFrame, band: str) -> dict[str, float]:
    """Statistics over all pixels of a split, from the statistics of its patches, which all have as many pixels."""
    mean = rows[f"{band}_mean"].to_numpy()
    return {
        "mean": float(np.mean(mean)),
        "std": float(np.sqrt(np.mean(rows[f"{band}_std"].to_numpy() ** 2) + np.var(mean))),
        "min": float(rows[f"{band}_min"].min()),
        "max": float(rows[f"{band}_max"].max()),
    }


def _splits(
    root: Path,
    rows: Mapping[str, pd.DataFrame],
    sound: Mapping[str, pd.DataFrame],
    counts: Mapping[str, list[int]],
    channels: Channels,
    claimed: Mapping[str, bool],
    published: Published,
) -> pd.DataFrame:
    lines = []
    for split, here in rows.items():
        line = {
            "split": f"{split}.h5",
            "patches": len(here),
            "classes": int(np.count_nonzero(counts[split])),
            # Only the training split needs several classes.
            "classes_to_learn": np.count_nonzero(counts[split]) if split == "training" else np.nan,
            "darkest": _darkest(sound[split], channels),
            "vv_brighter": np.nan,
            "excess_bytes": np.nan,
            "other_first_labels": np.nan,
        }
        if {"VV_lee_intensity", "VH_lee_intensity"} <= set(channels.sen1) and len(sound[split]):
            vv, vh = (sound[split][f"{polarisation}_lee_intensity_mean"] for polarisation in ("VV", "VH"))
            line["vv_brighter"] = (vv > vh).mean()
        if claimed[split]:
            size = (root / f"{split}.h5").stat().st_size
            line["excess_bytes"] = size - (published.header_bytes + published.patch_bytes * len(here))
            if split == "testing":
                first = here["class"].to_numpy()[: len(published.first_testing)]
                line["other_first_labels"] = np.count_nonzero(first != np.asarray(published.first_testing))
        lines.append(line)
    return pd.DataFrame(lines)


def _classes(counts: Mapping[str, list[int]], claimed: Mapping[str, bool], published: Published) -> pd.DataFrame:
    table = pd.DataFrame({"class": [f"LCZ {code} ({name})" for code, name in zip(CODES, NAMES, strict=True)]})
    for split, count in counts.items():
        table[split] = count
        surplus = np.subtract(count, published.class_counts[split])
        table[f"{split}_surplus"] = surplus if claimed[split] else np.nan
    table["unseen_in_testing"] = np.where(table["training"] == 0, table["testing"], 0)
    return table


def _files(root: Path, claimed: Mapping[str, bool]) -> pd.DataFrame:
    lines = []
    for split in SPLITS:
        with open_split(root, split) as reader:
            for array in reader.arrays:
                facts = {"float64": float(array.dtype == np.float64), "contiguous": float(array.offset is not None)}
                facts = facts if claimed[split] else dict.fromkeys(facts, np.nan)
                lines.append({"array": f"{split}.h5/{array.key}", **facts})
    return pd.DataFrame(lines)


def _bands(
    rows: Mapping[str, pd.DataFrame], channels: Channels, claimed: Mapping[str, bool], published: Published
) -> pd.DataFrame:
    lines = []
    for split, here in rows.items():
        means = here[[f"{band}_mean" for band in SEN2_BANDS]].to_numpy() if _all_optical(channels) else None
        near = neighbour_correlation(means) if means is not None and len(here) >= ENOUGH else None
        for band in channels.names if len(here) else ():
            mean = here[f"{band}_mean"]
            line = dict.fromkeys(_BAND_COLUMNS, np.nan) | {"band": f"{band} of {split}"}
            if band in channels.sen2:
                line["level"] = mean.median()
                if near is not None:
                    line["neighbour"] = near[SEN2_BANDS.index(band)]
            elif band.endswith("_intensity"):
                line["decibel"] = 10 * np.log10(max(mean.median(), 1e-12))
            else:
                line["both_signs"] = ((here[f"{band}_min"] < 0) & (here[f"{band}_max"] > 0)).mean()
            if band in tailed(channels):
                line["tail"] = here[f"{band}_tail"].mean()
            measured = band_statistics(here, band)
            if claimed[split]:
                expected_mean, expected_std = published.mean[split][band], published.std[split][band]
                line["release_mean"] = (measured["mean"] - expected_mean) / expected_std
                line["release_spread"] = measured["std"] / expected_std
            # In filtered radar channels, single outliers dominate mean and spread.
            if band not in tailed(channels) and len(here) >= ENOUGH:
                expected_mean, expected_std = published.mean["training"][band], published.std["training"][band]
                line["mean_shift"] = (measured["mean"] - expected_mean) / expected_std
                line["spread_ratio"] = measured["std"] / expected_std
            lines.append(line)
    return pd.DataFrame(lines, columns=["band", *_BAND_COLUMNS])


_BAND_COLUMNS = (
    *("level", "neighbour", "decibel", "both_signs", "tail"),
    *("release_mean", "release_spread", "mean_shift", "spread_ratio"),
)


def _pairs(rows: Mapping[str, pd.DataFrame], channels: Channels) -> pd.DataFrame:
    """Pairs of optical bands, exchanged ones first."""
    lines = []
    for split, here in rows.items():
        found: dict[tuple[str, str], float] = {}
        if judged := _all_optical(channels) and len(here) >= ENOUGH:
            means = here[[f"{band}_mean" for band in SEN2_BANDS]].to_numpy()
            for i, j, rise in swaps(means, UNUSUAL_SWAP):
                found.setdefault((SEN2_BANDS[i], SEN2_BANDS[j]), rise)
        for one, other in combinations(sorted(channels.sen2, key=SEN2_BANDS.index), 2):
            equal = [here[f"{one}_{part}"] == here[f"{other}_{part}"] for part in ("mean", "std", "min", "max")]
            lines.append(
                {
                    "pair": f"{one} and {other} of {split}",
                    "swap": found.get((one, other), 0.0) if judged else np.nan,
                    "identical": np.logical_and.reduce(equal).mean() if len(here) else np.nan,
                }
            )
    table = pd.DataFrame(lines, columns=["pair", "swap", "identical"])
    return table.sort_values("swap", ascending=False, kind="stable", ignore_index=True)


def _cities(statistics: pd.DataFrame, channels: Channels) -> pd.DataFrame:
    """Darkest reflectance of each city, since one archive may hold products from before and after the offset."""
    groups = statistics.groupby(["split", "city"], sort=True)
    lines = [{"city": f"{city} in {split}", "darkest": _darkest(here, channels)} for (split, city), here in groups]
    return pd.DataFrame(lines, columns=["city", "darkest"])


def _darkest(here: pd.DataFrame, channels: Channels) -> float:
    """1st percentile over patches of the smallest reflectance of any band."""
    if len(here) < ENOUGH or not {"B11", "B12"} & set(channels.sen2):
        return np.nan
    return float(here[[f"{band}_min" for band in channels.sen2]].min(axis=1).quantile(0.01))


def _all_optical(channels: Channels) -> bool:
    return set(channels.sen2) == set(SEN2_BANDS)
