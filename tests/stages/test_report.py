import json
from pathlib import Path

import pytest
import yaml

from bp_lcz.params import load_params
from bp_lcz.stages import report
from tests.refusals import refuses
from tests.scoring.results import TRIALS, write_params, write_results

CONTENT = ["outputs", "paper.yaml", "params.yaml", "references.yaml", "reports"]
PLAIN = {"eb_cnn-plain": TRIALS["eb_cnn-plain"]}


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def plain_trial(workspace):
    """Results of a single trial, and the parameters that name it."""
    write_params(workspace, PLAIN)
    write_results(workspace, PLAIN, patches=120)
    return load_params()


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_the_stage_writes_the_report_and_prints_a_short_table(workspace, capsys):
    trials = {name: TRIALS[name] for name in ("eb_cnn-plain", "eb_cnn-bgp")}
    write_params(workspace, trials)
    write_results(workspace, trials, patches=200)
    report.run(load_params())
    assert Path("reports/index.html").stat().st_size > 10_000
    assert Path("reports/figures/overview.png").is_file()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["trial", "OA", "kappa"]
    assert [line.split()[0] for line in lines[1:3]] == list(trials)
    assert lines[1].count("[") == 2  # an interval each
    assert lines[4] == "No trials of bp-lcz stand beside its parts here: nothing tells whether the method beats them."
    assert lines[-1] == "demo (simulated data), testing split: reports/index.html"


def test_intervals_by_patch_are_marked_in_the_short_table(workspace, capsys, monkeypatch):
    monkeypatch.setattr("bp_lcz.report.page._plan", lambda *_: [])  # no figures
    write_params(workspace, PLAIN)
    write_results(workspace, PLAIN, patches=120, unit="patch")
    report.run(load_params())
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].count("]†") == 2
    assert lines[2] == "† by patch: the true intervals are wider"
    assert "one seed decides nothing" in lines[3]


def test_the_report_replaces_an_older_one_as_a_whole(workspace, plain_trial):
    Path("reports/figures").mkdir(parents=True)
    Path("reports/figures/old.png").write_bytes(b"old")
    report.run(plain_trial)
    assert not Path("reports/figures/old.png").exists()
    assert sorted(path.name for path in workspace.iterdir()) == CONTENT


def test_a_failure_leaves_the_older_report_and_nothing_half_written(workspace, plain_trial, monkeypatch):
    Path("reports").mkdir()
    Path("reports/index.html").write_text("old")

    def fail(out, *_, **__):
        (out / "index.html").write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(report, "write_report", fail)
    with pytest.raises(OSError, match="full"):
        report.run(plain_trial)
    assert files(workspace / "reports") == ["index.html"]
    assert Path("reports/index.html").read_text() == "old"
    assert sorted(path.name for path in workspace.iterdir()) == CONTENT


@pytest.mark.parametrize(("folder", "stage"), [("outputs/models", "train"), ("outputs/evaluations", "evaluate")])
def test_a_missing_trial_is_named_with_what_to_run(workspace, folder, stage):
    write_params(workspace, TRIALS)
    write_results(workspace, TRIALS, patches=50)
    for path in Path(folder, "eb_cnn-bgp").iterdir():
        path.unlink()
    with refuses(f"{folder}/eb_cnn-bgp", f"`dvc repro {stage}@eb_cnn-bgp`"):
        report.run(load_params())
    assert not Path("reports").exists()


def test_left_over_trials_are_named_with_the_one_command_that_removes_them(plain_trial):
    left_over = "outputs/evaluations/old_a outputs/models/old_a outputs/models/old_b"
    for folder in left_over.split():
        Path(folder).mkdir()
        Path(folder, "model.json").write_text("{}")
    with refuses(left_over, f"`rm -r {left_over}`"):
        report.run(plain_trial)
    assert not Path("reports").exists()


