"""Chooses the default setting of the method on the validation split, by the rule of docs/study.md and docs/forms.md."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import ttest_rel

from bp_lcz.errors import UserError
from bp_lcz.params import PARAMS_FILE
from bp_lcz.scoring.results import Group
from bp_lcz.scoring.score import fraction, text_table

SEEDS = 5
"""Smallest number of training seeds for a choice."""
LEVEL = 0.05
SMALLEST_LEAD = 0.005
"""Smallest lead in kappa that counts as a difference, even if a smaller one is significant."""


class Candidate(NamedTuple):
    """A setting beside the default.

    Attributes:
        group: its trials.
        lead: lead over the default in validation kappa, mean over seeds.
        p: two-sided p value of a paired t-test over seeds, adjusted by Holm's method for all candidates.
    """

    group: Group
    lead: float
    p: float

    @property
    def is_better(self) -> bool:
        """Whether it may replace the default."""
        return self.lead >= SMALLEST_LEAD and self.p < LEVEL


@dataclass(frozen=True)
class Choice:
    """Outcome of the rule for one backbone.

    Attributes:
        default: trials of ``bp-lcz`` without overrides.
        candidates: other settings in the order of ``params.yaml``; at least one.
    """

    default: Group
    candidates: Sequence[Candidate]

    @property
    def chosen(self) -> Group:
        """The best of the significantly better candidates, or the default if there are none."""
        better = [each for each in self.candidates if each.is_better]
        return max(better, key=lambda each: each.lead).group if better else self.default

    def facts(self) -> dict[str, Any]:
        """The choice as data for scripts."""
        settings = [(self.default, 0.0, None), *self.candidates]
        return {
            "default": self.default.label,
            "chosen": self.chosen.label,
            "settings": [
                {"setting": group.label, "kappa_by_seed": _kappas(group).tolist(), "lead": lead, "p": p}
                for group, lead, p in settings
            ],
        }

    def lines(self) -> list[str]:
        """The choice as text, with the outcome at the end."""
        rows = [["setting", "validation kappa", "lead", "p"], [self.default.label, _mean(self.default), "default", ""]]
        for each in self.candidates:
            sign = "+" if each.lead > 0 else ""
            rows.append([each.group.label, _mean(each.group), f"{sign}{fraction(each.lead, 3)}", fraction(each.p, 3)])
        if self.chosen is self.default:
            return [*text_table(rows), f"{self.default.label} stays the default: no setting is surely better"]
        return [*text_table(rows), f"{self.chosen.label} becomes the default"]


def choose(groups: Sequence[Group]) -> list[Choice]:
    """The choice for each backbone with the default and other settings of ``bp-lcz``. Controls do not count.

    Raises:
        UserError: if no backbone has both, or they have fewer than five seeds.
    """
    choices = list(_choices([group for group in groups if group.variant == "bp-lcz"]))
    if not choices:
        raise UserError(PARAMS_FILE, "trials: no backbone has bp-lcz both without overrides and with other settings")
    return choices


def holm(p: Sequence[float]) -> list[float]:
    """P values of several tests, adjusted for the error rate of the whole family (Holm 1979)."""
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, place in enumerate(np.argsort(p, kind="stable").tolist()):
        largest = max(largest, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = largest
    return adjusted


def _choices(groups: Sequence[Group]) -> Iterator[Choice]:
    for default in (group for group in groups if not group.overrides):
        others = [each for each in groups if each.backbone == default.backbone and _is_setting(each)]
        if not others:
            continue
        if len(default.seeds) < SEEDS:
            raise UserError(PARAMS_FILE, f"trials: {len(default.seeds)} seed(s); a choice needs at least {SEEDS}")
        leads = [_kappas(each) - _kappas(default) for each in others]
        p = holm([float(ttest_rel(_kappas(each), _kappas(default)).pvalue) for each in others])
        yield Choice(default, [Candidate(*each) for each in zip(others, map(statistics.fmean, leads), p, strict=True)])


def _is_setting(group: Group) -> bool:
    """Whether trials differ from the default only in the method, and use texts."""
    of_texts = ("prompts.wording", "prompts.centre")
    return bool(group.overrides) and all(key.startswith("model.") or key in of_texts for key in group.overrides)


def _kappas(group: Group) -> Float[np.ndarray, " seed"]:
    """Validation kappa of the kept epochs; an undefined kappa counts as 0, which is chance."""
    return np.array([member.evaluation.validation_kappa or 0.0 for member in group.members])


def _mean(group: Group) -> str:
    kappas = _kappas(group)
    return f"{fraction(kappas.mean(), 3)} ± {fraction(kappas.std(ddof=1), 3)}"
