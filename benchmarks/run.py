"""Measures rows one after the other, prints the table, and writes the results of this machine."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.harness import NotMeasuredError, Row, Setup, find_rows, ratio_of, verdict
from benchmarks.machine import ended, file_stem, measuring
from benchmarks.memory import as_in_a_new_process
from benchmarks.speed import (
    BENCHMARKS,
    HEADER,
    RowHead,
    RowResult,
    SpeedResults,
    entries,
    machine_line,
    read_latest,
    remarks,
)
from bp_lcz.errors import UserError
from bp_lcz.scoring.score import text_table


def measure_rows(
    names: Sequence[str] = (),
    *,
    quick: bool = False,
    large: bool = False,
    threads: int | None = None,
    out: Path | None = None,
) -> Path | None:
    """Run the rows, print the table, write the results.

    Args:
        names: names of the rows; by default all.
        quick: use tiny sizes.
        large: measure rows that need more disk than memory, too.
        threads: threads of torch; by default all cores.
        out: file for the results. By default, a full run of all rows is written to this machine's file in
            ``benchmarks/results``, and other runs are not written.

    Returns:
        The file, or None if nothing was written.

    Raises:
        UserError: if a row is unknown.
    """
    rows = find_rows(names)
    with measuring(quick=quick, threads=threads, large=large) as (setup, machine):
        results = []
        for row in (progress := tqdm(rows, unit="row")):
            progress.set_description(f"bench {row.name}")
            results.append(result_of(row, setup))
            # printed at once, so that an interrupted run has shown its results so far
            tqdm.write("  ".join((row.name, *entries(results[-1])[-3:])), file=sys.stderr)
    machine = ended(machine)
    print(table(results))
    print(f"\n{machine_line(machine)}")
    if out is None:
        if quick or names:
            print("results of a quick run, or of some rows only, are not kept; --out FILE writes them")
            return None
        out = BENCHMARKS / f"{file_stem(machine)}.json"
    SpeedResults(quick=quick, machine=machine, rows=tuple(results)).write(out)
    print(f"-> {out}")
    return out


def show_latest() -> None:
    """Print the committed results that were measured last, on any machine.

    Raises:
        UserError: if there are none, or a file is not in form.
    """
    latest = read_latest(BENCHMARKS)
    if latest is None:
        raise UserError(BENCHMARKS, "holds no results; `bp-lcz bench` measures some")
    print(f"{table(latest.rows)}\n\n{machine_line(latest.machine)}")


def result_of(row: Row, setup: Setup) -> RowHead:
    """Measure a row and judge it."""
    start = time.perf_counter()
    as_in_a_new_process()
    head = {"name": row.name, "what": row.what, "against": row.against, "unit": row.unit, "goal": row.goal}
    try:
        measured = row.measure(setup)
    except NotMeasuredError as reason:
        return RowHead.model_validate({**head, "verdict": "not measured", "note": str(reason)})
    ratio = ratio_of(measured.ours, measured.theirs)
    found = {
        "ours": float(np.median(measured.ours)),
        "theirs": float(np.median(measured.theirs)),
        "ratio": ratio.median,
        "interval": (ratio.low, ratio.high),
        "verdict": verdict(ratio, row.goal),
        "repeats": len(measured.ours),
        "cache": measured.cache,
        "beside": dict(measured.beside),
        "note": measured.note,
        "seconds": round(time.perf_counter() - start, 1),
    }
    return RowResult.model_validate({**head, **found})


def table(results: Sequence[RowHead]) -> str:
    """The results as a text table, remarks below it."""
    lines = [("row", *HEADER), *((result.name, *entries(result)) for result in results)]
    head, *text = text_table(lines)
    text = [head, "-" * max(map(len, [head, *text])), *text]
    text += [f"{result.name}: {said}" for result in results if (said := remarks(result))]
    return "\n".join(text)
