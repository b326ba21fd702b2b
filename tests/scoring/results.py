"""Synthetic result files of the stages before ``report``, made from a seed."""

import shutil
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bp_lcz.bands import Channels
from bp_lcz.params import PromptVectors, load_params, vectors_of
from bp_lcz.records import (
    DataKind,
    Evaluation,
    ExpectationSummary,
    Leakage,
    ModelDescription,
    Resampling,
    SplitSummary,
    TextOrigin,
    Timings,
    Validation,
)
from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.scoring.metrics import evaluate_predictions
from bp_lcz.scoring.significance import bootstrap_intervals
from tests.records import CALIBRATED, CALIBRATION, small_manifest, small_summary

TRIALS: dict[str, dict[str, Any]] = {
    "eb_cnn-plain": {"backbone": "eb_cnn", "variant": "plain", "seed": 1},
    "eb_cnn-bgp": {"backbone": "eb_cnn", "variant": "bgp", "seed": 1},
    "eb_cnn-bp-lcz": {"backbone": "eb_cnn", "variant": "bp-lcz", "seed": 1},
}
SOURCES = {
    "simulated": "simulated by bp-lcz, seed 1",
    "weak labels": "weak labels: arg-max of Sen2LCZ on sen2",
    "unstated": None,
    "So2Sat": None,
}
ROOT = Path(__file__).parents[2]
CHANNELS = Channels(("VH_lee_intensity", "VV_lee_intensity"), ("B02", "B03", "B04", "B08"))
NO_LEAKAGE: dict[str, Any] = {"status": "none", "pairs": 0, "distance": None}
COORDINATES = 3 * np.random.default_rng(3).normal(size=(CLASS_COUNT, 2))
PARAMS = load_params(ROOT / "params.yaml")
PATCHES_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", 1080, 2814)
"""As much of the gate's figure as says how large it is."""


def write_results(
    root: Path,
    trials: Mapping[str, Mapping[str, Any]] = TRIALS,
    *,
    patches: int = 600,
    kind: str = "simulated",
    unit: str = "city",
    blocks: int = 10,
    absent: tuple[int, ...] = (),
    dataset: str = "demo",
    groups: Sequence[str] = ("VH", "VV", "RGB"),
    release: str | None = None,
    leakage: Mapping[str, Any] = NO_LEAKAGE,
    skill: Mapping[str, float] | None = None,
) -> None:
    """Write ``outputs/packed/manifest.json``, ``outputs/gate/summary.json``, ``outputs/models`` and ``outputs/evaluations`` under ``root``.

    Args:
        root: workspace.
        trials: backbone, variant, seed and overrides of each trial.
        patches: of the testing split.
        kind: provenance, a key of ``SOURCES``.
        unit: resampling unit of the intervals.
        blocks: number of units.
        absent: class indices without a test patch.
        dataset: name of the data set.
        groups: band groups of the trials that have prompts.
        release: of So2Sat, as the gate names it.
        leakage: between splits, as the gate describes it.
        skill: how good the trials of each variant are; by default each trial is better than the one before it.
    """
    generator = np.random.default_rng(0)
    present = np.setdiff1d(np.arange(CLASS_COUNT), absent)
    y_true = np.sort(generator.choice(present, size=patches))
    block = generator.integers(blocks, size=patches)
    counts = np.bincount(y_true, minlength=CLASS_COUNT)
    _write_summary(root, counts, kind, dataset, release, leakage)
    small_manifest().write(root / "outputs/packed/manifest.json")
    for index, (name, trial) in enumerate(trials.items()):
        better = 0.3 * index if skill is None else skill[trial["variant"]]
        _write_trial(root, name, trial, index, better, y_true, block, kind, unit, dataset, groups)


