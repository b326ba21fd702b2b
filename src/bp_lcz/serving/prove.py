"""Checks a data set before hours are spent on it, by scoring published weights whose accuracy on it is known.

The published Sen2LCZ-MF was scored by its authors on the official testing split. If this project's reading, network and
metrics give the same numbers, then pixels, bands, labels and metrics are all right.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bp_lcz.demo.judge import classify_split
from bp_lcz.errors import UserError
from bp_lcz.model.checkpoint import load_classifier
from bp_lcz.model.pretrained import write_pretrained
from bp_lcz.records import Scores
from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.scoring.metrics import evaluate_predictions
from bp_lcz.scoring.score import fraction
from bp_lcz.so2sat.layout import open_split
from bp_lcz.so2sat.releases import V2_CLASS_COUNTS

TOLERANCE = 0.0005
"""Largest difference of a score: 12 of 24,188 patches. The authors' library adds in another order, so the last bits of
float32 may differ. On 1,215 real patches they change a probability by at most 3e-6. The two best classes are that close
in about one of 100,000 patches, so less than one patch should change its class."""

MODEL = "sen2lcz-mf"


@dataclass(frozen=True)
class KnownLevel:
    """Known scores of published weights on a testing split.

    Attributes:
        split: name of the split in messages.
        class_counts: patches of each class, which identify the split.
        scores: overall accuracy, mean recall and kappa.
        source: where the predictions behind them are published.
    """

    split: str
    class_counts: Sequence[int]
    scores: dict[str, float]
    source: str


SEN2LCZ_V2 = KnownLevel(
    split="the testing split of So2Sat LCZ42 v2",
    class_counts=V2_CLASS_COUNTS["testing"],
    scores={"OA": 0.69369, "AA": 0.58675, "kappa": 0.66437},
    source="results/Acc_32.mat of github.com/ChunpingQiu/benchmark-on-So2SatLCZ42-dataset-a-simple-tour, beside the "
    "weights",
)


@dataclass(frozen=True)
class Proof:
    """A data set on which the published weights reach their known scores.

    Attributes:
        root: folder of the data set.
        level: the known scores.
        found: the scores that were computed.
    """

    root: Path
    level: KnownLevel
    found: dict[str, float]

    def __str__(self) -> str:
        return (
            f"{self.root}: proven; the published Sen2LCZ-MF reaches {_text(self.found)} on its testing split, as "
            f"published ({_text(self.level.scores)}), so pixels, bands, labels and metrics are right"
        )


def prove_data(
    root: Path, weights: Path | None = None, kept: Path | None = None, level: KnownLevel = SEN2LCZ_V2
) -> Proof | None:
    """Score the published Sen2LCZ-MF on a testing split whose level is known, and compare.

    Args:
        root: folder of the data set.
        weights: the published file on this machine; None downloads it.
        kept: folder for a checkpoint of the weights, so that they are downloaded only once.
        level: the known scores.

    Returns:
        The proof; None for another testing split, whose scores are not known.

    Raises:
        TemporaryError: if the server of the weights cannot be reached.
        UserError: if the scores differ, if labels differ in a split of the same size, if the data cannot be read, or if
            the file of weights is another.
    """
    with open_split(root, "testing") as reader:
        labels = reader.labels().argmax(axis=1)
    if len(labels) != sum(level.class_counts):
        return None
    if np.bincount(labels, minlength=CLASS_COUNT).tolist() != list(level.class_counts):
        raise UserError(
            root / "testing.h5",
            f"has as many patches as {level.split}, but other labels: these are other data under its name",
        )
    with tempfile.TemporaryDirectory() as scratch:
        model = kept or Path(scratch) / MODEL
        if not model.exists():
            write_pretrained(MODEL, model, file=weights)
        # On the CPU: a GPU rounds the operands of float32 products by default, which moves dozens of patches.
        predicted = classify_split(load_classifier(model), root, "testing")
    return hold_against(level, root, evaluate_predictions(labels, predicted))


def hold_against(level: KnownLevel, root: Path, scores: Scores) -> Proof:
    """Compare scores with a known level.

    Raises:
        UserError: if a score differs by more than `TOLERANCE`.
    """
    found = {name: value or 0.0 for name, value in (("OA", scores.oa), ("AA", scores.aa), ("kappa", scores.kappa))}
    if any(abs(found[name] - known) > TOLERANCE for name, known in level.scores.items()):
        raise UserError(
            root / "testing.h5",
            f"has the labels of {level.split}, but other pixels: the published Sen2LCZ-MF reaches {_text(found)} here, "
            f"not {_text(level.scores)} (within {fraction(TOLERANCE, 4)}); train nothing on this folder, and compare "
            "its checksums with `bp-lcz download --verify`",
        )
    return Proof(root, level, found)


def no_proof(root: Path) -> str:
    """The message for a testing split whose scores are not known."""
    return (
        f"{root}: no proof; what the published Sen2LCZ-MF reaches is known for {SEN2LCZ_V2.split} alone, and this is "
        "another testing split"
    )


def _text(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {fraction(value, 5)}" for name, value in scores.items())
