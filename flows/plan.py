"""Predicts the hours of a matrix on this device and the order of its results, and shows the results so far."""

import re
import statistics
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from bp_lcz.params import Params
from bp_lcz.paths import EVALUATIONS
from bp_lcz.records import Evaluation
from bp_lcz.scoring.score import fraction, text_table

if TYPE_CHECKING:
    from bp_lcz.report.claims import Paper, Selector

_NAMED = 3
"""Largest number of rows that the title of a block names."""


@dataclass(frozen=True)
class Block:
    """Consecutive trials whose results are worth a look once the last of them is done."""

    title: str
    trials: tuple[str, ...]


def row_of(trial: str) -> str:
    """Name of a trial without its seed."""
    return re.sub(r"-s\d+$", "", trial)


def blocks_of(params: Params) -> list[Block]:
    """Blocks of trials in their order: trials of one seed, or of one backbone if its rows come one by one."""
    seeds = [list(group) for _, group in groupby(params.trials, key=lambda name: params.trials[name].seed)]
    blocks = list[Block]()
    for is_alone, group in groupby(seeds, key=lambda names: len(names) == 1):
        if not is_alone:
            blocks += [_block(f"seed {params.trials[names[0]].seed}", names) for names in group]
            continue
        singles = (names[0] for names in group)
        blocks += [_block("all seeds", list(s)) for _, s in groupby(singles, key=lambda n: params.trials[n].backbone)]
    return blocks


def plan_lines(params: Params, paper: "Paper", hours: Mapping[str, float], before: float) -> list[str]:
    """A line for each block that is not done: its hours, when it will be done, and what it will show.

    Args:
        params: parameters of the workspace.
        paper: claims of the paper.
        hours: predicted hours of each trial that is not done.
        before: hours until the first trial starts.
    """
    spent, decided = before, set[str]()
    rows = [
        ("order of results", "trials", "hours", "there after", ""),
        ("checks and packing of the data", "", *_h(before)),
    ]
    seen = [name for name in params.trials if name not in hours]
    for number, block in enumerate(blocks_of(params)):
        left = [name for name in block.trials if name in hours]
        seen += left
        new = _decidable(params, paper, seen) - decided
        decided |= new
        if left:
            own = sum(hours[name] for name in left)
            spent += own
            told = "a table after each; one seed decides nothing" if not number else ""
            if new:
                told = f"first verdict of {len(new)} claims"
            rows.append((block.title, str(len(left)), f"{own:.1f}", f"{spent:.1f} h", told))
    padded = [tuple(row) + ("",) * (5 - len(row)) for row in rows]
    return text_table(padded)


def is_table_due(params: Params, trial: str, done: Set[str]) -> bool:
    """Whether a new table is due: after each trial of the first block, then after each complete block."""
    first, *others = blocks_of(params)
    return trial in first.trials or any(trial in block.trials and done >= set(block.trials) for block in others)


def so_far(workspace: Path, params: Params, done: Collection[str]) -> list[str]:
    """A table of means over the seeds that are done.

    Args:
        workspace: workspace in which the trials have run.
        params: parameters of the workspace.
        done: evaluated trials, at least one.
    """
    rows: dict[str, list[Evaluation]] = {}
    for trial in params.trials:
        if trial in done:
            found = Evaluation.read(workspace / EVALUATIONS / trial / "evaluation.json")
            rows.setdefault(row_of(trial), []).append(found)
    heading = next(iter(rows.values()))[0].heading
    table = [("trial", "seeds", "OA", "kappa"), *((name, *_scores(found)) for name, found in rows.items())]
    return [
        f"so far, testing split, {heading}; {len(done)} of {len(params.trials)} trials; one seed decides nothing:",
        *text_table(table),
    ]


def _scores(found: Sequence[Evaluation]) -> tuple[str, str, str]:
    oa, kappa = ([getattr(each, name) for each in found] for name in ("oa", "kappa"))
    means = (None if None in values else statistics.fmean(values) for values in (oa, kappa))
    first, second = (fraction(mean, 3) for mean in means)
    return str(len(found)), first, second


def _block(seeds: str, names: list[str]) -> Block:
    rows = list(dict.fromkeys(map(row_of, names)))
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return Block(f"{seeds}: {', '.join(rows[:_NAMED])}{more}", tuple(names))


def _decidable(params: Params, paper: "Paper", trials: Collection[str]) -> set[str]:
    """Claims whose trials are done with at least two seeds; one seed decides no claim."""
    seeds: dict[str, int] = {}
    for name in trials:
        seeds[row_of(name)] = seeds.get(row_of(name), 0) + 1
    rows = [params.trials[name] for name in trials if seeds[row_of(name)] > 1]

    def is_there(wanted: "Selector") -> bool:
        overrides = {"prompts": wanted.prompts} if wanted.prompts else {}
        return any(
            (row.backbone, row.variant, row.overrides.model_dump(exclude_defaults=True))
            == (wanted.backbone, wanted.variant, overrides)
            for row in rows
        )

    return {
        name
        for name, claim in paper.claims.items()
        if claim.check and claim.check.than and is_there(claim.check.trials) and is_there(claim.check.than)
    }


def _h(hours: float) -> tuple[str, str]:
    return f"{hours:.1f}", f"{hours:.1f} h"
