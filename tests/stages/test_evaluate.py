"""Stage ``evaluate``: what it writes, and that it is training's own number."""

import json
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from sklearn.decomposition import PCA

from bp_lcz.model.calibration import set_sizes, set_threshold
from bp_lcz.model.checkpoint import load_classifier
from bp_lcz.model.training import train_trial
from bp_lcz.params import Params, load_params
from bp_lcz.patches.store import PackedStore
from bp_lcz.paths import EVALUATIONS, MODELS, PACKED
from bp_lcz.records import SCORES, Evaluation, PackManifest
from bp_lcz.scheme import CODES
from bp_lcz.scoring.metrics import reliability
from bp_lcz.stages import evaluate
from tests.conftest import ROOT
from tests.model.packed import PATCHES, small_trial, write_inputs
from tests.refusals import refuses

VARIANTS = ("plain", "encoder", "bp-lcz")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A folder in which a trial of each of these variants is trained."""
    monkeypatch.chdir(tmp_path)
    packed, prompts = write_inputs(tmp_path)
    PACKED.parent.mkdir()
    packed.rename(PACKED)
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["trials"] = {name: {"backbone": "eb_cnn", "variant": name, "seed": 1} for name in VARIANTS}
    content["evaluate"]["bootstrap_samples"] = 50
    Path("params.yaml").write_text(yaml.safe_dump(content))
    for name in VARIANTS:
        train_trial(small_trial(name, epochs=1), PACKED, prompts, Path(".scratch"), MODELS / name)
    return load_params()


def test_an_evaluation_holds_metrics_intervals_and_predictions(workspace: Params) -> None:
    evaluate.run(workspace, "bp-lcz")
    result = json.loads((EVALUATIONS / "bp-lcz" / "evaluation.json").read_text())
    assert result["patches"] == PATCHES["testing"]
    assert result["kind"] == "simulated"
    assert result["intervals"]["oa"][0] <= result["oa"] <= result["intervals"]["oa"][1]
    assert result["interval"]["unit"] == "patch"
    assert result["interval"]["lower_bound"]
    with np.load(EVALUATIONS / "bp-lcz" / "predictions.npz", allow_pickle=False) as predictions:
        assert (predictions["y_true"] == predictions["y_pred"]).mean() == pytest.approx(result["oa"])
        assert predictions["group_similarity"].shape == (7, 7)
        assert np.abs(predictions["class_similarity"]).max() <= 1 + 1e-5
        assert predictions["embedding"].shape == (PATCHES["testing"], 2)
        first, second = predictions["embedding"].var(axis=0)
        assert first >= second > 0
        share = predictions["embedding_share"]
        assert first / second == pytest.approx(share[0] / share[1], rel=1e-3)
        # Right class and own group, two ways: as a mean over patches and from the means over classes.
        share = np.bincount(predictions["y_true"], minlength=17) / result["patches"]
        diagonal = np.einsum("gcc,c->g", predictions["class_similarity"], share)
        np.testing.assert_allclose(np.diag(predictions["group_similarity"]), diagonal, atol=1e-5)


def test_an_evaluation_tells_calibration_and_the_coverage_of_sets(workspace: Params) -> None:
    evaluate.run(workspace, "plain")
    result = Evaluation.read(EVALUATIONS / "plain" / "evaluation.json")
    classifier, store = load_classifier(MODELS / "plain"), PackedStore(PACKED, "testing")
    calibration = classifier.description.calibration
    assert calibration is not None
    assert (result.temperature, calibration.patches) == (calibration.temperature, PATCHES["validation"])
    with torch.inference_mode():
        logits = classifier.network(*store.gather(np.arange(len(store)))[:2]).logits
    assert result.ece_before == pytest.approx(reliability(store.labels, logits.softmax(1).numpy()).ece, abs=1e-6)
    honest = (logits / calibration.temperature).softmax(1).numpy()
    assert result.ece == pytest.approx(reliability(store.labels, honest).ece, abs=1e-6)
    threshold = set_threshold(calibration, 0.9, "plain")
    assert result.coverage.asked == 0.9
    assert result.coverage.classes == pytest.approx(set_sizes(honest, threshold).mean())
    assert result.coverage.cities == ()  # there is no geo file


def test_coverage_is_told_of_each_city(workspace: Params) -> None:
    manifest = PackManifest.read(PACKED / "manifest.json")
    city = [block % 2 for block in range(PATCHES["testing"])]
    blocks = manifest.blocks.model_copy(update={"cities": ("Aachen", "Bonn"), "city": tuple(city)})
    manifest.model_copy(update={"blocks": blocks}).write(PACKED / "manifest.json")
    evaluate.run(workspace, "plain")
    coverage = Evaluation.read(EVALUATIONS / "plain" / "evaluation.json").coverage
    assert [(each.city, each.patches) for each in coverage.cities] == [("Aachen", 17), ("Bonn", 17)]
    assert np.mean([each.reached for each in coverage.cities]) == pytest.approx(coverage.reached)


def test_similarities_with_the_classes_are_kept_where_a_class_was_left_out(workspace: Params) -> None:
    evaluate.run(workspace, "bp-lcz")
    description = MODELS / "bp-lcz/model.json"
    kept = {}
    for left_out in ([], ["2"]):
        content = json.loads(description.read_text())
        content["train"]["leave_out"] = left_out
        description.write_text(json.dumps(content))
        evaluate.run(workspace, "bp-lcz")
        with np.load(EVALUATIONS / "bp-lcz/predictions.npz") as predictions:
            kept[bool(left_out)] = dict(predictions)
    assert "class_cosine" not in kept[False]
    cosine, y_true = kept[True]["class_cosine"], kept[True]["y_true"]
    assert cosine.shape == (PATCHES["testing"], 17)
    # The mean over the patches of a class is that of the table of groups and classes.
    found = np.stack([cosine[y_true == klass].mean(axis=0) for klass in range(17)])
    np.testing.assert_allclose(found, kept[True]["class_similarity"].mean(axis=0), atol=1e-5)


def test_what_was_never_aligned_is_not_compared_with_prompts(workspace: Params) -> None:
    evaluate.run(workspace, "encoder")
    with np.load(EVALUATIONS / "encoder" / "predictions.npz", allow_pickle=False) as predictions:
        assert "groups" not in predictions


def test_dvc_is_shown_the_numbers_and_the_classes_of_the_evaluation(workspace: Params) -> None:
    evaluate.run(workspace, "plain")
    folder = EVALUATIONS / "plain"
    result = json.loads((folder / "evaluation.json").read_text())
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics == {key: result[key] for key in SCORES if result[key] is not None}
    table = pd.read_csv(folder / "confusion.csv").map(lambda name: CODES.index(name.removeprefix("LCZ ")))
    counts = np.zeros((17, 17), int)
    np.add.at(counts, (table["true_class"], table["predicted"]), 1)
    assert counts.tolist() == result["confusion"]


def test_predictions_are_written_in_the_same_bytes_by_every_release_of_python(workspace: Params) -> None:
    evaluate.run(workspace, "plain")
    content = (EVALUATIONS / "plain" / "predictions.npz").read_bytes()
    version, flags, method = struct.unpack("<4x3H", content[:10])
    assert (version, flags, method) == (20, 0, 0), "stored whole, without the fields for files of 4 GiB"
    assert struct.unpack("<H", content[28:30]) == (0,)


def test_a_plain_trial_has_no_similarities(workspace: Params) -> None:
    evaluate.run(workspace, "plain")
    with np.load(EVALUATIONS / "plain" / "predictions.npz") as predictions:
        assert "group_similarity" not in predictions


def test_equal_inputs_give_equal_bytes(workspace: Params) -> None:
    contents = []
    for _ in range(2):
        evaluate.run(workspace, "bp-lcz")
        contents.append([file.read_bytes() for file in sorted((EVALUATIONS / "bp-lcz").iterdir())])
    assert contents[0] == contents[1]


def test_a_model_of_other_channels_is_refused(workspace: Params) -> None:
    manifest = json.loads((PACKED / "manifest.json").read_text())
    manifest["channels"]["sen2"] = manifest["channels"]["sen2"][::-1]
    (PACKED / "manifest.json").write_text(json.dumps(manifest))
    with refuses(MODELS / "plain", "channels VH_real", PACKED):
        evaluate.run(workspace, "plain")
    assert not (EVALUATIONS / "plain").exists()


def test_an_untrained_trial_is_named(workspace: Params) -> None:
    (MODELS / "plain" / "model.safetensors").unlink()
    with refuses(MODELS / "plain/model.safetensors", "not found"):
        evaluate.run(workspace, "plain")


@pytest.mark.parametrize("shape", [(300, 20), (2, 20), (300, 2)])
def test_the_embedding_is_the_first_two_principal_components(shape: tuple[int, int]) -> None:
    feature = np.random.default_rng(1).normal(size=shape) @ np.diag(np.arange(shape[1], 0, -1.0)) + 5
    found, theirs = evaluate._embedding(feature), PCA(2, svd_solver="full").fit(feature)
    signs = np.sign((found["embedding"] * theirs.transform(feature)).sum(0))
    np.testing.assert_allclose(found["embedding"], theirs.transform(feature) * signs, atol=1e-5)
    np.testing.assert_allclose(found["embedding_share"], theirs.explained_variance_ratio_, atol=1e-12)


def test_equal_features_have_an_embedding_without_variance() -> None:
    found = evaluate._embedding(np.ones((5, 3)))
    assert not found["embedding"].any()
    assert not found["embedding_share"].any()
