"""Results of an evaluation."""

from typing import Annotated, Literal

from pydantic import Field

from bp_lcz.params import Variant
from bp_lcz.records.base import Part
from bp_lcz.records.data import OfData, Unit

Metric = Literal["oa", "aa", "kappa", "macro_f1"]
Interval = tuple[float, float] | None


class ClassScores(Part):
    """Scores of one class; None if undefined."""

    code: str
    name: str
    support: int
    precision: float | None
    recall: float | None
    f1: float | None


class Scores(Part):
    """All metrics of one classifier on one split; None if undefined.

    Attributes:
        oa: overall accuracy.
        aa: average accuracy, the mean recall over the classes present.
        kappa: Cohen's kappa.
        macro_f1: mean F1 over the classes present.
        oa_built: overall accuracy of the patches whose true class is 1..10.
        oa_natural: overall accuracy of the patches whose true class is A..G.
        ece: expected calibration error of the predicted class, 15 bins of equal width.
        per_class: scores of each class in So2Sat's order.
        confusion: 17 x 17 counts; rows are true classes.
    """

    oa: float
    aa: float
    kappa: float | None
    macro_f1: float
    oa_built: float | None
    oa_natural: float | None
    ece: float | None
    per_class: tuple[ClassScores, ...]
    confusion: tuple[Annotated[tuple[int, ...], Field(min_length=17, max_length=17)], ...] = Field(
        min_length=17, max_length=17
    )


SCORES = tuple(name for name in Scores.model_fields if name not in ("per_class", "confusion"))
"""Names of those fields of `Scores` that are single numbers."""


class Resampling(Part):
    """How the bootstrap of intervals was drawn.

    Attributes:
        level: confidence level of the intervals, 0..1.
        unit: unit that is drawn with replacement.
        blocks: number of units.
        samples: number of resamples.
        seed: seed of the bootstrap.
        lower_bound: whether the true intervals are wider.
    """

    level: float
    unit: Unit
    blocks: int
    samples: int
    seed: int
    lower_bound: bool


class CityCoverage(Part):
    """Coverage of class sets on the patches of one city of the testing split; see `Coverage`."""

    city: str
    patches: int
    reached: float
    classes: float


class Coverage(Part):
    """Coverage of class sets, whose thresholds come from the validation split.

    Attributes:
        asked: share of patches whose set should hold the true class.
        reached: share of patches whose set holds the true class.
        classes: mean number of classes in a set.
        cities: the same for each city; empty if cities are not known.
    """

    asked: float
    reached: float
    classes: float
    cities: tuple[CityCoverage, ...]


class Evaluation(Scores, OfData):
    """``evaluation.json``: evaluation of a trained trial on the testing split.

    Attributes:
        ece_before: ``ece`` before temperature scaling.
        temperature: divisor of the logits.
        coverage: coverage of class sets.
    """

    format: Literal[3] = 3
    trial: str
    backbone: str
    variant: Variant
    seed: int
    parameters: int
    best_epoch: int
    validation_kappa: float | None
    split: Literal["testing"] = "testing"
    patches: int
    intervals: dict[Metric, Interval] = Field(min_length=4)
    interval: Resampling
    ece_before: float
    temperature: float
    coverage: Coverage
