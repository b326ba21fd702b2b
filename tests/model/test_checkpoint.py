"""A trained trial on disk: gives back the network, refuses what is damaged, executes nothing."""

import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bp_lcz.bands import ALL_CHANNELS
from bp_lcz.model.checkpoint import load_classifier, versions
from bp_lcz.model.training import train_trial
from tests.model.packed import small_trial, write_inputs
from tests.refusals import refuses
from tests.so2sat.patches import random_patches


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train_trial(small_trial(epochs=1), *write_inputs(folder), folder / "scratch", folder / "trial")
    return folder / "trial"


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "trial"))


def test_probabilities_sum_to_one_and_do_not_depend_on_the_batch(trained: Path) -> None:
    classifier = load_classifier(trained)
    sen1, sen2, _ = random_patches(300)
    together = classifier.predict_proba(sen1, sen2)
    assert together.shape == (300, 17)
    np.testing.assert_allclose(together.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(together[:5], classifier.predict_proba(sen1[:5], sen2[:5]), atol=1e-5)


def test_float32_and_float64_patches_give_the_same_probabilities(trained: Path) -> None:
    classifier = load_classifier(trained)
    sen1, sen2, _ = random_patches(20)
    single, double = sen1.astype(np.float32), sen2.astype(np.float32)
    np.testing.assert_array_equal(classifier.predict_proba(single, double), classifier.predict_proba(sen1, sen2))


def test_no_patches_give_no_probabilities(trained: Path) -> None:
    sen1, sen2, _ = random_patches(1)
    assert load_classifier(trained).predict_proba(sen1[:0], sen2[:0]).shape == (0, 17)


def with_value(images: np.ndarray, patch: int, value: float) -> np.ndarray:
    images = images.copy()
    images[patch] = value
    return images


@pytest.mark.parametrize(
    ("spoil", "where", "facts"),
    [
        (lambda a, b: (a[..., :5], b), "sen1", ["(4, 32, 32, 5)", "(N, 32, 32, 8)"]),
        (lambda a, b: (a, b[:, :16]), "sen2", ["(4, 16, 32, 10)"]),
        (lambda a, b: (a[:2], b), "sen1", [2, "sen2", 4]),
        (lambda a, b: (with_value(a, 3, np.nan), b), "sen1", ["patch 3", "finite"]),
        (lambda a, b: (a, with_value(b, 2, 1e300)), "sen2", ["patch 2", "finite"]),
        (lambda a, b: (a, with_value(b, 1, 3e38)), "patch 1", []),
    ],
)
def test_wrong_patches_are_refused(trained: Path, spoil: object, where: str, facts: list[object]) -> None:
    sen1, sen2, _ = random_patches(4)
    with refuses(where, *facts):
        load_classifier(trained).predict_proba(*spoil(sen1, sen2))  # type: ignore[operator]


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with refuses(copy / name, "not found"):
        load_classifier(copy)


@pytest.mark.parametrize(("name", "fact"), [("model.safetensors", "sha256"), ("model.json", "`dvc repro`")])
@pytest.mark.parametrize("keep", [0, 7, 500])
def test_a_truncated_file_is_named(copy: Path, name: str, fact: str, keep: int) -> None:
    (copy / name).write_bytes((copy / name).read_bytes()[:keep])
    with refuses(copy / name, fact):
        load_classifier(copy)


def test_weights_of_another_network_are_refused(copy: Path) -> None:
    description = json.loads((copy / "model.json").read_text())
    description["backbone_options"]["widths"] = [8, 8]
    (copy / "model.json").write_text(json.dumps(description))
    with refuses(copy / "model.safetensors", "size mismatch"):
        load_classifier(copy)


def test_prompting_without_its_section_is_refused(copy: Path) -> None:
    description = json.loads((copy / "model.json").read_text()) | {"model": None}
    (copy / "model.json").write_text(json.dumps(description))
    with refuses(copy / "model.json", "variant bp-lcz", "model"):
        load_classifier(copy)


def test_a_flipped_bit_in_the_weights_is_noticed(copy: Path) -> None:
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[len(weights) // 2] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    with refuses(copy / "model.safetensors", "sha256", "model.json"):
        load_classifier(copy)


def test_an_unknown_backbone_is_blamed_on_the_description(copy: Path) -> None:
    description = json.loads((copy / "model.json").read_text()) | {"backbone": "os"}
    (copy / "model.json").write_text(json.dumps(description))
    with refuses(copy / "model.json", "'os'", "eb_cnn"):
        load_classifier(copy)


def test_a_pickle_in_place_of_weights_is_not_executed(copy: Path, tmp_path: Path) -> None:
    witness = tmp_path / "executed"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(witness),))

    hostile = pickle.dumps(Payload())
    (copy / "model.safetensors").write_bytes(hostile)
    description = json.loads((copy / "model.json").read_text())
    description["weights_sha256"] = hashlib.sha256(hostile).hexdigest()
    (copy / "model.json").write_text(json.dumps(description))
    with refuses(copy / "model.safetensors", "header"):
        load_classifier(copy)
    assert not witness.exists()


def test_channel_names_come_back(trained: Path) -> None:
    assert load_classifier(trained).channels == ALL_CHANNELS


def test_the_build_of_pytorch_is_named_where_it_may_decide_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.9.0+cu130")
    assert versions()["torch"] == versions("cpu")["torch"] == "2.9.0"
    assert versions("NVIDIA H100")["torch"] == "2.9.0+cu130"


def test_a_model_is_loaded_without_the_compiler_whose_import_takes_seconds(trained: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from bp_lcz.model.checkpoint import load_classifier\n"
        "load_classifier(Path(sys.argv[1])); sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, trained], check=True)
