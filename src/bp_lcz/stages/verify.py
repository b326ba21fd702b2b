"""Stage ``verify``: checks the paper's claims with the trials of this run."""

from bp_lcz import paths
from bp_lcz.errors import UserError
from bp_lcz.params import Params, backbone_names
from bp_lcz.records import Claims
from bp_lcz.report.claims import check_claims, claims_text, failures, load_paper
from bp_lcz.report.method import method_sentences
from bp_lcz.scoring.results import group_seeds, read_matrix


def run(params: Params, as_json: bool = False) -> None:
    """Write ``outputs/claims.json`` and print it, or in a few lines how many claims have which verdict.

    Raises:
        UserError: if a claim that is comparable with the paper fails (the claims are then printed and written
            already), or for the reasons of the stage ``report``.
    """
    paper = load_paper(paths.PAPER, backbone_names())
    summary, results = read_matrix(params)
    outcomes = check_claims(paper, summary, results)
    about = summary.model_dump(include={"dataset", "source", "kind", "leakage", "release"})
    method = tuple(method_sentences(group_seeds(results)))
    claims = Claims(**about, method=method, claims=tuple(outcomes))
    claims.write(paths.CLAIMS)
    short = f"{claims_text(outcomes, summary)}\nall details of each claim: {paths.CLAIMS} and {paths.REPORTS}"
    print(claims.model_dump_json(indent=1) if as_json else short, flush=True)
    failed = failures(outcomes)
    if failed:
        names = ", ".join(outcome.name for outcome in failed)
        raise UserError(paths.PAPER, f"{len(failed)} of {len(outcomes)} claims fail on comparable data: {names}")
