"""Sentences for the top of the report: how good the method is, and whether it beats its parts on these data."""

import statistics
from collections.abc import Sequence

from bp_lcz.params import Variant
from bp_lcz.report.claims import difference_text, interval_text
from bp_lcz.scoring.results import Group
from bp_lcz.scoring.score import fraction
from bp_lcz.words import counted

PARTS: tuple[Variant, ...] = ("bgp", "plain", "encoder")
"""``bp-lcz`` is compared with these: prompting without the matrix, the backbone, its layers without texts."""


def method_sentences(groups: Sequence[Group]) -> list[str]:
    """One sentence for each backbone with trials of ``bp-lcz`` without overrides; one sentence if there are none."""
    sentences = []
    for method in (group for group in groups if group.variant == "bp-lcz" and not group.overrides):
        plain = {each.variant: each for each in groups if each.backbone == method.backbone and not each.overrides}
        if parts := [plain[variant] for variant in PARTS if variant in plain]:
            sentences.append(_sentence(method, parts))
    return sentences or [
        "No trials of bp-lcz stand beside its parts here: nothing tells whether the method beats them."
    ]


def answer_sentence(groups: Sequence[Group]) -> str:
    """Accuracy of bp-lcz on the testing split with its interval; of the first trials if there is no bp-lcz."""
    best = next((group for group in groups if group.variant == "bp-lcz" and not group.overrides), groups[0])
    patches, interval, resampling = len(best.y_true), best.intervals()["oa"], best.members[0].evaluation.interval
    share = fraction(statistics.fmean(best.values("oa") or ()), 3)
    text = f"{best.label} finds the zone of {share} of the {patches:,} test patches"
    if interval is None:
        return f"{text}; there is no interval, since all patches belong to one {resampling.unit}."
    seeds = f"{len(best.seeds)} seeds" if len(best.seeds) > 1 else "one seed"
    wider = "; the true one is wider" if resampling.lower_bound else ""
    blocks = counted(resampling.blocks, resampling.unit)
    return f"{text} (95 % interval {interval_text(interval)}, {seeds}, {blocks}{wider})."


def _sentence(method: Group, parts: Sequence[Group]) -> str:
    if len(method.seeds) == 1:
        return f"{method.backbone}: one seed does not tell whether bp-lcz beats its parts."
    leads: dict[str, list[str]] = {"above": [], "below": [], "not told apart from": []}
    for part in parts:
        interval = method.intervals_of_lead(part)["oa"]
        lead = statistics.fmean(method.values("oa") or ()) - statistics.fmean(part.values("oa") or ())
        is_told = interval is not None and not method.why_narrow and not interval[0] <= 0 <= interval[1]
        side = ("above" if lead > 0 else "below") if is_told else "not told apart from"
        leads[side].append(f"{part.variant} {difference_text(lead, interval, bool(method.why_narrow))}")
    if leads["below"]:
        verdict = "bp-lcz does not beat its parts"
    elif leads["not told apart from"]:
        verdict = "it is undecided whether bp-lcz beats its parts"
    else:
        verdict = "bp-lcz beats its parts"
    found = "; ".join(f"{side} {', '.join(members)}" for side, members in leads.items() if members)
    return f"{method.backbone}, {len(method.seeds)} seeds: {verdict} (testing OA: {found})."