def write_params(root: Path, trials: Mapping[str, Mapping[str, Any]] = TRIALS) -> None:
    """Write a ``params.yaml`` with these trials, the claims on EB-CNN and the references under ``root``."""
    import yaml

    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["trials"] = {name: dict(trial) for name, trial in trials.items()}
    params["backbones"] = {trial["backbone"]: {} for trial in trials.values()}
    paper = yaml.safe_load((ROOT / "paper.yaml").read_text(encoding="utf-8"))
    paper["claims"] = {name: claim for name, claim in paper["claims"].items() if "exvit" not in str(claim)}
    (root / "paper.yaml").write_text(yaml.safe_dump(paper, sort_keys=False), encoding="utf-8")
    shutil.copy(ROOT / "references.yaml", root)
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def _write_summary(
    root: Path, testing: np.ndarray, kind: str, dataset: str, release: str | None, leakage: Mapping[str, Any]
) -> None:
    splits = {
        split: SplitSummary(patches=int(counts.sum()), class_counts=tuple(counts.tolist()), cities=cities)
        for split, counts, cities in (
            ("training", testing * 4, 21),
            ("validation", testing // 2, 5),
            ("testing", testing, 10),
        )
    }
    expected = {"violations": 0, "examples": ()}
    summary = small_summary(
        dataset=dataset,
        source=SOURCES[kind],
        kind=DataKind(kind),
        leakage=Leakage(**leakage),
        release=release,
        channels=CHANNELS,
        splits=splits,
        expectations=(
            ExpectationSummary(expectation="finite", target="sen2", success=True, status="passed", **expected),
            ExpectationSummary(expectation="all classes", target="label", success=False, status="warning", **expected),
        ),
        warnings=("all classes: label lacks E",),
    )
    (root / "outputs/gate/figures").mkdir(parents=True, exist_ok=True)
    summary.write(root / "outputs/gate/summary.json")
    (root / "outputs/gate/figures/patches.png").write_bytes(PATCHES_PNG)


def _write_trial(
    root: Path,
    name: str,
    trial: Mapping[str, Any],
    index: int,
    better: float,
    y_true: np.ndarray,
    block: np.ndarray,
    kind: str,
    unit: str,
    dataset: str,
    groups: Sequence[str],
) -> None:
    generator = np.random.default_rng(100 + index)
    distance = np.abs(np.arange(CLASS_COUNT)[:, None] - np.arange(CLASS_COUNT))
    city_skill = np.random.default_rng(7).normal(0, 0.5, size=block.max() + 1)[block]
    logit = -distance[y_true] * 0.5 + generator.gumbel(size=(len(y_true), CLASS_COUNT))
    logit[np.arange(len(y_true)), y_true] += 1.6 + better + city_skill
    probability = np.exp(1.4 * logit)
    probability = (probability / probability.sum(axis=1, keepdims=True)).astype(np.float32)
    y_pred = probability.argmax(axis=1)
    arrays: dict[str, np.ndarray] = {
        "y_true": y_true,
        "y_pred": y_pred,
        "probability": probability,
        "block": block,
        "embedding": (COORDINATES[y_true] + generator.normal(0, 1, (len(y_true), 2))).astype(np.float32),
        "embedding_share": np.array([0.41, 0.17]),
    }
    if trial["variant"] in ("bgp", "bp-lcz"):
        count = len(groups)
        classes = 0.6 * np.exp(-distance / 2.5) + generator.normal(0, 0.05, size=(count, CLASS_COUNT, CLASS_COUNT))
        classes[:, np.bincount(y_true, minlength=CLASS_COUNT) == 0] = np.nan
        arrays["groups"] = np.array(groups)
        arrays["group_similarity"] = 0.25 + 0.4 * np.eye(count) + generator.normal(0, 0.05, (count, count))
        arrays["class_similarity"] = classes
    if trial.get("overrides", {}).get("train", {}).get("leave_out"):
        own = np.eye(CLASS_COUNT)[y_true] * (trial["overrides"].get("prompts", {}).get("source", "text") == "text")
        arrays["class_cosine"] = (own + generator.normal(0, 1, (len(y_true), CLASS_COUNT))).astype(np.float32)
    folder = root / "outputs/evaluations" / name
    folder.mkdir(parents=True)
    np.savez_compressed(folder / "predictions.npz", **arrays)
    best_epoch = 10 + index % 3
    identity = {key: trial[key] for key in ("backbone", "variant", "seed")}
    identity |= {"trial": name, "dataset": dataset, "kind": DataKind(kind), "leakage": Leakage(**NO_LEAKAGE)}
    identity |= {"source": SOURCES[kind], "parameters": 123_456 + index, "best_epoch": best_epoch}
    evaluation = Evaluation(
        **identity,
        **dict(evaluate_predictions(y_true, y_pred, probability)),
        patches=len(y_true),
        intervals=bootstrap_intervals(y_true, y_pred, block, samples=200, seed=1),
        interval=Resampling(
            level=0.95, unit=unit, blocks=len(np.unique(block)), samples=200, seed=1, lower_bound=unit == "patch"
        ),
        validation_kappa=0.6,
        **CALIBRATED,
    )
    evaluation.write(folder / "evaluation.json")
    _write_model(root / "outputs/models" / name, identity, index, trial.get("overrides", {}))


def _write_model(folder: Path, identity: Mapping[str, Any], index: int, overrides: Mapping[str, Any]) -> None:
    text = TextOrigin(encoder="packaged-minilm", revision=None, sha256="0" * 64, template="a photo of a {class}")
    description = ModelDescription(
        **identity,
        channels=CHANNELS,
        calibration=CALIBRATION,
        backbone_options=overrides.get("backbone", {}),
        train=PARAMS.train.model_copy(update=overrides.get("train", {})),
        model=PARAMS.model.model_copy(update=overrides.get("model", {})),
        prompts=PromptVectors(**(vectors_of(PARAMS.prompts) | overrides.get("prompts", {}))),
        operations=15_000_000,
        validation=Validation(oa=0.6, kappa=0.6, loss=1.0),
        text=None if identity["variant"] == "plain" else text,
        versions={"bp_lcz": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6"},
        device="cpu",
    )
    description.write(folder / "model.json")
    best_epoch = description.best_epoch
    columns = "epoch,learning_rate,training_loss,training_alignment,validation_loss,validation_oa,validation_kappa"
    generator = np.random.default_rng(200 + index)
    rows = []
    for epoch in range(1, PARAMS.train.epochs + 1):
        kappa = 0.7 * (1 - np.exp(-epoch / 3)) + generator.normal(0, 0.01) - 0.02 * max(0, epoch - best_epoch)
        loss = 2.8 * np.exp(-epoch / max(2, 5 - 0.4 * (index % 9))) + 0.4 + generator.normal(0, 0.03)
        alignment = 20 * (index % 3) * np.exp(-epoch / 4)
        rows.append(
            f"{epoch},0.001,{loss + 0.5 * alignment},{alignment},{loss + 0.2 + 0.03 * epoch},{kappa + 0.03},{kappa}"
        )
    (folder / "history.csv").write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")
    timings = Timings(
        seconds=61.2 + index,
        epochs=PARAMS.train.epochs,
        patches_per_second=512.3,
        peak_memory_mib=812.0,
        threads=1,
        machine="x86_64, 2 cores",
    )
    timings.write(folder / "timings.json")
