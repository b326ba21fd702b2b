"""Published levels on So2Sat LCZ42, and how the trials of a run compare with those of the same protocol.

``references.yaml`` lists them. None of them applies to other data.
"""

import statistics
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from bp_lcz.params import Share
from bp_lcz.records import GateSummary, Part
from bp_lcz.report.claims import read_committed
from bp_lcz.report.tables import Entry, Table, mean_text
from bp_lcz.scoring.results import Group
from bp_lcz.scoring.score import fraction
from bp_lcz.so2sat.releases import PROTOCOLS

Protocol = Literal["v2 testing", "culture-10 joined", "trained in the testing cities", "random split"]
"""What a network was trained and tested on. Levels are compared only within one protocol."""
Inputs = Literal["S1", "S2", "S1+S2"]

MARGIN = 0.033
"""Margin in OA: twice the deviation of a difference of two runs, 2 √2 × .0118 (the largest one published)."""


class Reference(Part):
    """A published level."""

    protocol: Protocol
    source: str = Field(min_length=1)
    """Publication and table that states it."""
    model: str = Field(min_length=1)
    inputs: Inputs
    runs: PositiveInt
    """Number of training runs whose mean the numbers are."""
    oa: Share
    oa_deviation: Share | None = None
    """Standard deviation over runs."""
    aa: Share | None = None
    kappa: float | None = Field(default=None, ge=-1, le=1)
    note: str = ""

    @model_validator(mode="after")
    def _one_run_has_no_deviation(self) -> "Reference":
        if self.runs == 1 and self.oa_deviation is not None:
            raise ValueError("one run has no deviation")
        return self


class References(Part):
    """All of ``references.yaml``; two levels of one name are not valid YAML."""

    references: dict[str, Reference] = Field(min_length=1)

    def of(self, protocol: str) -> dict[str, Reference]:
        """The levels of a protocol."""
        return {name: each for name, each in self.references.items() if each.protocol == protocol}

    def rule(self) -> str:
        """The rule of `standing` in words."""
        margin, leak = fraction(MARGIN, 3), fraction(self._reached_by_leaks(), 3)
        return (
            "Only levels of the same protocol count. Trials of Sentinel-1 alone are compared with levels of Sentinel-1 "
            f"alone, all others with levels that use Sentinel-2. Within: the OA (mean over seeds) is at most {margin} "
            f"below the lowest or above the highest level, twice the deviation of a difference of two runs. "
            f"Suspiciously above (leak?): it is higher, and at least {leak}, the lowest level of networks trained in "
            "the testing cities; with Sentinel-1 alone, at least the lowest level with Sentinel-2. A few levels are "
            "not a distribution: this check finds mistakes and does not rank."
        )

    def standing(self, protocol: str, oa: float, of_radar: bool) -> str:
        """Where an overall accuracy stands among the levels of its protocol, by `rule`.

        Args:
            protocol: protocol of the trial.
            oa: overall accuracy of the trial, 0..1.
            of_radar: whether the trial uses Sentinel-1 alone.
        """
        levels = self.of(protocol).values()
        radar, optical = ([each.oa for each in levels if (each.inputs == "S1") is alone] for alone in (True, False))
        known = radar if of_radar else optical
        if not known:
            return "no level with these inputs"
        if oa < min(known) - MARGIN:
            return "below"
        if oa <= max(known) + MARGIN:
            return "within"
        limit = min(optical, default=1.0) if of_radar else self._reached_by_leaks()
        return "suspiciously above (leak?)" if oa >= limit else "above"

    def _reached_by_leaks(self) -> float:
        seen = [*self.of("trained in the testing cities").values(), *self.of("random split").values()]
        return min((each.oa for each in seen), default=1.0)


def load_references(path: Path) -> References:
    """Read and check ``references.yaml``.

    Raises:
        UserError: if the file is missing or not a YAML mapping, or names a level twice, or a level lacks its protocol
            or source, or has an unknown protocol or key.
    """
    return read_committed(References, path)


def why_not(summary: GateSummary) -> str:
    """Why no published level applies to a data set; empty if levels of a protocol apply."""
    if summary.is_comparable and summary.release in PROTOCOLS:
        return ""
    return f"Published levels on So2Sat LCZ42 (references.yaml) do not apply: {summary.heading}."


def references_table(summary: GateSummary, groups: Sequence[Group], references: References) -> Table | None:
    """Trials and published levels of their protocol by overall accuracy, the highest first."""
    if summary.release is None or why_not(summary):
        return None
    protocol = PROTOCOLS[summary.release]
    rows = []
    for name, each in references.of(protocol).items():
        deviation = "" if each.oa_deviation is None else f" ± {fraction(each.oa_deviation, 3)}"
        numbers = f"{fraction(each.oa, 3)}{deviation}", fraction(each.aa, 3), fraction(each.kappa, 3)
        said = "; ".join(filter(None, [each.source, each.note]))
        rows.append((each.oa, [name, *numbers, each.inputs, each.runs, "published", said]))
    for group in groups:
        oa = statistics.fmean(group.values("oa") or ())
        inputs = inputs_of(group)
        numbers = mean_text(group, "oa"), mean_text(group, "aa"), mean_text(group, "kappa")
        verdict = references.standing(protocol, oa, inputs == "S1")
        rows.append((oa, [group.label, *numbers, inputs, len(group.seeds), verdict, "this run"]))
    ordered = sorted(rows, key=itemgetter(0), reverse=True)
    header = ("trials and published levels", "OA", "AA", "kappa", "inputs", "runs", "standing", "source")
    caption = f"Trials among published levels of the same protocol, {protocol}"
    shown = [[Entry(str(value)) for value in row] for _, row in ordered]
    return Table(caption, header, shown, text=("inputs", "standing", "source"))


def inputs_of(group: Group) -> Inputs:
    """Sensors that the trials use: fusion controls and some backbones use one sensor alone."""
    model = group.members[0].model
    chosen = {model.backbone_options.get(option) for option in ("fusion", "sensors")}
    if "sen1" in chosen:
        return "S1"
    return "S2" if "sen2" in chosen or not model.channels.sen1 else "S1+S2"
