"""Records with plausible values, for tests that look at something else."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bp_lcz.bands import ALL_CHANNELS, Channels
from bp_lcz.model.checkpoint import versions
from bp_lcz.params import SPLITS, WORDINGS, NetworkParams, Split
from bp_lcz.records import (
    Blocks,
    Checkpoint,
    DataKind,
    Evaluation,
    GateSummary,
    Leakage,
    PackManifest,
    PromptOrigin,
    Resampling,
    SplitSummary,
)
from bp_lcz.scoring.metrics import evaluate_predictions
from bp_lcz.text.prompts import prompt_texts

NO_LEAKAGE = Leakage(status="none", pairs=0, distance=None)


def random_origin() -> PromptOrigin:
    """Of prompts that no text encoder made."""
    template, made = "a photo of a {class} with {group} bands", {"encoder": "random vectors", "sha256": "0" * 64}
    texts = {wording: prompt_texts(template, wording) for wording in WORDINGS}
    return PromptOrigin(texts=texts, template=template, class_template="a photo of a {class}", revision=None, **made)


def small_evaluation(**changes: Any) -> Evaluation:
    scores = evaluate_predictions(np.array([0, 0, 3, 16]), np.array([0, 3, 3, 16]))
    return Evaluation(
        **{
            **dict(scores),
            **{"trial": "plain", "backbone": "eb_cnn", "variant": "plain", "seed": 1, "dataset": "demo"},
            **{"kind": DataKind.SIMULATED, "source": "simulated", "leakage": NO_LEAKAGE},
            **{"parameters": 1, "best_epoch": 1, "validation_kappa": 0.5, "patches": 4},
            "intervals": dict.fromkeys(("oa", "aa", "kappa", "macro_f1")),
            "interval": Resampling(level=0.95, unit="city", blocks=1, samples=200, seed=1, lower_bound=False),
            **changes,
        }
    )


def described(form: NetworkParams, channels: Channels = ALL_CHANNELS) -> Checkpoint:
    """What a checkpoint of this network says of itself."""
    return Checkpoint(
        **{key: value for key, value in form if key in Checkpoint.model_fields},
        **{"trial": "small", "dataset": "demo", "kind": DataKind.SIMULATED, "source": "simulated"},
        channels=channels,
        parameters=1,
        versions=versions(),
    )


def small_summary(
    counts: Mapping[Split, int] = dict.fromkeys(SPLITS, 17),
    **changes: Any,
) -> GateSummary:
    """What the gate says of so many patches, one class after the other."""
    splits = {
        split: SplitSummary(
            patches=n, class_counts=tuple(np.bincount(np.arange(n) % 17, minlength=17).tolist()), cities=None
        )
        for split, n in counts.items()
    }
    return GateSummary(
        **{
            **{"dataset": "mine", "source": "simulated from seed 1", "kind": DataKind.SIMULATED},
            **{"leakage": NO_LEAKAGE, "release": None, "channels": ALL_CHANNELS, "splits": splits, "bands": {}},
            **{"expectations": (), "not_checked": (), "too_few_patches": {}, "warnings": ()},
            **changes,
        }
    )


def small_manifest(**changes: Any) -> PackManifest:
    summary = small_summary()
    return PackManifest(
        **{
            **{key: value for key, value in summary if key in ("dataset", "source", "kind", "leakage", "channels")},
            **{"mean": (0.0,) * 18, "std": (1.0,) * 18, "sha256": {"testing.images.npy": "0" * 64}},
            "class_counts": {split: content.class_counts for split, content in summary.splits.items()},
            "blocks": Blocks(unit="patch", description="", count=dict.fromkeys(SPLITS, 17)),
            **changes,
        }
    )
