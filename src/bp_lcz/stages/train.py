"""Stage ``train``: one cell of the experiment matrix."""

from pathlib import Path

from bp_lcz.model.training import train_cell
from bp_lcz.params import Params
from bp_lcz.paths import MODELS, PACKED, PROMPTS, SCRATCH


def run(params: Params, cell: str) -> None:
    """Train the cell named in ``params.yaml``."""
    train_cell(
        params.cell(cell),
        PACKED,
        PROMPTS,
        SCRATCH,
        MODELS / cell,
        tier=params.store,
        dataset=Path(params.dataset.root),
    )
