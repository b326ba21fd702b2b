"""A workspace with finished trials, as the stages and DVC leave it, made without running them."""

import csv
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml

from bp_lcz.bands import ALL_CHANNELS
from bp_lcz.model.bp_lcz import BPLCZ
from bp_lcz.model.checkpoint import versions, write_checkpoint
from bp_lcz.params import SPLITS, Params, load_params
from bp_lcz.records import (
    DataKind,
    Evaluation,
    Leakage,
    ModelDescription,
    Resampling,
    SplitSummary,
    Timings,
    Validation,
)
from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.scoring.metrics import evaluate_predictions
from bp_lcz.scoring.significance import bootstrap_intervals
from tests.records import CALIBRATED, CALIBRATION, small_manifest, small_summary

ROOT = Path(__file__).parents[2]
PATCHES, BLOCKS = 40 * CLASS_COUNT, 8
DATA_MD5 = "0123456789abcdef0123456789abcdef.dir"


class FinishedWorkspace:
    """A small git repository in which some trials are trained and evaluated."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unit = "city"
        shutil.copy(ROOT / "params.yaml", folder)
        (folder / ".gitignore").write_text("/outputs/\n/data/\n/mlflow.db*\n/mlartifacts/\n")
        (folder / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")  # committed, and changed by each run
        self._git("init", "--quiet")
        self._git("add", "--all")
        self._git("-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", "state")
        self.commit = self._git("rev-parse", "HEAD")
        self.use_trials({"one-plain": "plain", "one-bp-lcz": "bp-lcz"})
        self.lock: dict[str, object] = {
            "validate": {"cmd": "bp-lcz validate", "deps": [{"path": "data/demo", "md5": DATA_MD5}]}
        }
        self._write_data()

    @property
    def params(self) -> Params:
        return load_params(self.folder / "params.yaml")

    def use_trials(self, variants: dict[str, str], register: str = "bp-lcz") -> None:
        content = yaml.safe_load((self.folder / "params.yaml").read_text())
        content["backbones"] = {"eb_cnn": {"widths": [4, 4]}}
        content["evaluate"]["bootstrap_samples"] = 200
        content["register"] = register
        content["model"]["dimension"] = 8
        content["trials"] = {
            name: {"backbone": "eb_cnn", "variant": variant, "seed": 1} for name, variant in variants.items()
        }
        (self.folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    def finish(self, trial: str, kappa: float | None = 0.5, weights_seed: int = 0, right: float = 0.6) -> None:
        """Write what the stages train and evaluate write, and DVC's record of it.

        Args:
            trial: name of an entry of ``trials``.
            kappa: on the validation split.
            weights_seed: of the random network.
            right: share of the testing patches that are predicted rightly, in every block.
        """
        settings = self.params.trial(trial)
        torch.manual_seed(weights_seed)
        width = len(ALL_CHANNELS.names)
        prompts = torch.randn(CLASS_COUNT, 7, 5)
        network = BPLCZ(settings, ALL_CHANNELS, prompts, torch.zeros(width), torch.ones(width))
        model = self.folder / "outputs/models" / trial
        model.mkdir(parents=True, exist_ok=True)
        identity = {"trial": trial, "dataset": "demo", "kind": DataKind.SIMULATED, "source": "simulated"}
        identity |= {
            "parameters": 1234,
            "operations": 5,
            "best_epoch": 2,
            "leakage": Leakage(status="none", pairs=0, distance=None),
        }
        description = ModelDescription(
            **identity,
            **{key: value for key, value in settings if key != "name"},
            channels=ALL_CHANNELS,
            calibration=CALIBRATION,
            validation=Validation(oa=0.6, kappa=kappa, loss=1.0),
            versions=versions(),
            device="cpu",
        )
        write_checkpoint(model, network, description)
        with (model / "history.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["epoch", "training_loss", "training_alignment", "validation_kappa"])
            rows.writerows([[1, 2.5, "", 0.25], [2, 2.0, "", 0.5]])
        timings = {"seconds": 3.5, "epochs": 2, "patches_per_second": 9.0, "peak_memory_mib": 5.0}
        Timings(**timings, threads=1, machine="test").write(model / "timings.json")
        evaluation = self.folder / "outputs/evaluations" / trial
        evaluation.mkdir(parents=True, exist_ok=True)
        self._evaluate(evaluation, description, right)
        outs = [{"path": f"outputs/models/{trial}/model.safetensors", "md5": f"{weights_seed:032x}"}]
        self.lock[f"train@{trial}"] = {"cmd": f"bp-lcz train {trial}", "outs": outs}
        self.lock[f"evaluate@{trial}"] = {"cmd": f"bp-lcz evaluate {trial}"}
        (self.folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": self.lock}))

    def _evaluate(self, folder: Path, description: ModelDescription, right: float) -> None:
        true, block = np.divmod(np.arange(PATCHES), PATCHES // CLASS_COUNT)
        true, block = true.astype(np.int64), (block % BLOCKS).astype(np.int64)
        wrong = np.random.default_rng(7).random(PATCHES) >= right  # the better of two is right wherever the other is
        probability = np.full((PATCHES, CLASS_COUNT), 0.25 / (CLASS_COUNT - 1), np.float32)
        predicted = np.where(wrong, (true + 1) % CLASS_COUNT, true)
        probability[np.arange(PATCHES), predicted] = 0.75
        np.savez(folder / "predictions.npz", y_true=true, y_pred=predicted, probability=probability, block=block)
        evaluation = Evaluation(
            **{key: value for key, value in description if key in Evaluation.model_fields and key != "format"},
            **dict(evaluate_predictions(true, predicted, probability)),
            patches=PATCHES,
            intervals=bootstrap_intervals(true, predicted, block, samples=100, seed=1),
            interval=Resampling(
                level=0.95, unit=self.unit, blocks=BLOCKS, samples=100, seed=1, lower_bound=self.unit == "patch"
            ),
            validation_kappa=description.validation.kappa,
            **CALIBRATED,
        )
        evaluation.write(folder / "evaluation.json")

    def _write_data(self) -> None:
        rng = np.random.default_rng(1)
        folder = self.folder / "data/demo"
        folder.mkdir(parents=True)
        for split in SPLITS:
            with h5py.File(folder / f"{split}.h5", "w") as file:
                file["sen1"] = rng.exponential(0.1, (4, 32, 32, 8))
                file["sen2"] = rng.uniform(0, 0.5, (4, 32, 32, 10))
                file["label"] = np.eye(CLASS_COUNT)[:4]
        self.write_packed("a")
        counts = SplitSummary(patches=4, class_counts=(1,) * 4 + (0,) * 13, cities=2)
        summary = small_summary(dataset="demo", source="simulated", splits=dict.fromkeys(SPLITS, counts))
        summary.write(self.folder / "outputs/gate/summary.json")

    def write_packed(self, testing: str) -> None:
        """The manifest of packed data whose testing split is this one."""
        hashes = {f"{split}.images.npy": testing if split == "testing" else "b" for split in SPLITS}
        small_manifest(sha256=hashes).write(self.folder / "outputs/packed/manifest.json")

    def _git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.folder), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def server_that_answers(status: int, body: str = "{}") -> Iterator[str]:
    """Address with a password of a server that is healthy and gives all other requests the same answer."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path.endswith("/health") else status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET  # noqa: N815  the name is that of the base class

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://me:hidden@127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh SQLite store; making one takes seconds, copying it does not."""
    import mlflow

    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> FinishedWorkspace:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    finished = FinishedWorkspace(tmp_path)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    finished.finish("one-plain", 0.7, weights_seed=1)
    finished.finish("one-bp-lcz", 0.6, weights_seed=2)
    return finished
