"""The table of classes that trials left out of their training."""

import json
from collections.abc import Mapping, Sequence

from bp_lcz.records import GateSummary
from bp_lcz.report.claims import difference_text, interval_text
from bp_lcz.report.tables import Entry, Table, data_name
from bp_lcz.scoring.left_out import CHANCE, Found, find_left_out, joined
from bp_lcz.scoring.results import Group, overrides_text
from bp_lcz.scoring.score import fraction

NOTE = (
    "Can a text find the patches of a class that was left out of the training? Only the similarity of image groups "
    "and class vectors is used. Recognised: share of patches whose most similar class of all 17 is their own. This "
    f"is rare for a class that was never aligned; random vectors reach at most {fraction(CHANCE['recognised'], 3)}. "
    f"Rank: share of patches of other classes that are less similar to it; chance is {fraction(CHANCE['rank'], 1)}. "
    "Intervals treat cities and seeds as random. The rows of all classes take the first seeds of each as one seed, "
    "and so on."
)
_KEY = "train.leave_out"


def left_out_table(summary: GateSummary, groups: Sequence[Group]) -> Table | None:
    """How well vectors of texts and of controls find classes that were left out: each class and all together."""
    settings: dict[str, dict[str, Found]] = {}
    first: dict[str, Group] = {}
    for group in groups:
        if (found := find_left_out(group)) is not None:
            name = _setting(group)
            first.setdefault(name, group)
            settings.setdefault(name, {})[", ".join(group.members[0].model.train.leave_out)] = found
    rows = []
    for name, classes in settings.items():
        group = first[name]
        is_text = group.members[0].model.prompts.source == "text"
        controls = [settings.get(_setting(group, source)) if is_text else None for source in ("random", "permuted")]
        others = {key: value for key, value in group.overrides.items() if key != _KEY}
        label = " ".join(filter(None, [group.backbone, group.variant, overrides_text(others)]))
        for code, found in {**classes, **({"all": _all(classes)} if len(classes) > 1 else {})}.items():
            sides = [None if control is None else {**control, "all": _all(control)}.get(code) for control in controls]
            leads = [Entry(_lead(found, side)) for side in sides]
            numbers = [Entry(fraction(found.mean(k), 3), interval_text(found.interval(k))) for k in CHANCE]
            seeds, count = (str(size) for size in found.rank.shape)
            rows.append([Entry(label), Entry(code), Entry(count), *numbers, *leads, Entry(seeds)])
    header = (
        "trials",
        "left out",
        "patches",
        "recognised",
        "rank",
        "rank above random",
        "rank above permuted",
        "seeds",
    )
    caption = (
        f"Classes left out of the training and found by their vectors alone: testing split of {data_name(summary)}"
    )
    return Table(caption, header, rows, text=("left out",)) if rows else None


def _setting(group: Group, control: str | None = None) -> str:
    """Key of a setting without its left-out classes; with ``control``, the key of that control (it has no wording)."""
    overrides = {key: value for key, value in group.overrides.items() if key != _KEY}
    if control is not None:
        overrides = {key: value for key, value in overrides.items() if key != "prompts.wording"}
        overrides["prompts.source"] = control
    return json.dumps([group.backbone, group.variant, overrides], sort_keys=True)


def _all(classes: Mapping[str, Found]) -> Found:
    return joined([classes[code] for code in sorted(classes)])


def _lead(found: Found, other: Found | None) -> str:
    if other is None:
        return "-"
    return difference_text(found.mean("rank") - other.mean("rank"), found.interval("rank", other))
