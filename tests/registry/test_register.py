import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from bp_lcz.model.checkpoint import load_classifier
from bp_lcz.registry.connection import open_store, tracking_uri
from bp_lcz.registry.mirror import mirror_trials
from bp_lcz.registry.package import example_patches
from bp_lcz.registry.register import Registration, rank_trials, register_best
from tests.registry.conftest import DATA_MD5, FinishedWorkspace


def register(workspace: FinishedWorkspace) -> Registration:
    registration = register_best(workspace.folder, workspace.params, mirror_trials(workspace.folder, workspace.params))
    assert registration is not None
    return registration


def test_the_registered_model_gives_the_probabilities_of_the_checkpoint_in_a_fresh_process(
    workspace: FinishedWorkspace, tmp_path: Path
) -> None:
    registration = register(workspace)
    example = example_patches(workspace.folder / "data/demo", count=4)
    np.savez(tmp_path / "patches.npz", **example)
    program = f"""
import sys
import mlflow, numpy as np
mlflow.set_tracking_uri({tracking_uri(workspace.folder)!r})
model = mlflow.pyfunc.load_model("models:/{registration.name}@{registration.alias}")
np.save({str(tmp_path / "served.npy")!r}, model.predict(dict(np.load({str(tmp_path / "patches.npz")!r}))))
import bp_lcz
print(bp_lcz.__file__, *sorted({{"lightning", "prefect", "dvc", "transformers"}} & set(sys.modules)))
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout.split()
    classifier = load_classifier(workspace.folder / "outputs/models/one-bp-lcz")
    np.testing.assert_array_equal(np.load(tmp_path / "served.npy"), classifier.predict_proba(**example))
    assert len(printed) == 1, "serving needs none of the training stack"
    assert "mlartifacts" in printed[0], "the model brings its own code"


def test_a_version_says_what_it_came_from(workspace: FinishedWorkspace) -> None:
    registration = register(workspace)
    assert registration == Registration(
        "bp-lcz-demo", "1", "challenger", "one-bp-lcz", "kappa .600; the best trial, one-plain, has .700"
    )
    with open_store(workspace.folder) as client:
        version = client.get_model_version_by_alias("bp-lcz-demo", "challenger")
        note = client.get_registered_model("bp-lcz-demo").description
        run = client.get_run(version.run_id).info
    assert (run.status, run.end_time - run.start_time) == ("FINISHED", 3500), "registering is no part of the training"
    assert str(version.version) == "1"
    assert {
        "trial": "one-bp-lcz",
        "data_md5": DATA_MD5,
        "git_commit": workspace.commit,
        "dataset": "demo",
        "kind": "simulated",
        "leakage": "none",
        "validation_kappa": "0.6",
    }.items() <= version.tags.items()
    assert "VH_real" in version.tags["channels"]
    assert "simulated" in note


def test_the_package_holds_no_pickle_and_names_its_requirements(workspace: FinishedWorkspace) -> None:
    register(workspace)
    artifacts = (workspace.folder / "mlartifacts").rglob("*")
    files = [file for file in artifacts if file.is_file() and file.parent.name != "__pycache__"]
    names = {file.name for file in files}
    assert names >= {"MLmodel", "served.py", "model.safetensors", "input_example.json"}
    assert not [file for file in files if file.suffix in (".pkl", ".pickle", ".pt", ".pth", ".pyc")]
    requirements = next(file for file in files if file.name == "requirements.txt").read_text().splitlines()
    assert {line.split("==")[0] for line in requirements} >= {"torch", "mlflow", "safetensors", "numpy"}
    assert all("==" in line and "+" not in line for line in requirements)


def test_a_wrong_shape_and_another_type_are_refused(workspace: FinishedWorkspace) -> None:
    import mlflow

    register(workspace)
    example = example_patches(workspace.folder / "data/demo")
    with open_store(workspace.folder):
        model = mlflow.pyfunc.load_model("models:/bp-lcz-demo/1")
    with pytest.raises(mlflow.MlflowException, match="shape"):
        model.predict(example | {"sen1": example["sen1"][..., :7]})
    with pytest.raises(mlflow.MlflowException, match="float64"):
        model.predict(example | {"sen1": example["sen1"].astype(np.float32)})


def test_registering_again_makes_no_version(workspace: FinishedWorkspace) -> None:
    assert register(workspace) == register(workspace)
    with open_store(workspace.folder) as client:
        assert len(client.search_model_versions("name = 'bp-lcz-demo'")) == 1


def test_a_better_trial_becomes_the_challenger_and_the_alias_goes_back_to_an_older_best(
    workspace: FinishedWorkspace,
) -> None:
    first = register(workspace)
    workspace.use_trials({"one-plain": "plain", "one-bp-lcz": "bp-lcz", "two-bp-lcz": "bp-lcz"})
    workspace.finish("two-bp-lcz", kappa=0.8, weights_seed=3)
    second = register(workspace)
    assert (second.trial, second.version) == ("two-bp-lcz", "2")

    workspace.use_trials({"one-plain": "plain", "one-bp-lcz": "bp-lcz"})
    assert register(workspace) == first
    with open_store(workspace.folder) as client:
        assert client.get_model_version_by_alias("bp-lcz-demo", "challenger").version == 1


def test_a_version_whose_files_are_gone_is_registered_anew(workspace: FinishedWorkspace) -> None:
    register(workspace)
    next((workspace.folder / "mlartifacts").rglob("MLmodel")).unlink()
    assert register(workspace).version == "2"
    assert register(workspace).version == "2"


def test_the_best_trial_is_registered_whatever_its_variant_and_the_best_of_the_method_is_named(
    workspace: FinishedWorkspace,
) -> None:
    workspace.use_trials({"one-plain": "plain", "one-bp-lcz": "bp-lcz"}, register="best")
    registration = register(workspace)
    assert (registration.trial, registration.choice) == (
        "one-plain",
        "kappa .700; the best bp-lcz trial, one-bp-lcz, has .600",
    )


def test_the_best_of_the_method_and_of_all_by_name_where_equal(workspace: FinishedWorkspace) -> None:
    ranking = rank_trials(workspace.folder, workspace.params)
    assert (ranking.best, ranking.method) == ("one-plain", "one-bp-lcz")
    workspace.use_trials({"z-bp-lcz": "bp-lcz", "a-bp-lcz": "bp-lcz", "undefined": "bp-lcz"})
    workspace.finish("z-bp-lcz", kappa=0.6)
    workspace.finish("a-bp-lcz", kappa=0.6)
    workspace.finish("undefined", kappa=None)
    ranking = rank_trials(workspace.folder, workspace.params)
    assert (ranking.best, ranking.method, ranking.text("a-bp-lcz")) == (
        *("a-bp-lcz", "a-bp-lcz"),
        "kappa .600, best of all trials",
    )


def test_a_control_with_other_vectors_is_never_registered(workspace: FinishedWorkspace) -> None:
    file = workspace.folder / "params.yaml"
    content = yaml.safe_load(file.read_text())
    content["prompts"]["source"] = "random"
    file.write_text(yaml.safe_dump(content))
    ranking = rank_trials(workspace.folder, workspace.params)
    assert (ranking.best, ranking.method) == ("one-plain", None)


def test_a_trial_that_never_saw_a_class_is_never_registered(workspace: FinishedWorkspace) -> None:
    file = workspace.folder / "params.yaml"
    content = yaml.safe_load(file.read_text())
    content["trials"]["one-plain"]["overrides"] = {"train": {"leave_out": ["2"]}}
    file.write_text(yaml.safe_dump(content))
    assert "one-plain" not in rank_trials(workspace.folder, workspace.params).kappas


def test_without_a_bp_lcz_trial_nothing_is_registered(workspace: FinishedWorkspace) -> None:
    workspace.use_trials({"one-plain": "plain"})
    assert register_best(workspace.folder, workspace.params, {}) is None
