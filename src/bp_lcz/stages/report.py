"""Stage ``report``: tables and figures of all cells as a static page and as Markdown."""

from pathlib import Path

from bp_lcz import paths
from bp_lcz.errors import UserError
from bp_lcz.evaluation.report import PAGE, CellResult, interval_text, read_result, read_summary, write_report
from bp_lcz.evaluation.score import fraction
from bp_lcz.params import Params


def run(params: Params) -> None:
    """Write the report of exactly the cells of ``params.yaml`` and print a short table.

    Raises:
        UserError: if a cell is missing, a folder of another cell is left over, a file is unreadable, or a
            file belongs to another cell or data set than it should.
    """
    for folder, stage in ((paths.MODELS, "train"), (paths.EVALUATIONS, "evaluate")):
        _check_cells(folder, stage, params)
    summary = read_summary(paths.SUMMARY)
    results = [read_result(paths.EVALUATIONS / cell, paths.MODELS / cell) for cell in params.cells]
    for name, result in zip(params.cells, results, strict=True):
        _check_identity(name, result, params, str(summary["dataset"]))
    with paths.staged_folder(paths.REPORTS) as folder:
        write_report(folder, summary=summary, results=results)
    print(_short_table(results))
    print(f"\n{summary['dataset']} ({summary['kind']}), testing split: {paths.REPORTS / PAGE}")


def _check_cells(folder: Path, stage: str, params: Params) -> None:
    # DVC leaves its .gitignore behind where a cell was removed: a folder with nothing else is no result.
    present = {
        path.name
        for path in sorted(folder.glob("*/"))
        if not path.name.startswith(".") and any(entry.name != ".gitignore" for entry in path.iterdir())
    }
    left_over = sorted(present - set(params.cells))
    if left_over:
        folders = " ".join(str(folder / name) for name in left_over)
        raise UserError(f"{folders}: not among the cells of params.yaml; remove with `rm -r {folders}`")
    missing = [name for name in params.cells if name not in present]
    if missing:
        raise UserError(f"{folder / missing[0]}: not found; run `dvc repro {stage}@{missing[0]}`")


def _check_identity(name: str, result: CellResult, params: Params, dataset: str) -> None:
    cell = params.cells[name]
    expected = {
        "cell": name,
        "backbone": cell.backbone,
        "variant": cell.variant,
        "seed": cell.seed,
        "dataset": dataset,
    }
    for key, value in expected.items():
        found = result.evaluation[key]
        if found != value:
            file = paths.EVALUATIONS / name / "evaluation.json"
            raise UserError(f"{file}: {key} is {found!r}, expected {value!r}; run `dvc repro`")


def _short_table(results: list[CellResult]) -> str:
    width = max(len("cell"), *(len(result.name) for result in results))
    lines = [f"{'cell':<{width}}  {'OA':<18}  {'kappa':<18}".rstrip()]
    for result in results:
        intervals = result.evaluation["intervals"] or {}
        values = (
            f"{fraction(result.evaluation[key], 3)} {interval_text(intervals.get(key))}" for key in ("oa", "kappa")
        )
        lines.append(f"{result.name:<{width}}  {'  '.join(f'{value:<18}' for value in values)}".rstrip())
    return "\n".join(lines)
