"""Stage ``evaluate``: evaluates one trained trial on the testing split."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from tqdm import tqdm

from bp_lcz.errors import UserError
from bp_lcz.files import staged_folder
from bp_lcz.model.bp_lcz import WHOLE_PATCH
from bp_lcz.model.calibration import is_in_set, set_sizes, set_threshold
from bp_lcz.model.checkpoint import DESCRIPTION, Classifier, load_classifier
from bp_lcz.params import Params
from bp_lcz.patches.loader import EVALUATION_BATCH, BatchOrder
from bp_lcz.patches.store import PackedStore
from bp_lcz.paths import EVALUATIONS, MODELS, PACKED
from bp_lcz.records import SCORES, CityCoverage, Coverage, Evaluation, ModelDescription, Resampling
from bp_lcz.scheme import CLASS_COUNT, CODES
from bp_lcz.scoring.metrics import evaluate_predictions, reliability
from bp_lcz.scoring.score import fraction
from bp_lcz.scoring.significance import LEVEL, bootstrap_intervals


def run(params: Params, trial: str) -> None:
    """Write ``evaluation.json`` and ``predictions.npz`` of the trial, and two files for DVC.

    ``metrics.json`` holds the numbers for `dvc metrics show`. ``confusion.csv`` holds the true and the predicted class
    of each patch for `dvc plots show`.
    """
    settings = params.trial(trial)
    torch.set_num_threads(settings.train.threads)
    on_gpu = torch.cuda.is_available() and settings.train.device != "cpu"
    classifier = load_classifier(MODELS / trial, "cuda" if on_gpu else "cpu")
    store = PackedStore(PACKED, "testing")
    if classifier.channels != store.channels:
        raise UserError(
            MODELS / trial,
            f"trained on channels {', '.join(classifier.channels.names)}; "
            f"{PACKED} has {', '.join(store.channels.names)}",
        )
    description = ModelDescription.read(MODELS / trial / DESCRIPTION)
    predictions, uncalibrated = _predict(classifier, store, trial)
    if not description.train.leave_out:
        predictions.pop("class_cosine", None)
    true, predicted = predictions["y_true"], predictions["y_pred"]
    sampling = params.evaluate
    unit = store.manifest.blocks.unit
    evaluation = Evaluation(
        **{key: value for key, value in description if key in Evaluation.model_fields and key != "format"},
        **dict(evaluate_predictions(true, predicted, predictions["probability"])),
        validation_kappa=description.validation.kappa,
        patches=len(true),
        intervals=bootstrap_intervals(true, predicted, store.blocks, sampling.bootstrap_samples, sampling.seed),
        interval=Resampling(
            level=LEVEL,
            unit=unit,
            blocks=len(np.unique(store.blocks)),
            samples=sampling.bootstrap_samples,
            seed=sampling.seed,
            # Patches on a 100 m stride overlap: treating them as independent makes intervals too narrow.
            lower_bound=unit == "patch",
        ),
        ece_before=reliability(true, uncalibrated).ece,
        temperature=description.calibration.temperature,
        coverage=_coverage(description, predictions, store, sampling.set_coverage),
    )
    with staged_folder(EVALUATIONS / trial) as folder:
        evaluation.write(folder / "evaluation.json")
        _write_npz(folder / "predictions.npz", predictions)
        metrics = evaluation.model_dump(include=set(SCORES), exclude_none=True)
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
        classes = [f"LCZ {code}" for code in CODES]
        lines = ["true_class,predicted", *(f"{classes[t]},{classes[p]}" for t, p in zip(true, predicted, strict=True))]
        (folder / "confusion.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    oa, kappa = fraction(evaluation.oa, 4), fraction(evaluation.kappa, 4)
    print(f"{trial}: OA {oa}, kappa {kappa} on {len(true)} testing patches")


def _write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write like `numpy.savez`, but with equal bytes in all releases of Python, since sizes are fixed."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())


def _coverage(
    description: ModelDescription, predictions: dict[str, np.ndarray], store: PackedStore, asked: float
) -> Coverage:
    threshold = set_threshold(description.calibration, asked, description.trial)
    is_in = is_in_set(predictions["probability"], predictions["y_true"], threshold)
    sizes = set_sizes(predictions["probability"], threshold)
    blocks, cities = store.manifest.blocks, []
    city = np.array(blocks.city)[store.blocks] if blocks.cities else np.empty(0, int)
    for number, name in enumerate(blocks.cities):
        of = city == number
        cities.append(
            CityCoverage(
                city=name, patches=int(of.sum()), reached=float(is_in[of].mean()), classes=float(sizes[of].mean())
            )
        )
    return Coverage(asked=asked, reached=float(is_in.mean()), classes=float(sizes.mean()), cities=tuple(cities))


def _predict(
    classifier: Classifier, store: PackedStore, trial: str
) -> tuple[dict[str, np.ndarray], Float[np.ndarray, "patch 17"]]:
    """Predictions and features of all patches and, with prompting, their similarities to groups and prompts.

    ``class_cosine`` is the cosine of a patch's image groups and a class's prompts of the same groups, as mean over
    groups. The second value holds the probabilities without calibration.
    """
    groups = classifier.network.groups
    pair_sum = np.zeros((len(groups), len(groups)))
    class_sum = np.zeros((len(groups), CLASS_COUNT, CLASS_COUNT))
    true, probability, uncalibrated, feature, class_cosine = [], [], [], [], []
    order = BatchOrder(len(store), EVALUATION_BATCH, seed=None)
    # A network with a single feature of the whole patch has no groups to compare.
    is_compared = classifier.network.is_aligned and groups != [WHOLE_PATCH]
    prompting = classifier.network.prompting if is_compared else None
    for indices in tqdm(order, desc=f"evaluate {trial}", unit="batch"):
        sen1, sen2, label = store.gather(indices)
        with torch.inference_mode():
            output = classifier.network(sen1.to(classifier.device), sen2.to(classifier.device))
        true.append(label.numpy())
        probability.append(classifier.probabilities(output).cpu().numpy())
        uncalibrated.append(output.logits.float().softmax(1).cpu().numpy())
        feature.append(output.feature.float().cpu().numpy())
        if output.alignment is not None and prompting is not None:
            similarity = prompting.cosine(output.alignment).cpu().numpy()
            own_class = similarity[np.arange(len(label)), :, label.numpy()]
            pair_sum += own_class.sum(0)
            own_group = np.einsum("bgcg->bgc", similarity)
            class_cosine.append(own_group.mean(axis=1))
            np.add.at(class_sum.transpose(1, 0, 2), label.numpy(), own_group)
    y_true, y_probability = np.concatenate(true), np.concatenate(probability)
    result: dict[str, Any] = {
        "y_true": y_true,
        "y_pred": y_probability.argmax(1),
        "probability": y_probability,
        "block": store.blocks,
        **_embedding(np.concatenate(feature)),
    }
    if prompting is not None:
        count = np.bincount(y_true, minlength=CLASS_COUNT)[None, :, None]
        mean = np.divide(class_sum, count, out=np.full_like(class_sum, np.nan), where=count > 0)
        result |= {"groups": np.array(groups), "group_similarity": pair_sum / len(y_true), "class_similarity": mean}
        result["class_cosine"] = np.concatenate(class_cosine).astype(np.float32)
    return result, np.concatenate(uncalibrated)


def _embedding(feature: Float[np.ndarray, "patch width"]) -> dict[str, np.ndarray]:
    """The fused features in two principal components, for a figure, and the share of variance that each explains."""
    if len(feature) < 2:
        return {"embedding": np.zeros((len(feature), 2), np.float32), "embedding_share": np.zeros(2)}
    centred = feature.astype(np.float64) - feature.mean(axis=0, dtype=np.float64)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    # The sign of an axis is arbitrary; its largest entry is made positive.
    axes = axes[:2] * np.sign(axes[[0, 1], np.abs(axes[:2]).argmax(axis=1)])[:, None]
    return {
        "embedding": (centred @ axes.T).astype(np.float32),
        "embedding_share": sizes[:2] ** 2 / max(float((sizes**2).sum()), np.finfo(float).tiny),
    }
