"""The A/A test on tables whose effects are known."""

import numpy as np
import pytest
from typer.testing import CliRunner

from bp_lcz.cli import app
from bp_lcz.params import load_params
from bp_lcz.report.aa import Effects, SeedTable, aa_text, find_rates, power_figure, read_table, write_table
from tests.conftest import ROOT
from tests.refusals import refuses
from tests.report.test_page import read
from tests.scoring.results import write_results

HEAD = "seed,city,correct,total\n"
ENOUGH = HEAD + "".join(f"{seed},{city},{40 + seed},60\n" for seed in range(1, 7) for city in "ab")


def rates(text):
    """Rows of the two tables of an answer: by data, seeds a side and column; by lead, seeds a side and column."""
    false, power = text.split("\n\n")[1:]
    tables = []
    for part in (false, power):
        head, *rows = [[entry.strip() for entry in line.split(" | ")] for line in part.splitlines()[1:]]
        tables.append({(row[0], int(row[1])): dict(zip(head[2:], row[2:], strict=True)) for row in rows})
    return tables


@pytest.fixture(scope="module")
def committed():
    return rates(aa_text(find_rates(read_table(ROOT / "docs/seeds.csv"), 1000, 1)))


def test_of_the_committed_seeds_false_verdicts_are_about_as_frequent_as_promised(committed):
    found = {key: float(row["in use"]) for key, row in committed[0].items() if row["in use"] != "-"}
    assert {count for _, count in found} == {3, 5, 8}
    assert {key: rate for key, rate in found.items() if not 0.02 <= rate <= 0.07} == {}


def test_cities_alone_find_differences_that_are_none(committed):
    """What the intervals were before; the test can tell a method that fails."""
    assert all(float(committed[0]["simulated", count]["cities alone"]) > 0.1 for count in (3, 5, 8))


def test_larger_leads_and_more_seeds_are_seen_more_often(committed):
    power = {key: float(row["same"]) for key, row in committed[1].items()}
    assert power[".01", 3] < power[".01", 8] < power[".03", 8]
    assert power[".02", 3] < power[".02", 5] < power[".02", 8]


def test_effects_are_those_that_a_table_was_drawn_with():
    true = Effects(mean=0.7, seed=0.02, city=0.06, rest=0.03, cities=200, patches=1000)
    values = true.draw(1, 60, 0.0, 0.0, np.random.default_rng(3))[0, 0]
    found = Effects.of(SeedTable(np.round(values * 1000).astype(np.int64), np.full(200, 1000)))
    for name in ("mean", "seed", "city", "rest"):
        assert getattr(found, name) == pytest.approx(getattr(true, name), rel=0.25)


def test_a_table_is_read_as_it_was_written_and_gives_equal_answers(tmp_path):
    table = read_table(ROOT / "docs/seeds.csv")
    write_table(table, tmp_path / "t.csv", ["from here"])
    again = read_table(tmp_path / "t.csv")
    assert np.array_equal(again.correct, table.correct)
    assert find_rates(again, 100, 2) == find_rates(table, 100, 2) != find_rates(table, 100, 3)
    assert power_figure(again, 100, 2) == power_figure(table, 100, 2)


def test_the_command_takes_the_trials_of_a_run(tmp_path, monkeypatch):
    from bp_lcz.report import aa

    trials = {f"p-s{seed}": {"backbone": "eb_cnn", "variant": "plain", "seed": seed} for seed in range(1, 7)}
    write_results(tmp_path, trials, patches=120)
    matrix = read(tmp_path, trials)
    monkeypatch.setattr(aa, "read_matrix", lambda _: matrix)
    monkeypatch.chdir(ROOT)
    saved = tmp_path / "seeds.csv"
    result = CliRunner().invoke(app, ["aa", "--trials", "p", "--save", str(saved), "--draws", "100"])
    assert result.exit_code == 0, result.output
    right = [(r.predictions["y_pred"] == r.predictions["y_true"]).sum() for r in matrix.results]
    assert read_table(saved).correct.sum(axis=1).tolist() == right
    assert saved.read_text().startswith("# p, seeds 1, 2, 3, 4, 5, 6")
    with refuses("q", "p"):
        aa.run_table(load_params(), "q")


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (HEAD, "0 seeds"),
        (HEAD + "1,a,40,60\n1,b,41,60\n", "one seed"),
        (ENOUGH.replace(",a,", ",b,"), "one city"),
        (ENOUGH + "7,a,50,60\n", "every city"),
        (ENOUGH.replace("6,b,46,60", "6,b,46,61"), "0..total"),
        (ENOUGH.replace("6,b,46,60", "6,b,66,60"), "0..total"),
        (ENOUGH.replace("6,b,46,60", "6,b,many,60"), "whole numbers"),
        (ENOUGH.replace("6,b,46,60", "6,b"), "whole numbers"),
        (ENOUGH.replace("correct", "right"), "right"),
    ],
)
def test_an_unusable_table_is_one_line(tmp_path, content, fact):
    (tmp_path / "t.csv").write_text(content)
    with refuses(tmp_path / "t.csv", fact):
        read_table(tmp_path / "t.csv")


def test_a_table_that_is_not_there_and_options_that_do_not_go_together(tmp_path):
    with refuses(tmp_path / "none.csv", "--save"):
        read_table(tmp_path / "none.csv")
    result = CliRunner().invoke(app, ["aa", "--save", str(tmp_path / "t.csv")])
    assert result.exception.where == "--save"
