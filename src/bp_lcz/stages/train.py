"""Stage ``train``: trains one trial of the experiment matrix."""

from pathlib import Path

from bp_lcz.model.training import train_trial
from bp_lcz.params import Params
from bp_lcz.paths import MODELS, PACKED, PROMPTS, SCRATCH


def run(params: Params, trial: str) -> None:
    """Train the trial named in ``params.yaml``."""
    train_trial(
        params.trial(trial),
        PACKED,
        PROMPTS,
        SCRATCH,
        MODELS / trial,
        tier=params.store,
        dataset=Path(params.dataset.root),
    )
