"""The paper's claims and numbers, and what this run's trials say about each.

``paper.yaml`` lists them. A value that is not accessible is null there, with the reason. A claim gets a verdict against
the paper only on the official data. On other data only its direction is tested, and the report says so.
"""

import statistics
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, PositiveFloat, ValidationError, model_validator

from bp_lcz.errors import UserError, first_mistake
from bp_lcz.params import Variant
from bp_lcz.paths import PAPER
from bp_lcz.records import CheckedClaim, Direction, GateSummary, Interval, Metric, Part, Reproduced, Verdict
from bp_lcz.scoring.results import METRICS, Group, TrialResult, check_same_patches, group_seeds, value_text
from bp_lcz.scoring.score import fraction
from bp_lcz.sections import read_sections
from bp_lcz.so2sat.releases import PROTOCOLS
from bp_lcz.words import counted

PartT = TypeVar("PartT", bound=Part)

HEADER = ("claim", "paper", "reproduced", "difference [95 % interval]", "verdict", "direction here", "note")


class Selector(Part):
    """Trials of one backbone and variant over all seeds, with no overrides except those in ``prompts``."""

    backbone: str
    variant: Variant
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the backbone in the paper. A trial with other options is not comparable."""
    prompts: dict[str, Any] = Field(default_factory=dict)
    """What the trials override in ``prompts``, such as ``{source: random}`` for a control in place of the texts."""

    def find(self, groups: Sequence[Group]) -> Group | None:
        """The trials, if the run has them."""
        overrides = {f"prompts.{key}": value for key, value in self.prompts.items()}
        wanted = (self.backbone, self.variant, overrides)
        return next((each for each in groups if (each.backbone, each.variant, each.overrides) == wanted), None)


class Check(Part):
    """What decides a claim: a number of the trials, or how much it exceeds the number of other trials."""

    stage: Literal["evaluate"]
    key: Metric
    """Metric of ``evaluation.json``, on the testing split."""
    trials: Selector
    than: Selector | None = None
    """The trials that the claim calls worse. Without them, the claim is a number."""


class Claim(Part):
    """One statement or number of the paper."""

    claim: str = Field(min_length=1)
    where: str | None
    """Table or section of the paper, if known."""
    value: float | None
    """The paper's number. For a comparison, the paper's difference."""
    reason: str | None = None
    """Why a value of this claim is null."""
    tolerance: PositiveFloat | None = None
    """Largest distance of a reproduced number from the paper's. Comparisons have none: their direction decides."""
    check: Check | None
    """How a run decides the claim; null if no run can."""

    @model_validator(mode="after")
    def _complete(self) -> "Claim":
        if None in (self.where, self.value, self.check) and not self.reason:
            raise ValueError("null needs a reason")
        is_number = self.check is not None and self.check.than is None
        if is_number != (self.tolerance is not None):
            raise ValueError("a number needs a tolerance, and only a number has one")
        return self


class Paper(Part):
    """All of ``paper.yaml``."""

    title: str
    doi: str
    claims: dict[str, Claim] = Field(min_length=1)


def load_paper(path: Path, backbones: Collection[str]) -> Paper:
    """Read and check ``paper.yaml``.

    Args:
        path: the file.
        backbones: names of the known backbones.

    Raises:
        UserError: if the file is missing or not a YAML mapping, or an entry has an unknown key, or names a
            metric, variant or backbone that does not exist.
    """
    paper = read_committed(Paper, path)
    for name, claim in paper.claims.items():
        for role in ("trials", "than"):
            selector = getattr(claim.check, role, None)
            if selector is not None and selector.backbone not in backbones:
                raise UserError(
                    path,
                    f"claims.{name}.check.{role}: unknown backbone '{selector.backbone}'; "
                    f"known: {', '.join(sorted(backbones))}",
                )
    return paper


def read_committed(form: type[PartT], path: Path) -> PartT:
    """Read a committed file of known facts, such as ``paper.yaml``, from the checkout.

    Raises:
        UserError: if it is missing, not a YAML mapping, or not in the form.
    """
    try:
        return form.model_validate(read_sections(path.read_bytes(), str(path)))
    except FileNotFoundError:
        raise UserError(path, "not found; run inside a BP-LCZ checkout or workspace") from None
    except ValidationError as error:
        raise UserError(path, first_mistake(error, model=form)) from None


