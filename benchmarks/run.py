"""Measure rows one after the other, print the table, write the results of this machine."""

import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.harness import LEVEL, NotMeasuredError, Row, Setup, find_rows, ratio_of, verdict
from benchmarks.machine import describe, file_stem
from bp_lcz.paths import staged_file

RESULTS = Path("benchmarks/results")
FORMAT = 1
HEAD = ("row", "what", "measured", "against", "measured", f"ratio [{LEVEL:.0%}]", "goal", "verdict")


def bench(
    names: Sequence[str] = (),
    *,
    quick: bool = False,
    large: bool = False,
    threads: int | None = None,
    out: Path | None = None,
) -> Path | None:
    """Run the rows, print the table, write the results.

    Args:
        names: of the rows; all without.
        quick: tiny sizes.
        large: rows that need more disk than memory, too.
        threads: of torch; all cores without.
        out: file of the results. Without it a full run of all rows goes to that of this machine in
            ``benchmarks/results``, and any other run nowhere.

    Returns:
        The file, None if nothing was written.

    Raises:
        UserError: if a row is unknown.
    """
    rows = find_rows(names)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    machine = describe(threads, device)
    # Beside the results rather than in /tmp, which may be memory.
    parent = Path(".scratch")
    parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix="bench-") as folder:
        setup = Setup(Path(folder), quick=quick, large=large, device=device, threads=threads)
        results = []
        for row in (progress := tqdm(rows, unit="row")):
            progress.set_description(f"bench {row.name}")
            results.append(result_of(row, setup))
    machine["load_after"] = round(os.getloadavg()[0], 2)
    print(table(results))
    print(f"\n{machine_line(machine)}")
    if out is None:
        if quick or names:
            print("of a quick run or of some rows only nothing is kept; --out FILE writes it")
            return None
        out = RESULTS / f"{file_stem(machine)}.json"
    content = {"format": FORMAT, "quick": quick, "machine": machine, "rows": results}
    with staged_file(out) as file:
        file.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(f"-> {out}")
    return out


def result_of(row: Row, setup: Setup) -> dict[str, Any]:
    """Measure a row and judge it."""
    start = time.perf_counter()
    result: dict[str, Any] = {
        "name": row.name,
        "what": row.what,
        "against": row.against,
        "unit": row.unit,
        "goal": None if row.goal is None else {"bound": row.goal.bound, "direction": row.goal.direction},
    }
    try:
        measured = row.measure(setup)
    except NotMeasuredError as reason:
        return result | {"verdict": "not measured", "note": str(reason)}
    ratio = ratio_of(measured.ours, measured.theirs)
    return result | {
        "ours": float(np.median(measured.ours)),
        "theirs": float(np.median(measured.theirs)),
        "ratio": ratio.median,
        "interval": [ratio.low, ratio.high],
        "verdict": verdict(ratio, row.goal),
        "repeats": len(measured.ours),
        "cache": measured.cache,
        "beside": dict(measured.beside),
        "note": measured.note,
        "seconds": round(time.perf_counter() - start, 1),
    }


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """The results as a text table, remarks below it."""
    lines = [HEAD, *(cells(result) for result in results)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text.insert(1, "  ".join("-" * width for width in widths))
    for result in results:
        remarks = [f"{label}: {value}" for label, value in result.get("beside", {}).items()]
        remarks += [result["note"]] if result["note"] else []
        text += [f"{result['name']}: {'; '.join(remarks)}"] if remarks else []
    return "\n".join(text)


def cells(result: Mapping[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    goal = result["goal"]
    bound = "" if goal is None else f"{'≥' if goal['direction'] == 'at least' else '≤'} {goal['bound']:g}"
    if "ratio" not in result:
        return (result["name"], result["what"], "", result["against"], "", "", bound, result["verdict"])
    low, high = result["interval"]
    ours, theirs = (f"{figure(result[side])} {result['unit']}" for side in ("ours", "theirs"))
    what = f"{result['what']} ({result['cache']})" if result["cache"] else result["what"]
    ratio = f"{figure(result['ratio'])} [{figure(low)}, {figure(high)}]"
    return (result["name"], what, ours, result["against"], theirs, ratio, bound, result["verdict"])


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
