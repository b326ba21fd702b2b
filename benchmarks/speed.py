"""Committed results of `bp-lcz bench`, as the command prints them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bp_lcz.errors import UserError
from bp_lcz.files import staged_file

BENCHMARKS = Path("benchmarks/results")
"""Folder of the results, one file a machine."""

FORMAT = 1
LEVEL = 0.95
"""Of the intervals."""

HEADER = ("what", "measured", "against", "measured there", f"ratio [{LEVEL:.0%}]", "goal", "verdict")


def read_latest(folder: Path) -> dict[str, Any] | None:
    """The results that were measured last, of whatever machine; None if there are none.

    Raises:
        UserError: if a file is not in form.
    """
    found = [_read(path) for path in sorted(folder.glob("*.json")) if len(path.suffixes) == 1]
    return max(found, key=lambda content: content["machine"]["date"], default=None)


def write_results(out: Path, content: Mapping[str, Any]) -> None:
    """Write the results of a run, whole."""
    with staged_file(out) as file:
        file.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        date, rows = content["machine"]["date"], [entries(row) for row in content["rows"]]
    except (ValueError, KeyError, TypeError):
        raise UserError(path, "not a result of `bp-lcz bench`; run `make bench` again or remove it") from None
    if content.get("format") != FORMAT or not isinstance(date, str) or not rows:
        raise UserError(path, f"another format than {FORMAT}; run `make bench` again or remove it")
    return content


def entries(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What the table says of a row, column by column of `HEADER`."""
    goal = row["goal"]
    bound = "" if goal is None else f"{'≥' if goal['direction'] == 'at least' else '≤'} {goal['bound']:g}"
    if row["verdict"] == "not measured":
        return row["what"], "", row["against"], "", "", bound, "not measured"
    low, high = row["interval"]
    ours, theirs = (f"{figure(row[side])} {row['unit']}" for side in ("ours", "theirs"))
    what = f"{row['what']} ({row['cache']})" if row["cache"] else row["what"]
    ratio = f"{figure(row['ratio'])} [{figure(low)}, {figure(high)}]"
    return what, ours, row["against"], theirs, ratio, bound, row["verdict"]


def remarks(row: Mapping[str, Any]) -> str:
    """What a reader must know beside the row's figures."""
    said = [f"{label}: {value}" for label, value in row.get("beside", {}).items()]
    return "; ".join([*said, *([row["note"]] if row["note"] else [])])


def figure(value: float) -> str:
    """Three significant digits, thousands with commas."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine_line(machine: Mapping[str, Any]) -> str:
    """The machine in one line."""
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB{gpu}; {machine['threads']} threads, "
        f"torch {machine['torch']}, numpy {machine['numpy']}; commit {machine['commit']}, {machine['date']}, "
        f"load {machine['load_before']} before and {machine['load_after']} after"
    )
