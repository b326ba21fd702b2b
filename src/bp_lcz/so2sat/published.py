"""Published statistics of So2Sat LCZ42 v2, with which the gate compares data.

Sources: means and standard deviations per split from zhu-xlab/SSL4EO-S12 (`so2sat_lcz42_dataset.py`) and torchgeo's
`So2SatDataModule`. The splits of v3 random hold the same patches, and both pool to the same eight digits. So the
statistics are over all pixels of a split, with float64 sums (`tests/so2sat/test_published.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bp_lcz.bands import ALL_CHANNELS, Level
from bp_lcz.so2sat.releases import SO2SAT_V2, V2_CLASS_COUNTS, V2_FIRST_TESTING


@dataclass(frozen=True)
class Published:
    """Statistics of a release.

    Attributes:
        name: name of the release.
        class_counts: number of patches of each class by split.
        first_testing: classes 0..16 of the first patches of testing.
        mean: mean of each channel by split, in stored units.
        std: population standard deviation of each channel by split, in stored units.
        level: processing level of its Sentinel-2, which its files do not state.
        patch_bytes: bytes of a file for each patch.
        header_bytes: bytes of a file before the patches.
    """

    name: str
    class_counts: Mapping[str, Sequence[int]]
    first_testing: Sequence[int]
    mean: Mapping[str, Mapping[str, float]]
    std: Mapping[str, Mapping[str, float]]
    level: Level = "L1C"
    patch_bytes: int = 8 * (32 * 32 * 18 + 17)
    header_bytes: int = 2048

    def count(self, split: str) -> int:
        """Number of patches of a split."""
        return sum(self.class_counts[split])


def by_band(sen1: Sequence[float], sen2: Sequence[float]) -> dict[str, float]:
    """Values by the names of the official channels."""
    return dict(zip(ALL_CHANNELS.names, (*sen1, *sen2), strict=True))


PUBLISHED = Published(
    name=SO2SAT_V2,
    class_counts=V2_CLASS_COUNTS,
    first_testing=V2_FIRST_TESTING,
    mean={
        "training": by_band(
            (
                *(-3.59122426e-05, -7.65856128e-06, 5.93738575e-05, 2.51662315e-05),
                *(0.0442011066, 0.257610271, 0.000755674337, 0.00135034668),
            ),
            (
                *(0.12375696, 0.10927746, 0.10108552, 0.11423986, 0.15926567),
                *(0.18147236, 0.17457403, 0.19501607, 0.15428469, 0.10905051),
            ),
        ),
        "validation": by_band(
            (
                *(-0.000149371637, -5.46514151e-05, -0.000126352906, 0.000172238483),
                *(0.0469830197, 0.272650123, 0.000123383006, 0.000251766991),
            ),
            (
                *(0.12897079, 0.1163941, 0.11214067, 0.1239297, 0.16454521),
                *(0.18617419, 0.17903959, 0.20023431, 0.17357621, 0.12763362),
            ),
        ),
        "testing": by_band(
            (
                *(-0.000154123483, 5.84000367e-05, -5.81174764e-05, -0.000237403796),
                *(0.0491872306, 0.284092939, -0.000289945003, 0.00136458698),
            ),
            (
                *(0.12777465, 0.11487813, 0.11098373, 0.12303222, 0.1643186),
                *(0.18593616, 0.17902002, 0.19994389, 0.17236035, 0.12748551),
            ),
        ),
    },
    std={
        "training": by_band(
            (
                *(0.17555201, 0.17556463, 0.45998793, 0.45598876),
                *(2.85599092, 8.32480061, 2.44987574, 1.4647353),
            ),
            (
                *(0.03958796, 0.04777826, 0.06636617, 0.06358875, 0.07744387),
                *(0.09101635, 0.09218467, 0.10164581, 0.09991773, 0.08780633),
            ),
        ),
        "validation": by_band(
            (
                *(0.18061702, 0.18096459, 0.4656792, 0.46126013),
                *(0.77899222, 5.25347128, 0.561716, 0.5400661),
            ),
            (
                *(0.03836618, 0.04338256, 0.05851725, 0.05473533, 0.06438882),
                *(0.07570399, 0.07841136, 0.08541158, 0.09387924, 0.08418835),
            ),
        ),
        "testing": by_band(
            (
                *(0.18277671, 0.18528839, 0.47456981, 0.47319214),
                *(1.11181292, 4.32818594, 1.34458178, 0.79224516),
            ),
            (
                *(0.03511035, 0.04017856, 0.05515728, 0.05085581, 0.0614933),
                *(0.0729276, 0.07586886, 0.08249681, 0.08809429, 0.08089951),
            ),
        ),
    },
)
