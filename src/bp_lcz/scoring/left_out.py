"""How well a text alone finds a class that was not in the training.

Only the similarities of a patch's image groups with the vectors of the 17 classes are used. There are two measures.
``recognised`` is how often the true class is the most similar of all. ``rank`` is the share of patches of other classes
that are less similar to the class than the patch is. Random vectors have a mean rank of .5.

A class that was never aligned is rarely the most similar one, even if its text is informative, since training pulled
the vectors of other classes towards the images. The rank compares patches under one vector and does not have this bias.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer

from bp_lcz.records import Interval
from bp_lcz.scheme import CODES
from bp_lcz.scoring.crossed import half_width, pseudovalues
from bp_lcz.scoring.results import Group

CHANCE = {"recognised": 1 / len(CODES), "rank": 0.5}
"""Values of random vectors. For ``recognised`` it is an upper bound, see above."""


@dataclass(frozen=True)
class Found:
    """Results of trials of several seeds on patches of classes that they were not trained on.

    Attributes:
        recognised: whether the true class is the most similar.
        rank: share of patches of other classes that are less similar to the class; ties count half.
        block: city or other block of each patch.
    """

    recognised: Bool[np.ndarray, "seed patch"]
    rank: Float[np.ndarray, "seed patch"]
    block: Integer[np.ndarray, " patch"]

    def mean(self, key: str) -> float:
        """Mean of a measure over patches and seeds."""
        return float(getattr(self, key).mean())

    def interval(self, key: str, other: "Found | None" = None) -> Interval:
        """95 % interval of the mean or of its lead over others; None with only one seed or one city."""
        sides = [self] if other is None else [self, other]
        if len(np.unique(self.block)) < 2 or any(len(side.rank) < 2 for side in sides):
            return None
        width = float(half_width(*(_by_city(getattr(side, key).astype(float), side.block) for side in sides)))
        centre = self.mean(key) - (0.0 if other is None else other.mean(key))
        return centre - width, centre + width


def find_left_out(group: Group) -> Found | None:
    """Results on the classes that a group of trials left out; None if it left out none or compares no texts."""
    codes = group.members[0].model.train.leave_out
    if not codes or any("class_cosine" not in member.predictions for member in group.members):
        return None
    y_true = group.y_true
    recognised, rank, block = [], [], []
    for code in codes:
        klass = CODES.index(code)
        is_own = y_true == klass
        cosine = np.stack([member.predictions["class_cosine"] for member in group.members])
        recognised.append(cosine[:, is_own].argmax(axis=2) == klass)
        rank.append(np.stack([_rank(row[:, klass], is_own) for row in cosine]))
        block.append(group.block[is_own])
    return Found(np.concatenate(recognised, axis=1), np.concatenate(rank, axis=1), np.concatenate(block))


def joined(found: Sequence[Found]) -> Found:
    """Several classes as one, each left out by its own trials. Their first seeds count as one seed, and so on."""
    return Found(
        np.concatenate([each.recognised for each in found], axis=1),
        np.concatenate([each.rank for each in found], axis=1),
        np.concatenate([each.block for each in found]),
    )


def _rank(similarity: Float[np.ndarray, " patch"], is_own: Bool[np.ndarray, " patch"]) -> Float[np.ndarray, " own"]:
    """For each patch of the class, the share of other patches that are less similar."""
    from scipy.stats import rankdata  # here, since its import takes a second

    own = similarity[is_own]
    among_all = rankdata(similarity)[is_own]
    return (among_all - rankdata(own)) / max(len(similarity) - len(own), 1)


def _by_city(values: Float[np.ndarray, "seed patch"], block: Integer[np.ndarray, " patch"]) -> np.ndarray:
    """Pseudovalues of the mean over patches for each city."""
    names, position = np.unique(block, return_inverse=True)
    count = np.bincount(position, minlength=len(names))
    total = np.stack([np.bincount(position, row, len(names)) for row in values])
    without = (total.sum(axis=1, keepdims=True) - total) / (count.sum() - count)
    return pseudovalues(values.mean(axis=1), without)
