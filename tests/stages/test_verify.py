"""Stage ``verify``: what it prints, writes and how it ends."""

import json
from pathlib import Path

import pytest
import yaml

from bp_lcz.params import load_params
from bp_lcz.paths import CLAIMS as CLAIMS_FILE
from bp_lcz.records import Claims
from bp_lcz.stages import verify
from tests.refusals import refuses
from tests.report.test_claims import COMPARISON, OFFICIAL, SKILL, TRIALS, swapped
from tests.scoring.results import write_params, write_results
from tests.test_cli import bp_lcz


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prepare(workspace, claims, **options):
    write_params(workspace, TRIALS)
    write_results(workspace, TRIALS, patches=200, skill=SKILL, groups=("RGB",), **options)
    Path("paper.yaml").write_text(yaml.safe_dump({"title": "t", "doi": "d", "claims": claims}, sort_keys=False))


CLAIMS = {"good": COMPARISON, "bad": swapped(COMPARISON)}


def test_a_comparable_claim_that_fails_ends_with_status_1_after_table_and_file(workspace):
    prepare(workspace, CLAIMS, **OFFICIAL)
    done = bp_lcz("verify", folder=workspace)
    assert done.returncode == 1
    assert done.stderr == "error: paper.yaml: 1 of 2 claims fail on comparable data: bad\n"
    told = done.stdout.splitlines()
    assert "2 claims: 1 holds, 1 fails" in told[1]
    assert [line.partition(", ")[0] for line in told if "better" in line] == ["  fails: better"]
    assert f" {CLAIMS_FILE} and " in told[-1]
    verdicts = [(claim.name, claim.verdict) for claim in Claims.read(CLAIMS_FILE).claims]
    assert verdicts == [("good", "holds"), ("bad", "fails")]


def test_the_same_claim_on_simulated_data_is_not_comparable_and_ends_with_status_0(workspace):
    prepare(workspace, CLAIMS)
    done = bp_lcz("verify", folder=workspace)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told = done.stdout.splitlines()
    assert "2 claims: 2 not comparable" in told[1]
    assert "2 that have their trials here: 1 holds, 1 fails" in told[2]
    assert [line.partition(", ")[0] for line in told if "better" in line] == ["  direction fails: better"]


def test_as_json_the_claims_are_those_of_the_file(workspace, capsys):
    prepare(workspace, {"good": COMPARISON}, **OFFICIAL)
    verify.run(load_params(), as_json=True)
    assert json.loads(capsys.readouterr().out) == json.loads(CLAIMS_FILE.read_text())


def test_comparable_claims_that_hold_pass(workspace, capsys):
    prepare(workspace, {"good": COMPARISON}, **OFFICIAL)
    verify.run(load_params())
    assert "; comparable with the paper" in capsys.readouterr().out


def test_a_missing_trial_is_named(workspace):
    prepare(workspace, CLAIMS)
    for path in Path("outputs/evaluations/eb_cnn-bgp-s2").iterdir():
        path.unlink()
    with refuses("outputs/evaluations/eb_cnn-bgp-s2", "`dvc repro evaluate@eb_cnn-bgp-s2`"):
        verify.run(load_params())
    assert not Path("outputs/claims.json").exists()


def test_a_missing_seed_is_named(workspace):
    trials = {name: trial for name, trial in TRIALS.items() if name != "eb_cnn-bgp-s2"}
    write_params(workspace, trials)
    write_results(workspace, trials, patches=100)
    Path("paper.yaml").write_text(yaml.safe_dump({"title": "t", "doi": "d", "claims": CLAIMS}, sort_keys=False))
    with refuses("params.yaml", "eb_cnn-bgp", "seed 2"):
        verify.run(load_params())
