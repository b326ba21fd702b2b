"""Tables of a matrix that has not ended."""

import json
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bp_lcz.cli import app
from bp_lcz.params import load_params
from bp_lcz.report.left_out import left_out_table
from bp_lcz.report.so_far import SoFar, so_far
from bp_lcz.report.tables import Table, ablation_table, comparison_table, differences_of, mean_text
from bp_lcz.scoring.results import Group, group_seeds, read_matrix
from tests.refusals import refuses
from tests.scoring.results import write_params, write_results
from tests.scoring.test_left_out import without

ROWS = {
    "eb_cnn-plain": {"variant": "plain"},
    "eb_cnn-encoder": {"variant": "encoder"},
    "eb_cnn-bgp": {"variant": "bgp"},
    "eb_cnn-bp-lcz": {"variant": "bp-lcz"},
    "eb_cnn-bgp-random": {"variant": "bgp", "overrides": {"prompts": {"source": "random"}}},
    "eb_cnn-weight2": {"variant": "bp-lcz", "overrides": {"model": {"alignment_weight": 2.0}}},
}
TRIALS = {
    f"{name}-s{seed}": {"backbone": "eb_cnn", "seed": seed, **row} for name, row in ROWS.items() for seed in (1, 2)
}


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, TRIALS)
    write_results(tmp_path, TRIALS, patches=200, groups=("RGB",))
    return tmp_path


def remove(*trials: str) -> None:
    for trial in trials:
        shutil.rmtree(Path("outputs/evaluations") / trial)


def groups() -> dict[str, Group]:
    return {group.label: group for group in group_seeds(read_matrix(load_params()).results)}


def cells(table: Table | None, *columns: str) -> list[list[tuple[str, str]]]:
    assert table is not None
    places = [table.header.index(name) for name in columns]
    return [[tuple(row[place]) for place in places] for row in table.rows]


def test_what_lacks_a_seed_is_not_run_and_all_else_is_as_with_every_trial() -> None:
    whole = groups()
    remove("eb_cnn-bgp-random-s2", "eb_cnn-encoder-s1", "eb_cnn-encoder-s2")
    found = so_far(load_params())
    assert (found.done, found.trials) == (9, 12)
    means, leads, factors = found.tables
    assert means.not_run == ["eb_cnn-encoder (0 of 2 seeds)", "eb_cnn-bgp-random (1 of 2 seeds)"]
    assert [(row[0].text, row[1].text) for row in means.table.rows] == [
        (name, mean_text(whole[name], "oa"))
        for name in ("eb_cnn-plain", "eb_cnn-bgp", "eb_cnn-bp-lcz", "eb_cnn-weight2")
    ]
    for name, *differences, other in leads.table.rows:
        assert differences == differences_of(whole[name.text], whole[other.text])
    assert ("eb_cnn-bp-lcz", "eb_cnn-bgp") in {(row[0].text, row[-1].text) for row in leads.table.rows}
    assert {"eb_cnn-bgp against eb_cnn-encoder", "eb_cnn-bgp against eb_cnn-bgp-random"} <= set(leads.not_run)
    assert factors.not_run == ["eb_cnn: parts encoder", "eb_cnn bgp: source random"]
    assert "eb_cnn bgp: source" not in {row[0].text for row in factors.table.rows}, "the default has nothing beside it"


def test_where_the_default_has_not_run_no_setting_is_set_against_it() -> None:
    remove("eb_cnn-bp-lcz-s1")
    factors = so_far(load_params()).tables[2]
    assert "eb_cnn bp-lcz: alignment_weight 2" in factors.not_run
    assert {row[0].text for row in factors.table.rows} == {"eb_cnn bgp: source"}


def test_of_a_matrix_that_has_ended_differences_and_factors_are_those_of_the_report() -> None:
    found, matrix = so_far(load_params()), read_matrix(load_params())
    shown = list(groups().values())
    _, leads, factors = (part.table for part in found.tables)
    columns = "trials", "OA difference", "kappa difference", "against"
    compared = cells(comparison_table(matrix.summary, shown), *columns)
    assert cells(leads, *columns)[: len(compared)] == compared
    assert cells(factors, *factors.header) == cells(ablation_table(matrix.summary, shown), *factors.header)
    assert not any(part.not_run for part in found.tables)
    assert "not finished" not in str(found)
    assert "Not run" not in str(found)


def test_the_command_prints_markdown_that_names_what_has_not_run_or_json() -> None:
    remove("eb_cnn-weight2-s1")
    lines = CliRunner().invoke(app, ["so-far"], catch_exceptions=False).stdout.splitlines()
    assert lines[0].startswith("11 of 12 trials have run. This matrix is not finished")
    assert "Not run (1): eb_cnn-weight2 (1 of 2 seeds)." in lines
    assert any(line.startswith("| eb_cnn-plain | ") for line in lines)
    found = json.loads(CliRunner().invoke(app, ["so-far", "--json"], catch_exceptions=False).stdout)
    assert set(found) == {field.name for field in fields(SoFar)}


def test_classes_left_out_of_the_training_are_shown_once_all_their_trials_have_run(workspace: Path) -> None:
    trials = {**without("2"), **without("B"), **without("2", "random"), **without("B", "random")}
    shutil.rmtree(workspace / "outputs")
    write_params(workspace, trials)
    write_results(workspace, trials, patches=800, groups=("RGB",))
    table = so_far(load_params()).tables[-1].table
    assert table == left_out_table(read_matrix(load_params()).summary, list(groups().values()))
    remove("B-random-s3")
    assert len(so_far(load_params()).tables) == 3


def test_without_a_whole_setting_there_is_no_table() -> None:
    remove(*(name for name in TRIALS if name.endswith("s2")))
    with refuses("outputs/evaluations"):
        so_far(load_params())


def test_a_result_of_other_parameters_is_no_result_of_this_matrix() -> None:
    remove("eb_cnn-weight2-s1")
    write_params(Path(), {**TRIALS, "eb_cnn-plain-s1": {**TRIALS["eb_cnn-plain-s1"], "seed": 3}})
    with refuses("outputs/evaluations/eb_cnn-plain-s1/evaluation.json", "seed", 3):
        so_far(load_params())
