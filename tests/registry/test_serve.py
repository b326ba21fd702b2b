"""Serving and predicting what is registered, with real processes, a real store and real HTTP."""

import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from bp_lcz.model.checkpoint import load_classifier
from bp_lcz.registry.connection import open_store
from bp_lcz.registry.mirror import mirror_trials
from bp_lcz.registry.package import example_patches
from bp_lcz.registry.promote import promote_version
from bp_lcz.registry.register import register_best
from bp_lcz.serving.client import Client
from bp_lcz.serving.predict import predict_file
from bp_lcz.serving.server import serve_model
from tests.refusals import refuses, states
from tests.registry.conftest import FinishedWorkspace

NAME = "bp-lcz-demo"
BP_LCZ = [sys.executable, "-W", "ignore", "-m", "bp_lcz.cli"]


@pytest.fixture
def registered(workspace: FinishedWorkspace) -> FinishedWorkspace:
    workspace.finish("one-bp-lcz", weights_seed=2, right=0.9)
    register_best(workspace.folder, workspace.params, mirror_trials(workspace.folder, workspace.params))
    return workspace


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server of the champion on a free port, and its address."""
    with (folder / "serve.log").open("w") as log:
        server = subprocess.Popen(
            [*BP_LCZ, "serve", NAME, "--port", "0", *options], cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line.startswith(f"serving {NAME}/1 on http://127.0.0.1:"), (folder / "serve.log").read_text()
            yield line.split()[-1], server
        finally:
            server.kill()
            server.wait()


def put_code_into_the_store(folder: Path) -> Path:
    """Hostile code wherever MLflow keeps code of a model, and the file that it makes when it is run."""
    sentinel = folder / "pwned"
    [served] = [file for file in (folder / "mlartifacts").rglob("served.py") if "code" not in file.parts]
    evil = f"from pathlib import Path\nPath({str(sentinel)!r}).touch()\n"
    for file in [served, *served.parent.rglob("code/**/*.py")]:
        file.write_text(evil)
    (served.parent / "python_model.pkl").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    return sentinel


def test_the_champion_is_served_over_http_with_the_probabilities_of_the_checkpoint(
    registered: FinishedWorkspace,
) -> None:
    with refuses(f"models:/{NAME}@champion"):
        serve_model(registered.folder, f"models:/{NAME}@champion", "127.0.0.1", 0, 2**20)
    assert promote_version(registered.folder, NAME).accepted
    sentinel = put_code_into_the_store(registered.folder)
    patches = example_patches(registered.folder / "data/demo", count=4)
    sen1, sen2 = patches["sen1"], patches["sen2"]
    expected = load_classifier(registered.folder / "outputs/models/one-bp-lcz").predict_proba(sen1, sen2)
    with serving(registered.folder, "--max-body", "1") as (url, server):
        client = Client(url)
        assert client.is_healthy()
        np.testing.assert_array_equal(client.predict_proba(sen1, sen2), expected)
        with refuses(url, 400, "sen1", "(4, 32, 32, 7)", "(N, 32, 32, 8)"):
            client.predict_proba(sen1[..., :7], sen2)
        with refuses(url, 413, "1,048,576"):
            client.predict_proba(np.repeat(sen1, 5, axis=0), np.repeat(sen2, 5, axis=0))
        with urllib.request.urlopen(f"{url}/version") as version:
            assert version.headers["x-model"] == f"{NAME}/1"
        server.send_signal(signal.SIGTERM)
        server.wait(30)
    assert not sentinel.exists()


def test_a_version_whose_artifacts_are_gone_is_not_served(registered: FinishedWorkspace) -> None:
    assert promote_version(registered.folder, NAME).accepted
    shutil.rmtree(registered.folder / "mlartifacts")
    with refuses(f"{NAME} version 1"):
        serve_model(registered.folder, f"models:/{NAME}@champion", "127.0.0.1", 0, 2**20)


def test_code_that_was_put_into_the_artifact_store_runs_neither_in_promote_nor_in_predict(
    registered: FinishedWorkspace, tmp_path: Path
) -> None:
    import mlflow

    sentinel = put_code_into_the_store(registered.folder)

    assert promote_version(registered.folder, NAME).accepted
    for model in (
        f"models:/{NAME}@champion",
        f"models:/{NAME}/1",
        str(registered.folder / "outputs/models/one-bp-lcz"),
    ):
        done = predict_file(
            registered.folder, model, registered.folder / "data/demo/testing.h5", tmp_path / "p.parquet"
        )
        assert done.patches == pq.read_table(tmp_path / "p.parquet").num_rows == 4
    assert not sentinel.exists()
    # MLflow itself runs what was registered.
    with open_store(registered.folder), suppress(Exception):
        mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
    assert sentinel.exists(), "the hostile code works"


def test_weights_that_were_changed_in_the_artifact_store_are_refused(registered: FinishedWorkspace) -> None:
    [weights] = (registered.folder / "mlartifacts").rglob("one-bp-lcz/model.safetensors")
    registered.finish("one-bp-lcz", weights_seed=9)
    for name in ("model.safetensors", "model.json"):  # consistent with each other
        shutil.copy(registered.folder / "outputs/models/one-bp-lcz" / name, weights.parent)
    refused = promote_version(registered.folder, NAME)
    assert not refused.accepted
    assert states(refused.reason, "weights")
    assert states(refused.reason, "sha256")


def test_a_version_carries_its_model_card(registered: FinishedWorkspace) -> None:
    [card] = (registered.folder / "mlartifacts").rglob("model_card.md")
    text = card.read_text()
    assert "**simulated data**: Made by code, not measured" in text
    assert "| testing | 4 | 2 | 4 of 17 |" in text
    assert "95% intervals by city (8)" in text
    assert "- level of Sentinel-2: not stated" in text
    assert "- sensors: Sentinel-1 (8 channels), Sentinel-2 (10 channels); never on others" in text
    evaluation = json.loads((registered.folder / "outputs/evaluations/one-bp-lcz/evaluation.json").read_text())
    assert f"| kappa | {evaluation['kappa']:.3f} |".replace("0.", ".") in text
    assert all(f"| {row['code']} | {row['name']} | 40 |" in text for row in evaluation["per_class"])
    with open_store(registered.folder) as client:
        assert client.get_model_version(NAME, "1").description == text