def check_claims(paper: Paper, summary: GateSummary, results: Sequence[TrialResult]) -> list[CheckedClaim]:
    """One outcome for each claim, in the order of ``paper.yaml``.

    Args:
        paper: the claims.
        summary: the gate's ``summary.json``.
        results: all trials of the run.

    Raises:
        UserError: if trials were evaluated on different patches, a seed is missing, or a claim names an option that
            its backbone does not have.
    """
    check_same_patches(results)
    groups = group_seeds(results)
    return [_check(name, claim, summary, groups) for name, claim in paper.claims.items()]


def failures(outcomes: Sequence[CheckedClaim]) -> list[CheckedClaim]:
    """Comparable claims that fail."""
    return [outcome for outcome in outcomes if outcome.verdict == "fails"]


def claims_text(outcomes: Sequence[CheckedClaim], summary: GateSummary) -> str:
    """What the data are, how many claims have which verdict, and a line for each that trials here refute or leave open.

    All details of each claim are in the report and in ``claims.json``.
    """
    compared = [each for each in outcomes if each.difference is not None]
    lines = [data_text(summary), f"verdicts of {len(outcomes)} claims: {_counts([each.verdict for each in outcomes])}"]
    if directions := [each.direction for each in compared if each.direction]:
        lines.append(f"directions of {len(directions)} that have their trials here: {_counts(directions)}")
    for state in ("fails", "undecided"):
        for each in (each for each in compared if (each.direction or each.verdict) == state):
            found = difference_text(each.difference, each.interval, each.lower_bound)
            lines.append(f"  {'direction ' * (each.verdict != state)}{state}: {each.claim}, {found}")
    if "†" in lines[-1]:
        lines.append("† a lower bound of the width")
    return "\n".join(lines)


def _counts(words: Sequence[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).most_common())


def entries(claim: CheckedClaim) -> list[str]:
    """The columns of ``HEADER``."""
    paper = "not accessible" if claim.paper is None else fraction(claim.paper, 3)
    if claim.direction is not None:
        paper = "higher, by how much not accessible" if claim.paper is None else f"higher by {paper}"
        paper = paper if claim.where else "-"  # a control of this project
    return [
        claim.claim,
        paper,
        _reproduced_text(claim.reproduced),
        difference_text(claim.difference, claim.interval, claim.lower_bound),
        claim.verdict,
        claim.direction or "-",
        claim.note,
    ]


def data_text(summary: GateSummary) -> str:
    """One line that says whether the data allow a verdict against the paper."""
    patches = f"{summary.splits['testing'].patches:,} patches of the testing split of {summary.dataset}"
    if summary.is_comparable and summary.release:
        protocol = PROTOCOLS[summary.release]
        return f"{patches}: {summary.heading}, {protocol}; comparable with the paper as far as its split is known"
    return f"{patches}: {summary.heading}, never comparable with the paper; only directions are tested"


def difference_text(difference: float | None, interval: Interval, lower_bound: bool = False) -> str:
    """A difference and its interval as ``+.012 [.003, .021]``; a dagger marks a lower bound of the width."""
    if difference is None:
        return "-"
    mark = "†" if lower_bound else ""
    return signed(difference) + (f" {interval_text(interval)}{mark}" if interval is not None else "")


def interval_text(interval: Interval) -> str:
    """An interval as ``[.571, .650]``; empty for None."""
    return "" if interval is None else f"[{', '.join(fraction(end, 3) for end in interval)}]"


def signed(value: float) -> str:
    """A difference with its sign, as ``+.012``."""
    text = fraction(value, 3)
    return text if text.startswith("-") or float(text) == 0 else f"+{text}"


