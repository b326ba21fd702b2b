"""What a run says of the paper's claims."""

from typing import Literal

from bp_lcz.records.base import Part
from bp_lcz.records.data import OfData
from bp_lcz.records.scores import Interval, Metric

Direction = Literal["holds", "fails", "undecided"]
Verdict = Literal["holds", "fails", "undecided", "not accessible", "not comparable"]


class Reproduced(Part):
    """A metric of trials that differ in the seed alone.

    Attributes:
        trials: what their names have in common.
        mean: over seeds.
        deviation: standard deviation over seeds; None with one seed.
        seeds: how many.
    """

    trials: str
    mean: float
    deviation: float | None
    seeds: int


class CheckedClaim(Part):
    """What a run says of a claim.

    Attributes:
        name: key in ``paper.yaml``.
        claim: the claim in words.
        where: table or section of the paper.
        metric: that decides the claim; None where nothing here does.
        paper: the paper's number, if accessible.
        reproduced: the trials that the claim is about and, in a comparison, those it calls worse.
        difference: of the two, or of the number and the paper's where the two compare.
        interval: 95 % interval of the difference.
        lower_bound: whether the true interval is wider.
        verdict: against the paper.
        direction: of a comparison, on the data of this run; None for a number.
        note: why the verdict is no better.
    """

    name: str
    claim: str
    where: str | None
    metric: Metric | None
    paper: float | None
    reproduced: tuple[Reproduced, ...]
    difference: float | None
    interval: Interval
    lower_bound: bool
    verdict: Verdict
    direction: Direction | None
    note: str


class Claims(OfData):
    """``claims.json``: every claim, in the order of ``paper.yaml``.

    Attributes:
        release: of So2Sat, known by its labels; None where it is none.
        method: whether ``bp-lcz`` beats its parts, a sentence for each backbone.
    """

    format: Literal[3] = 3
    release: str | None
    method: tuple[str, ...]
    claims: tuple[CheckedClaim, ...]
