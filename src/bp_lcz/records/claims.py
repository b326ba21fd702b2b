"""Verdicts of a run on the paper's claims."""

from typing import Literal

from bp_lcz.records.base import Part
from bp_lcz.records.data import OfData
from bp_lcz.records.scores import Interval, Metric

Direction = Literal["holds", "fails", "undecided"]
Verdict = Literal["holds", "fails", "undecided", "not accessible", "not comparable"]


class Reproduced(Part):
    """A metric of trials that differ only in the seed.

    Attributes:
        trials: the common part of their names.
        mean: mean over seeds.
        deviation: standard deviation over seeds; None with one seed.
        seeds: number of seeds.
    """

    trials: str
    mean: float
    deviation: float | None
    seeds: int


class CheckedClaim(Part):
    """The verdict of a run on a claim.

    Attributes:
        name: key in ``paper.yaml``.
        claim: the claim in words.
        where: table or section of the paper.
        metric: metric that decides the claim; None if a run cannot decide it.
        paper: the paper's number, if accessible.
        reproduced: the trials that the claim is about and, in a comparison, those that it calls worse.
        difference: lead of the first trials over the others, or distance from the paper's number if comparable.
        interval: 95 % interval of the difference.
        lower_bound: whether the true interval is wider.
        verdict: verdict against the paper.
        direction: verdict on the sign of a comparison, on the data of this run; None for a number.
        note: what limits the verdict.
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
        release: release of So2Sat, recognised by its labels; None for other data.
        method: a sentence for each backbone on whether ``bp-lcz`` beats its parts.
        claims: the claims with their verdicts.
    """

    format: Literal[3] = 3
    release: str | None
    method: tuple[str, ...]
    claims: tuple[CheckedClaim, ...]
