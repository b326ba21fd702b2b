"""Whether the method beats its parts on the data of a run, in a sentence for where people look first."""

import statistics
from collections.abc import Sequence

from bp_lcz.params import Variant
from bp_lcz.report.claims import difference_text
from bp_lcz.scoring.results import Group

PARTS: tuple[Variant, ...] = ("bgp", "plain", "encoder")
"""What ``bp-lcz`` is set against: prompting without the matrix, the backbone alone, the same layers without texts."""


def method_sentences(groups: Sequence[Group]) -> list[str]:
    """One sentence for each backbone that has trials of ``bp-lcz`` without overrides; one that says so if none has."""
    sentences = []
    for method in (group for group in groups if group.variant == "bp-lcz" and not group.overrides):
        plain = {each.variant: each for each in groups if each.backbone == method.backbone and not each.overrides}
        if parts := [plain[variant] for variant in PARTS if variant in plain]:
            sentences.append(_sentence(method, parts))
    return sentences or [
        "No trials of bp-lcz stand beside its parts here: nothing tells whether the method beats them."
    ]


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