def _check(name: str, claim: Claim, summary: GateSummary, groups: Sequence[Group]) -> CheckedClaim:
    check = claim.check
    selectors = [] if check is None else [each for each in (check.trials, check.than) if each is not None]
    found = [each.find(groups) for each in selectors]
    differing = [text for each, group in zip(selectors, found, strict=True) for text in _differing(name, each, group)]
    trials = [group for group in found if group is not None]
    values = {} if check is None else {group.label: group.values(check.key) for group in trials}
    is_comparison = check is not None and check.than is not None
    narrow = trials[0].why_narrow if trials else []
    difference, interval, direction, notes = None, None, None, []
    if check is None:
        notes.append(claim.reason or "")
    elif len(trials) < len(selectors):
        notes.append("no such trials in this run")
    elif None in values.values():
        notes.append(f"{METRICS[check.key]} is undefined")
    else:
        difference, interval = _difference(claim, check, trials)
        notes += _of_the_encoder(check, difference, groups)
        if is_comparison or claim.value is not None:
            if interval is None:
                notes.append("no interval: all patches belong to one block")
            else:
                notes += narrow
    if is_comparison:
        direction = _direction(None if narrow else interval)

    if summary.caution:
        differing.insert(0, summary.caution)
    blocked = ", ".join(dict.fromkeys(differing))
    verdict: Verdict
    if blocked:
        verdict = "not comparable"
        notes.append(blocked)
        if not is_comparison:  # nothing is set against a number of the paper
            difference = interval = None
    elif check is None or len(trials) < len(selectors):
        verdict = "undecided"
    elif direction is not None:
        verdict = direction
    elif claim.value is None:
        verdict = "not accessible"
        notes.append(claim.reason or "")
    else:
        assert claim.tolerance is not None
        verdict = "undecided" if narrow else _within(difference, interval, claim.tolerance)
    return CheckedClaim(
        name=name,
        claim=claim.claim,
        where=claim.where,
        metric=None if check is None else check.key,
        paper=claim.value,
        reproduced=tuple(_reproduced(label, each) for label, each in values.items() if each is not None),
        difference=difference,
        interval=interval,
        lower_bound=interval is not None and bool(narrow),
        verdict=verdict,
        direction=direction,
        note="; ".join(notes),
    )


def _difference(claim: Claim, check: Check, trials: Sequence[Group]) -> tuple[float | None, Interval]:
    """Lead of the first trials over the second, or distance of their mean from the paper's number."""
    means = [statistics.fmean(group.values(check.key) or ()) for group in trials]
    if check.than is not None:
        return means[0] - means[1], trials[0].intervals_of_lead(trials[1])[check.key]
    if claim.value is None:
        return None, None
    interval = trials[0].intervals()[check.key]
    return means[0] - claim.value, None if interval is None else (interval[0] - claim.value, interval[1] - claim.value)


def _of_the_encoder(check: Check, difference: float | None, groups: Sequence[Group]) -> list[str]:
    """How much of a lead over the plain backbone the added layers reach without texts and alignment."""
    if check.than is None or check.than.variant != "plain" or check.trials.variant == "msm" or difference is None:
        return []
    encoder, plain = (check.trials.model_copy(update={"variant": name}).find(groups) for name in ("encoder", "plain"))
    values, alone = (each.values(check.key) if each else None for each in (encoder, plain))
    if values is None or alone is None:
        return []
    part = statistics.fmean(values) - statistics.fmean(alone)
    share = f", {part / difference:.0%} of it" if difference > 0 else ""
    return [f"the encoder without prompting: {signed(part)}{share}"]


def _direction(interval: Interval) -> Direction:
    if interval is None or interval[0] <= 0 <= interval[1]:
        return "undecided"
    return "holds" if interval[0] > 0 else "fails"


def _within(difference: float | None, interval: Interval, tolerance: float) -> Verdict:
    """Whether a number is reproduced. It fails only if its whole interval is outside the tolerance."""
    if difference is None or interval is None:
        return "undecided"
    if abs(difference) <= tolerance:
        return "holds"
    is_beyond = interval[0] > tolerance or interval[1] < -tolerance
    return "fails" if is_beyond else "undecided"


def _differing(claim: str, selector: Selector, group: Group | None) -> list[str]:
    """Options of a run's backbone, read from its checkpoint, that differ from the paper's."""
    if group is None:
        return []
    model = group.members[0].model
    options = model.backbone_options
    if unknown := sorted(selector.options.keys() - options.keys()):
        raise UserError(PAPER, f"claims.{claim}.check: {selector.backbone} has no option {', '.join(unknown)}")
    differing = [
        f"{group.label} has {key} {value_text(options[key])}, the paper {value_text(value)}"
        for key, value in selector.options.items()
        if options[key] != value
    ]
    if not selector.prompts and model.prompts.source != "text":  # set for all trials
        differing.append(f"{group.label} has {model.prompts.source} vectors, the paper texts")
    return differing


def _reproduced(label: str, values: Sequence[float]) -> Reproduced:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Reproduced(trials=label, mean=statistics.fmean(values), deviation=deviation, seeds=len(values))


def _reproduced_text(reproduced: Sequence[Reproduced]) -> str:
    if not reproduced:
        return "-"
    parts = []
    for trials in reproduced:
        deviation = "" if trials.deviation is None else f" ± {fraction(trials.deviation, 3)}"
        parts.append(f"{trials.trials} {fraction(trials.mean, 3)}{deviation}")
    seeds = reproduced[0].seeds  # the same for all
    return f"{' against '.join(parts)} ({counted(seeds, 'seed')})"
