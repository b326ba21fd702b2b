"""Stage ``validate``: runs the quality gate."""

import shutil
import sys
from pathlib import Path

from bp_lcz.files import staged_folder
from bp_lcz.gate.expectations import ENOUGH
from bp_lcz.gate.figures import write_gate_figures
from bp_lcz.gate.quality import gate
from bp_lcz.params import Params
from bp_lcz.paths import GATE, GATE_FIGURES, SUMMARY
from bp_lcz.so2sat.releases import check_not_mixed


def run(params: Params) -> None:
    """Check the data set; write statistics, Data Docs and, if it passes, the summary and figures; print warnings.

    Raises:
        UserError: if files of different releases are mixed, a file is not in form or an expectation fails.
    """
    root = Path(params.dataset.root)
    shutil.rmtree(GATE, ignore_errors=True)  # pages and figures of other data would mislead
    check_not_mixed(root)
    summary = gate(
        root,
        GATE,
        reflectance_max=params.validation.reflectance_max,
        zeros_max=params.validation.zeros_max,
        leakage=params.validation.leakage,
    )
    for warning in summary.warnings:
        print(f"warning: {params.dataset.root}: {warning}", file=sys.stderr)
    if few := summary.too_few_patches:
        files, expectations = ", ".join(f"{split}.h5" for split in few), next(iter(few.values()))
        print(
            f"warning: {params.dataset.root}: not checked in {files} (fewer than {ENOUGH} patches): "
            f"{len(expectations)} expectations: {', '.join(expectations)}; see {SUMMARY}",
            file=sys.stderr,
        )
    with staged_folder(GATE_FIGURES) as folder:
        write_gate_figures(root, summary, folder)
    print(f"{params.dataset.root}: passed; {GATE / 'data_docs/index.html'}, {GATE_FIGURES}/*.png")
