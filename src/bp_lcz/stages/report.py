"""Stage ``report``: writes tables and figures of all trials as a static page and as Markdown."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from bp_lcz import files, paths
from bp_lcz.errors import UserError
from bp_lcz.params import Params, backbone_names
from bp_lcz.records import PackManifest
from bp_lcz.report.claims import check_claims, interval_text, load_paper
from bp_lcz.report.method import method_sentences
from bp_lcz.report.page import PAGE, write_report
from bp_lcz.report.references import load_references
from bp_lcz.report.tables import data_name
from bp_lcz.scoring.results import TrialResult, group_seeds, read_matrix
from bp_lcz.scoring.score import fraction

_OWN_TARGETS = ("tables", "study", "plug-in", "forms", "few", "leftout", "paper")
"""Profiles that have a target in the Makefile."""


def run(params: Params) -> None:
    """Write the report of exactly the trials of ``params.yaml`` and print a short table.

    Raises:
        UserError: if a trial or seed is missing, a folder of another trial is left over, a file is unreadable, a
            file belongs to another trial, other parameters or another data set than it should, or an entry of
            ``paper.yaml`` names something unknown, or one of ``references.yaml`` is not in form.
    """
    paper, references = load_paper(paths.PAPER, backbone_names()), load_references(paths.REFERENCES)
    matrix = read_matrix(params)
    outcomes = check_claims(paper, matrix.summary, matrix.results)
    manifest = PackManifest.read(paths.PACKED / "manifest.json")
    patches = paths.GATE_FIGURES / "patches.png"
    if not patches.is_file():
        raise UserError(patches, "not found; run `dvc repro validate`")
    with files.staged_folder(paths.REPORTS) as folder:
        write_report(
            folder,
            matrix,
            outcomes=outcomes,
            references=references,
            paper=paper,
            manifest=manifest,
            patches=patches.read_bytes(),
            profile=params.profile,
            command=rebuild_command(params.profile, params.dataset.root),
        )
    print(_short_table(matrix.results))
    print(f"\n{data_name(matrix.summary)}, testing split: {paths.REPORTS / PAGE}")


def rebuild_command(profile: str | None, root: str) -> str:
    """Command that makes the report again in a fresh clone of the same commit, with only the name of other folders."""
    folder = root if not Path(root).is_absolute() else f"/path/to/{Path(root).name}"
    is_demo = Path(root) == paths.DEMO
    if profile in _OWN_TARGETS and (is_demo or not Path(root).is_absolute()):
        return f"make {profile}"
    if profile is None:
        return "make reproduce" if is_demo else f"make reproduce DATASET={shlex.quote(folder)}"
    dataset = "" if is_demo else f" --dataset {shlex.quote(folder)}"
    return (
        f"bp-lcz workspace {profile} --profile {profile}{dataset} && "
        f"python -m flows.train_bp_lcz --workspace .workspaces/{profile}"
    )


def _short_table(results: Sequence[TrialResult]) -> str:
    width = max(len("trial"), *(len(result.name) for result in results))
    lines = [f"{'trial':<{width}}  {'OA':<18}  {'kappa':<18}".rstrip()]
    for result in results:
        evaluation = result.evaluation
        mark = "†" if evaluation.interval.lower_bound else ""
        scores = (evaluation.oa, evaluation.intervals["oa"]), (evaluation.kappa, evaluation.intervals["kappa"])
        values = (f"{fraction(score, 3)} {interval_text(interval)}{mark}" for score, interval in scores)
        lines.append(f"{result.name:<{width}}  {'  '.join(f'{value:<18}' for value in values)}".rstrip())
    if any("†" in line for line in lines):
        lines.append("† by patch: the true intervals are wider")
    lines.append("intervals are of single models in other cities; those of means over seeds are in the report")
    if len({result.evaluation.seed for result in results}) == 1:
        lines[-1] = "intervals are of single models in other cities; one seed decides nothing between trials"
    return "\n".join([*lines, *method_sentences(group_seeds(results))])
