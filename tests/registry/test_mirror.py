import json
from pathlib import Path

from bp_lcz.registry.connection import open_experiment, open_store
from bp_lcz.registry.mirror import mirror_trials
from tests.refusals import refuses
from tests.registry.conftest import DATA_MD5, FinishedWorkspace


def count_runs(workspace: FinishedWorkspace) -> int:
    with open_store(workspace.folder) as client:
        return len(client.search_runs([open_experiment(client, "bp-lcz-demo", workspace.folder)]))


def test_each_trial_becomes_one_run_that_can_be_traced(workspace: FinishedWorkspace) -> None:
    figure = workspace.folder / "reports/figures/confusion-one-bp-lcz.png"
    figure.parent.mkdir(parents=True)
    figure.write_bytes(b"png")
    runs = mirror_trials(workspace.folder, workspace.params)
    assert list(runs) == ["one-plain", "one-bp-lcz"]
    with open_store(workspace.folder) as client:
        run = client.get_run(runs["one-bp-lcz"])
        history = client.get_metric_history(run.info.run_id, "validation_kappa")
        files = {Path(file.path).name for file in client.list_artifacts(run.info.run_id)}
    assert run.info.run_name == "one-bp-lcz"
    assert run.info.status == "FINISHED"
    assert {
        "trial": "one-bp-lcz",
        "kind": "simulated",
        "leakage": "none",
        "dataset": "demo",
        "data_md5": DATA_MD5,
        "git_commit": workspace.commit,
        "git_dirty": "false",
    }.items() <= run.data.tags.items()
    note = run.data.tags["mlflow.note.content"]
    assert all(
        fact in note
        for fact in ("variant bp-lcz", "demo", "simulated data", f"{run.data.metrics['testing_oa']:.3f}"[1:])
    )
    assert run.data.params["train.learning_rate"] == "0.002"
    assert run.data.params["variant"] == "bp-lcz"
    written = json.loads((workspace.folder / "outputs/evaluations/one-bp-lcz/evaluation.json").read_text())
    assert run.data.metrics["testing_oa"] == written["oa"] > 0.5
    assert run.data.metrics["testing_oa_low"] == written["intervals"]["oa"][0] < written["oa"]
    assert run.data.metrics["timing_seconds"] == 3.5
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.25), (2, 0.5)]
    assert files == {"evaluation.json", "predictions.npz", "model.json", "history.csv", "figures"}
    assert run.info.end_time - run.info.start_time == 3500, "the time of the training, not of the mirror"
    assert run.inputs.dataset_inputs[0].dataset.digest == DATA_MD5


def test_an_undefined_metric_is_left_out(workspace: FinishedWorkspace) -> None:
    file = workspace.folder / "outputs/evaluations/one-plain/evaluation.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "oa_natural": None}))
    runs = mirror_trials(workspace.folder, workspace.params)
    with open_store(workspace.folder) as client:
        metrics = client.get_run(runs["one-plain"]).data.metrics
    assert "testing_oa_natural" not in metrics
    assert "training_alignment" not in metrics


def test_a_second_mirror_makes_no_run(workspace: FinishedWorkspace) -> None:
    first = mirror_trials(workspace.folder, workspace.params)
    assert mirror_trials(workspace.folder, workspace.params) == first
    assert count_runs(workspace) == 2


def test_a_retrained_trial_makes_a_run_of_its_own(workspace: FinishedWorkspace) -> None:
    before = mirror_trials(workspace.folder, workspace.params)
    workspace.finish("one-plain", weights_seed=3)
    after = mirror_trials(workspace.folder, workspace.params)
    assert after["one-plain"] != before["one-plain"]
    assert after["one-bp-lcz"] == before["one-bp-lcz"]


def test_a_run_that_a_killed_mirror_left_is_made_again(workspace: FinishedWorkspace) -> None:
    before = mirror_trials(workspace.folder, workspace.params)
    with open_store(workspace.folder) as client:
        client.update_run(before["one-plain"], status="RUNNING")
    after = mirror_trials(workspace.folder, workspace.params)
    assert after["one-plain"] != before["one-plain"]
    assert count_runs(workspace) == 2


def test_code_that_differs_from_the_commit_is_marked(workspace: FinishedWorkspace) -> None:
    (workspace.folder / "src").mkdir()
    (workspace.folder / "src/new.py").write_text("x = 1\n")
    runs = mirror_trials(workspace.folder, workspace.params)
    with open_store(workspace.folder) as client:
        assert client.get_run(runs["one-plain"]).data.tags["git_dirty"] == "true"


def test_artifacts_lie_beside_the_store(workspace: FinishedWorkspace) -> None:
    mirror_trials(workspace.folder, workspace.params)
    found = list((workspace.folder / "mlartifacts/bp-lcz-demo").rglob("evaluation.json"))
    assert len(found) == 2
    assert json.loads(found[0].read_text())["best_epoch"] == 2


def test_a_trial_without_a_record_is_an_error(workspace: FinishedWorkspace) -> None:
    del workspace.lock["evaluate@one-plain"]
    workspace.finish("one-bp-lcz")
    with refuses("dvc.lock", "evaluate@one-plain"):
        mirror_trials(workspace.folder, workspace.params)


def test_a_trial_without_files_is_an_error(workspace: FinishedWorkspace) -> None:
    evaluation = workspace.folder / "outputs/evaluations/one-plain/evaluation.json"
    evaluation.unlink()
    with refuses(evaluation, "not found"):
        mirror_trials(workspace.folder, workspace.params)
    assert count_runs(workspace) == 0
