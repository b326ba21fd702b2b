"""Bringing what a training begins with: from a folder or the registry, once."""

import shutil
from pathlib import Path

import pytest

from bp_lcz.model.checkpoint import load_classifier
from bp_lcz.registry.connection import open_store
from bp_lcz.registry.mirror import mirror_trials
from bp_lcz.registry.register import register_best
from bp_lcz.registry.start import bring_start
from tests.refusals import refuses
from tests.registry.conftest import FinishedWorkspace

NAME = "bp-lcz-demo"
ADDRESS = f"models:/{NAME}@challenger"


@pytest.fixture
def registered(workspace: FinishedWorkspace) -> FinishedWorkspace:
    workspace.finish("one-bp-lcz", weights_seed=2, right=0.9)
    register_best(workspace.folder, workspace.params, mirror_trials(workspace.folder, workspace.params))
    return workspace


def checkpoint(workspace: FinishedWorkspace) -> Path:
    return workspace.folder / "outputs/models/one-bp-lcz"


def test_an_alias_becomes_the_version_that_it_means_now(registered: FinishedWorkspace, tmp_path: Path) -> None:
    start = bring_start(registered.folder, ADDRESS, tmp_path / "start")
    assert start.name == f"models:/{NAME}/1"
    assert start.sha256 == load_classifier(tmp_path / "start").description.weights_sha256
    assert start.sha256 == load_classifier(checkpoint(registered)).description.weights_sha256


def test_a_folder_is_copied_and_gives_its_name(registered: FinishedWorkspace, tmp_path: Path) -> None:
    start = bring_start(registered.folder, str(checkpoint(registered)), tmp_path / "start")
    assert start.name == "one-bp-lcz"
    assert start.sha256 == load_classifier(tmp_path / "start").description.weights_sha256
    assert {file.name for file in (tmp_path / "start").iterdir()} == {"model.json", "model.safetensors"}


def test_a_start_that_is_gone_from_the_registry_is_one_line(registered: FinishedWorkspace, tmp_path: Path) -> None:
    with open_store(registered.folder) as client:
        client.delete_registered_model_alias(NAME, "challenger")
    with refuses(ADDRESS, f"`bp-lcz models {NAME}`"):
        bring_start(registered.folder, ADDRESS, tmp_path / "start")
    shutil.rmtree(registered.folder / "mlartifacts")
    with refuses(f"{NAME} version 1", "model.json"):
        bring_start(registered.folder, f"models:/{NAME}/1", tmp_path / "start")


def test_a_damaged_start_is_one_line(registered: FinishedWorkspace, tmp_path: Path) -> None:
    weights = checkpoint(registered) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with refuses(weights, "sha256"):
        bring_start(registered.folder, str(weights.parent), tmp_path / "start")


def test_what_is_no_model_is_refused_with_what_could_be(registered: FinishedWorkspace, tmp_path: Path) -> None:
    with refuses("nowhere", "models:/<name>@<alias>", "sen2lcz-mf"):
        bring_start(registered.folder, "nowhere", tmp_path / "start")
