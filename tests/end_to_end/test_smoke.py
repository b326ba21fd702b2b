"""The whole way at a few hundred patches: workspace, flow, report, registry, and nothing to do the second time."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import nbformat
import pytest
import yaml
from nbclient import NotebookClient

from bp_lcz.records import Claims
from tests.end_to_end.checkout import copy_checkout


class Checkout:
    """A fresh repository and the commands of the README in it, with the environment of this test run."""

    def __init__(self, folder: Path) -> None:
        self.folder = copy_checkout(folder)

    @property
    def environment(self) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            # Some machines switch off __pycache__, which would hide that it disturbs DVC; and no server or
            # store of the person who runs the tests may be touched.
            if name != "PYTHONDONTWRITEBYTECODE" and not name.startswith(("PREFECT_", "MLFLOW_"))
        }
        return {
            **inherited,
            "PYTHONPATH": str(self.folder / "src"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def run(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=cwd or self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def flow(self, workspace: Path, *options: str) -> subprocess.CompletedProcess[str]:
        return self.run("flows.train_bp_lcz", "--workspace", str(workspace), *options)

    def workspace(self, name: str, *options: str) -> Path:
        made = self.run("bp_lcz.cli", "workspace", name, *options)
        assert made.returncode == 0, made.stderr
        return Path(made.stdout.strip())


def set_train(workspace: Path, **values: object) -> None:
    content = yaml.safe_load((workspace / "params.yaml").read_text())
    content["train"] |= values
    (workspace / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def smoke(checkout: Checkout) -> tuple[Path, str]:
    """A workspace in which the flow has run, and what it printed."""
    workspace = checkout.workspace("smoke", "--profile", "smoke")
    result = checkout.flow(workspace)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return workspace, result.stdout


def test_the_flow_ends_with_a_table_a_report_and_a_registered_model(smoke: tuple[Path, str]) -> None:
    workspace, printed = smoke
    for trial in ("eb_cnn-plain", "eb_cnn-bgp", "eb_cnn-bp-lcz"):
        score = json.loads((workspace / "outputs/evaluations" / trial / "evaluation.json").read_text())
        assert f"{trial:<13}  {score['oa']:.3f}  {score['kappa']:.3f}" in printed
    assert "registered  bp-lcz-demo version 1 @challenger (trial eb_cnn-bp-lcz)" in printed
    page = (workspace / "reports/index.html").read_text()
    assert "Simulated data" in page
    assert "bp-lcz workspace smoke --profile smoke" in page
    assert not Claims.read(workspace / "outputs/claims.json").is_comparable
    assert "not comparable" in printed


def test_the_terminal_has_a_line_for_each_stage_and_the_log_has_the_rest(
    checkout: Checkout, smoke: tuple[Path, str]
) -> None:
    log = (smoke[0] / ".scratch/run.log").read_text()
    assert "epoch 2/2" in log
    assert "epoch" not in smoke[1]


def test_a_second_run_runs_nothing(checkout: Checkout, smoke: tuple[Path, str]) -> None:
    again = checkout.flow(smoke[0])
    assert again.returncode == 0
    assert "were up to date, none ran" in again.stdout
    assert "version 1 @challenger" in again.stdout


def test_dvc_alone_agrees_that_nothing_is_left_to_do(checkout: Checkout, smoke: tuple[Path, str]) -> None:
    assert list((checkout.folder / "src").rglob("__pycache__"))
    repro = checkout.run("dvc", "repro", cwd=smoke[0])
    assert repro.returncode == 0
    assert "Running stage" not in repro.stdout
    assert "Data and pipelines are up to date." in repro.stdout + repro.stderr


def test_the_main_tree_stays_clean(checkout: Checkout, smoke: tuple[Path, str]) -> None:
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=checkout.folder, check=True, capture_output=True, text=True
    )
    assert status.stdout == ""


def test_a_renamed_trial_concerns_no_other(checkout: Checkout, smoke: tuple[Path, str]) -> None:
    def stale() -> set[str]:
        return set(json.loads(checkout.run("dvc", "status", "--json", cwd=smoke[0]).stdout))

    assert stale() == set()
    params = smoke[0] / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("eb_cnn-bgp:", "other-bgp:"))
    try:
        # prompts run for seconds and give the same bytes
        assert stale() == {"prompts", "train@other-bgp", "evaluate@other-bgp", "report", "verify"}
    finally:
        params.write_text(before)


def test_dvc_alone_tells_a_mistyped_backbone(checkout: Checkout, smoke: tuple[Path, str]) -> None:
    params = smoke[0] / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("backbone: eb_cnn", "backbone: eb_cn", 1))
    try:
        repro = checkout.run("dvc", "repro", cwd=smoke[0])
    finally:
        params.write_text(before)
    (line,) = [line for line in repro.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(
        "error: params.yaml: trials.eb_cnn-plain.backbone: unknown backbone 'eb_cn'; known: convnext_v2, "
    )
    assert "Errno" not in repro.stderr
    assert checkout.run("dvc", "repro", cwd=smoke[0]).returncode == 0  # what DVC removed comes from its cache


def test_bad_data_stops_the_flow_with_one_line(checkout: Checkout, smoke: tuple[Path, str], tmp_path: Path) -> None:
    bad = Path(shutil.copytree(smoke[0] / "data/demo", tmp_path / "bad"))
    for file in bad.iterdir():
        file.chmod(0o644)
    with h5py.File(bad / "testing.h5", "r+") as file:
        file["sen2"][17, 3, 4, 5] = float("nan")
    workspace = checkout.workspace("bad", "--profile", "smoke", "--dataset", str(bad))
    result = checkout.flow(workspace)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: stage validate: ")
    assert "testing.h5[17]" in last
    assert not (workspace / "outputs/gate/summary.json").exists()
    assert not (workspace / "outputs/packed").exists()


def test_the_notebook_runs_from_top_to_bottom(checkout: Checkout, smoke: tuple[Path, str], tmp_path: Path) -> None:
    # After the workspace `smoke`: what that made is restored from the cache.
    notebook = nbformat.read(checkout.folder / "notebooks/first_look.ipynb", as_version=4)
    assert not any(cell.outputs for cell in notebook.cells if cell.cell_type == "code"), "outputs are not committed"
    own = {"IPYTHONDIR": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path)}
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(checkout.folder / "notebooks")}})
    client.execute(env=checkout.environment | own)
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "km2" in printed
    assert (checkout.folder / ".workspaces/notebook/map/map.html").is_file()