def test_what_dvc_and_unfinished_stages_leave_behind_is_no_trial(plain_trial):
    Path("outputs/models/gone").mkdir()
    Path("outputs/models/gone/.gitignore").write_text("/model.json\n")
    Path("outputs/evaluations/.gitignore").write_text("/eb_cnn-plain\n")
    Path("outputs/evaluations/.eb_cnn-plain-x1").mkdir()
    Path("outputs/evaluations/.eb_cnn-plain-x1/new").mkdir()
    report.run(plain_trial)
    assert Path("reports/index.html").is_file()


def test_patches_that_the_gate_did_not_draw_are_named_with_what_to_run(plain_trial):
    Path("outputs/gate/figures/patches.png").unlink()
    with refuses("outputs/gate/figures/patches.png", "`dvc repro validate`"):
        report.run(plain_trial)
    assert not Path("reports").exists()


def test_nothing_evaluated_at_all_is_one_clear_line(workspace):
    write_params(workspace, PLAIN)
    with refuses("outputs/models/eb_cnn-plain", "`dvc repro train@eb_cnn-plain`"):
        report.run(load_params())


@pytest.mark.parametrize(
    ("key", "value"), [("seed", 7), ("variant", "bgp"), ("backbone", "exvit"), ("dataset", "other")]
)
def test_results_of_another_trial_or_data_set_are_refused(plain_trial, key, value):
    path = Path("outputs/evaluations/eb_cnn-plain/evaluation.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with refuses(path, key, repr(value), "`dvc repro`"):
        report.run(plain_trial)
    assert not Path("reports").exists()


@pytest.mark.parametrize(
    ("section", "key", "value", "found", "expected"),
    [
        ("model", "alpha", 0.25, "model.alpha 0.1", 0.25),
        ("train", "epochs", 40, "train.epochs 12", 40),
        ("backbones", "eb_cnn", {"widths": [8]}, "backbone.widths None", [8]),
    ],
)
def test_parameters_changed_after_training_are_not_reported_as_if_they_had_been_used(
    workspace, plain_trial, section, key, value, found, expected
):
    params = yaml.safe_load(Path("params.yaml").read_text())
    params[section][key] = value
    Path("params.yaml").write_text(yaml.safe_dump(params))
    with refuses("outputs/models/eb_cnn-plain/model.json", found, expected, "`dvc repro`"):
        report.run(load_params())
    assert not Path("reports").exists()


@pytest.mark.parametrize("record", ["outputs/gate/summary.json", "outputs/packed/manifest.json"])
def test_a_missing_record_is_named(plain_trial, record):
    Path(record).unlink()
    with refuses(record, "not found", "`dvc repro`"):
        report.run(plain_trial)


def test_a_claim_that_points_nowhere_stops_the_report(plain_trial):
    text = Path("paper.yaml").read_text().replace("variant: msm", "variant: unknown")
    Path("paper.yaml").write_text(text)
    with refuses("paper.yaml", "variant", "'plain'"):
        report.run(plain_trial)
    assert not Path("reports").exists()


@pytest.mark.parametrize(
    ("profile", "root", "command"),
    [
        (None, "data/demo", "make reproduce"),
        (None, "data/so2sat", "make reproduce DATASET=data/so2sat"),
        (None, "/home/someone/my patches", "make reproduce DATASET='/path/to/my patches'"),
        ("tables", "data/demo", "make tables"),
        ("paper", "data/so2sat", "make paper"),
        (
            "smoke",
            "data/demo",
            "bp-lcz workspace smoke --profile smoke && python -m flows.train_bp_lcz --workspace .workspaces/smoke",
        ),
        (
            "tables",
            "/data/mine",
            "bp-lcz workspace tables --profile tables --dataset /path/to/mine && "
            "python -m flows.train_bp_lcz --workspace .workspaces/tables",
        ),
    ],
)
def test_the_command_that_rebuilds_names_profile_and_data_but_no_machine(profile, root, command):
    assert report.rebuild_command(profile, root) == command
