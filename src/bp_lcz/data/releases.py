"""Which published release of So2Sat LCZ42 a data set is, told from its labels.

The pixels are not looked at: 59 GB would have to be hashed. `bp_lcz.registry.naming` does that, through DVC,
before a model takes the name of the official data.
"""

from collections.abc import Mapping, Sequence

SO2SAT_V2 = "so2sat-v2"
"""Name of So2Sat LCZ42 v2, doi 10.14459/2018mp1483140."""

V2_CLASS_COUNTS = {
    "training": [
        *(5068, 24431, 31693, 8651, 16493, 35290, 3269, 39326, 13584, 11954),
        *(42902, 9514, 9165, 41377, 2392, 7898, 49359),
    ],
    "validation": [256, 1254, 2353, 849, 757, 1906, 474, 3395, 1914, 860, 2287, 382, 1202, 2747, 202, 672, 2609],
    "testing": [266, 1262, 2465, 857, 763, 1936, 503, 3496, 2013, 908, 2368, 433, 1166, 2435, 205, 572, 2540],
}
"""Patches of each class in So2Sat LCZ42 v2 (Zhu et al. 2020)."""
# 17 10 9 17 8 13 3 3 12 11 6 6 1 14 14 14 11 7 8 17 in the numbers of the scheme, which begin with 1.
V2_FIRST_TESTING = [16, 9, 8, 16, 7, 12, 2, 2, 11, 10, 5, 5, 0, 13, 13, 13, 10, 6, 7, 16]
"""Classes 0..16 of the first patches of its testing split."""

FIRST_LABELS = len(V2_FIRST_TESTING)
"""How many labels of the testing split tell a release from another split of the same patches."""


def release(class_counts: Mapping[str, Sequence[int]], first_testing: Sequence[int]) -> str | None:
    """The release whose splits these are.

    Args:
        class_counts: patches of each class in ``training``, ``validation`` and ``testing``.
        first_testing: class indices 0..16 of the first ``FIRST_LABELS`` patches of testing, in file order.

    Returns:
        ``so2sat-v2``, or None for anything else.
    """
    counts = {split: list(count) for split, count in class_counts.items()}
    return SO2SAT_V2 if counts == V2_CLASS_COUNTS and list(first_testing) == V2_FIRST_TESTING else None
