"""Published levels, and where trials stand among them."""

import pytest
import yaml

from bp_lcz.report.claims import data_text
from bp_lcz.report.references import MARGIN, References, load_references, references_table, why_not
from bp_lcz.scoring.results import group_seeds
from tests.refusals import refuses
from tests.report.test_claims import OFFICIAL
from tests.report.test_page import make_report, read, text_of, without_figures  # noqa: F401
from tests.scoring.results import ROOT, write_results

LEVEL = {"protocol": "v2 testing", "source": "a paper", "model": "CNN", "inputs": "S2", "runs": 1, "oa": 0.6}
COMMITTED = load_references(ROOT / "references.yaml")


def loaded(folder, **references):
    path = folder / "references.yaml"
    path.write_text(yaml.safe_dump({"references": references}, sort_keys=False))
    return load_references(path)


def without(key):
    return {name: value for name, value in LEVEL.items() if name != key}


@pytest.mark.parametrize(
    ("level", "key", "fact"),
    [
        (without("protocol"), "protocol", "required"),
        (without("source"), "source", "required"),
        ({**LEVEL, "source": ""}, "source", "at least 1"),
        ({**LEVEL, "protocol": "v9 testing"}, "protocol", "'v2 testing'"),
        ({**LEVEL, "oa": 69.4}, "oa", "1"),
        ({**LEVEL, "oa_deviation": 0.01}, "", "one run"),
        ({**LEVEL, "f1": 0.6}, "f1", "unknown key"),
    ],
)
def test_a_level_that_is_not_in_form_is_one_line_with_file_key_and_cause(tmp_path, level, key, fact):
    with refuses(tmp_path / "references.yaml", f"references.it.{key}".rstrip("."), fact):
        loaded(tmp_path, it=level)


def test_two_levels_of_one_name_are_refused(tmp_path):
    text = yaml.safe_dump({"references": {"CNN": LEVEL}})
    (tmp_path / "references.yaml").write_text(text + text.partition("\n")[2])
    with refuses(tmp_path / "references.yaml", "duplicate key CNN"):
        load_references(tmp_path / "references.yaml")


def test_the_committed_levels_are_those_of_the_protocols_that_runs_can_have():
    assert {each.protocol for each in COMMITTED.references.values()} >= {"v2 testing", "culture-10 joined"}
    assert COMMITTED.references["Sen2LCZ-MF"].oa == 0.69369
    largest = max(each.oa_deviation or 0 for each in COMMITTED.references.values())
    assert pytest.approx(2 * 2**0.5 * largest, abs=5e-4) == MARGIN


@pytest.mark.parametrize(
    ("oa", "of_radar", "expected"),
    [
        (0.50, False, "below"),
        (0.54, False, "within"),
        (0.69, False, "within"),
        (0.764, False, "within"),
        (0.78, False, "above"),
        (0.79, False, "suspiciously above (leak?)"),
        (0.33, True, "within"),
        (0.45, True, "above"),
        (0.58, True, "suspiciously above (leak?)"),
    ],
)
def test_a_trial_stands_among_the_levels_with_its_inputs(oa, of_radar, expected):
    assert COMMITTED.standing("v2 testing", oa, of_radar) == expected


def test_only_levels_of_the_same_protocol_count():
    assert COMMITTED.standing("culture-10 joined", 0.69, of_radar=False) == "above"
    assert COMMITTED.standing("culture-10 joined", 0.33, of_radar=True) == "no level with these inputs"


def test_where_no_level_tells_a_leak_nothing_is_called_one():
    alone = References.model_validate({"references": {"CNN": LEVEL}})
    assert alone.standing("v2 testing", 0.99, of_radar=False) == "above"


RESNET = {
    f"resnet-{fusion}": {
        "backbone": "resnet",
        "variant": "plain",
        "seed": 1,
        "overrides": {"backbone": {"fusion": fusion}},
    }
    for fusion in ("early", "sen1", "sen2")
}


def test_trials_stand_between_the_levels_by_their_accuracy_and_by_what_they_see(tmp_path):
    write_results(tmp_path, RESNET, patches=200, **OFFICIAL)
    summary, results = read(tmp_path, RESNET)
    table = references_table(summary, group_seeds(results), COMMITTED)
    rows = [[entry.text for entry in row] for row in table.rows]
    oa = [float(row[1].split()[0]) for row in rows]
    assert oa == sorted(oa, reverse=True)
    assert len(rows) == len(COMMITTED.of("v2 testing")) + 3
    assert {row[0]: row[4] for row in rows if row[-1] == "this run"} == {
        "resnet-early": "S1+S2",
        "resnet-sen1": "S1",
        "resnet-sen2": "S2",
    }
    for row in rows:
        expected = COMMITTED.standing("v2 testing", float(row[1].split()[0]), row[4] == "S1")
        assert row[6] == ("published" if row[-1] != "this run" else expected)


@pytest.mark.usefixtures("without_figures")
def test_culture_10_is_set_beside_levels_of_its_own_protocol_and_named_everywhere(tmp_path):
    out = make_report(tmp_path, patches=120, kind="So2Sat", release="so2sat-v3-culture-10")
    summary, results = read(tmp_path)
    table = references_table(summary, group_seeds(results), COMMITTED)
    assert {row[0].text for row in table.rows} >= set(COMMITTED.of("culture-10 joined"))
    text = text_of(out)
    assert "Sen2LCZ-MF" not in text
    assert "testing split of demo (So2Sat LCZ42, culture-10 joined)" in text
    assert data_text(summary).startswith("120 patches of the testing split of demo: So2Sat LCZ42, culture-10 joined;")


LEAKY = {"status": "overlap", "pairs": 1, "distance": 100.0}


@pytest.mark.parametrize("options", [{}, {"kind": "unstated"}, {**OFFICIAL, "leakage": LEAKY}])
@pytest.mark.usefixtures("without_figures")
def test_on_other_data_one_line_says_that_no_level_applies(tmp_path, options):
    out = make_report(tmp_path, patches=120, **options)
    summary, results = read(tmp_path)
    assert references_table(summary, group_seeds(results), COMMITTED) is None
    assert summary.heading in why_not(summary)
    assert why_not(summary) in text_of(out)
    assert "Sen2LCZ-MF" not in text_of(out)


@pytest.mark.usefixtures("without_figures")
def test_the_page_shows_table_and_rule_on_the_official_data(tmp_path):
    out = make_report(tmp_path, patches=120, **OFFICIAL)
    for content in (text_of(out), (out / "report.md").read_text()):
        assert "ChunpingQiu" in content
        assert COMMITTED.rule() in content
