import numpy as np
import pytest

from bp_lcz.bands import ALL_CHANNELS
from bp_lcz.params import SPLITS
from bp_lcz.so2sat.published import PUBLISHED

# v3 random: 320,779 and 79,894 of the same 400,673 patches, figures from the same sources.
RANDOM_COUNTS = (320_779, 79_894)
RANDOM_MEAN = {
    "VV_real": (4.55894328e-05, 2.30798901e-05),
    "VV_lee_intensity": (0.258623101, 0.266101701),
    "B02": (0.12428657, 0.12442092),
    "B08": (0.17513563, 0.17501332),
    "B12": (0.11122536, 0.11150956),
}
RANDOM_STD = {
    "VV_real": (0.46005891, 0.46587865),
    "VV_lee_intensity": (7.90565026, 8.28959389),
    "B02": (0.03922695, 0.03953428),
    "B08": (0.09050922, 0.09054327),
    "B12": (0.08733859, 0.08763757),
}


def pooled(counts, means, stds) -> tuple[float, float]:
    share = np.array(counts) / sum(counts)
    mean = share @ np.array(means)
    return mean, np.sqrt(share @ (np.square(stds) + np.square(means)) - mean**2)


@pytest.mark.parametrize("band", RANDOM_MEAN)
def test_published_figures_of_two_ways_to_split_the_same_patches_agree(band):
    counts = [PUBLISHED.count(split) for split in SPLITS]
    official = pooled(counts, *([table[split][band] for split in SPLITS] for table in (PUBLISHED.mean, PUBLISHED.std)))
    assert official == pytest.approx(pooled(RANDOM_COUNTS, RANDOM_MEAN[band], RANDOM_STD[band]), rel=1e-6, abs=1e-8)


def test_every_channel_has_its_figures():
    for table in (PUBLISHED.mean, PUBLISHED.std):
        assert list(table) == list(SPLITS)
        assert all(list(bands) == list(ALL_CHANNELS.names) for bands in table.values())


@pytest.mark.parametrize(("split", "size"), [("training", 52_006_404_720), ("validation", 3_559_773_496)])
def test_the_layout_gives_the_published_file_sizes(split, size):
    assert PUBLISHED.header_bytes + PUBLISHED.patch_bytes * PUBLISHED.count(split) == size
