"""Records with plausible values, for tests that look at something else."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bp_lcz.bands import ALL_CHANNELS, Channels
from bp_lcz.model.checkpoint import versions
from bp_lcz.params import SPLITS, WORDINGS, NetworkParams, Split
from bp_lcz.records import (
    Blocks,
    Calibration,
    Checkpoint,
    CityCoverage,
    Claims,
    Coverage,
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


CALIBRATION = Calibration(temperature=1.25, patches=100, thresholds=tuple(0.5 - 0.01 * number for number in range(50)))
CITIES = (
    CityCoverage(city="Aachen", patches=30, reached=0.95, classes=2.5),
    CityCoverage(city="Bonn", patches=10, reached=0.7, classes=1.5),
)
CALIBRATED: dict[str, Any] = {
    "ece_before": 0.125,
    "temperature": 1.25,
    "coverage": Coverage(asked=0.9, reached=0.875, classes=2.25, cities=CITIES),
}


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
            **CALIBRATED,
            "intervals": dict.fromkeys(("oa", "aa", "kappa", "macro_f1")),
            "interval": Resampling(level=0.95, unit="city", blocks=1, samples=200, seed=1, lower_bound=False),
            **changes,
        }
    )


def small_claims(**changes: Any) -> Claims:
    """What a run says of no claims at all."""
    about = {key: value for key, value in small_summary() if key in ("dataset", "source", "kind", "leakage", "release")}
    return Claims(**{**about, "method": (), "claims": (), **changes})


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
