"""Prefect artifacts that show an operator the results of a run. Each workspace has one key for each artifact."""

import base64
import re
from pathlib import Path

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from bp_lcz.params import SPLITS, Params
from bp_lcz.paths import CLAIMS, EVALUATIONS, GATE, REPORTS, SUMMARY
from bp_lcz.records import Claims, Evaluation, GateSummary
from bp_lcz.report.claims import difference_text

FIGURES = ("overview",)
"""Figures that are small enough for Prefect's database. The report has all figures."""


def artifact_key(workspace: Path, kind: str) -> str:
    """Key of an artifact in the characters that Prefect allows, such as ``paper-results``."""
    return f"{re.sub(r'[^a-z0-9]+', '-', workspace.name.lower()).strip('-')}-{kind}"


def show_validation(workspace: Path) -> None:
    """Show the verdict of the quality gate."""
    gate = GateSummary.read(workspace / SUMMARY)
    passed = sum(each.success for each in gate.expectations)
    docs = workspace / GATE / "data_docs/index.html"
    lines = [
        f"**{gate.dataset}** ({gate.heading}): {passed} of {len(gate.expectations)} expectations hold",
        "",
        "| split | patches |",
        "|---|---|",
        *(f"| {split} | {gate.splits[split].patches:,} |" for split in SPLITS),
        "",
        *(f"- warning: {warning}" for warning in gate.warnings),
        "",
        f"Data Docs, on the machine of the run: `{docs}`",
    ]
    create_markdown_artifact("\n".join(lines), key=artifact_key(workspace, "validation"), description="quality gate")


def show_results(workspace: Path, params: Params) -> None:
    """Show scores of all trials on the testing split, with their 95 % intervals."""
    rows = []
    for trial in params.trials:
        evaluation = Evaluation.read(workspace / EVALUATIONS / trial / "evaluation.json")
        row = {"trial": trial}
        intervals = evaluation.intervals["oa"], evaluation.intervals["kappa"]
        for score, value, interval in zip(("oa", "kappa"), (evaluation.oa, evaluation.kappa), intervals, strict=True):
            row[score] = _number(value)
            row[f"{score} 95 %"] = " to ".join(map(_number, interval or ())) or "-"
        rows.append({**row, "data": str(evaluation.kind)})
    create_table_artifact(rows, key=artifact_key(workspace, "results"), description="testing split")


def show_figures(workspace: Path) -> None:
    """Show the main figure, and where the report is."""
    page = workspace / REPORTS / "index.html"
    figures = [workspace / REPORTS / "figures" / f"{name}.png" for name in FIGURES]
    images = [
        f"![{figure.stem}](data:image/png;base64,{base64.b64encode(figure.read_bytes()).decode()})"
        for figure in figures
        if figure.exists()
    ]
    text = "\n\n".join([*images, f"The report, on the machine of the run: `{page}`"])
    create_markdown_artifact(text, key=artifact_key(workspace, "figures"), description="overall accuracy and kappa")


def show_claims(workspace: Path) -> None:
    """Show the verdicts on those claims of the paper that the run tests."""
    claims = Claims.read(workspace / CLAIMS).claims
    rows = [
        {
            "claim": each.claim,
            "difference": difference_text(each.difference, each.interval, each.lower_bound),
            "direction here": each.direction or "-",
            "verdict": each.verdict,
            "note": each.note,
        }
        for each in claims
        if each.difference is not None
    ]
    description = f"claims of the paper: {len(rows)} of {len(claims)} tested by this run"
    create_table_artifact(rows, key=artifact_key(workspace, "claims"), description=description)


def show_lines(workspace: Path, kind: str, lines: list[str], description: str) -> None:
    """Show the lines that the command line prints."""
    text = "\n".join(f"    {line}" for line in lines)
    create_markdown_artifact(text, key=artifact_key(workspace, kind), description=description)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
