"""The paper's claims against synthetic results whose order is known."""

import json
import re

import numpy as np
import pytest
import yaml

from bp_lcz.params import backbone_names
from bp_lcz.report.claims import check_claims, claims_text, entries, failures, load_paper
from bp_lcz.scoring.crossed import crossed_intervals
from tests.refusals import refuses
from tests.report.test_page import read
from tests.scoring.results import ROOT, write_results

NAMES = ("eb_cnn", "exvit")
TRIALS = {
    f"eb_cnn-{variant}-s{seed}": {"backbone": "eb_cnn", "variant": variant, "seed": seed}
    for variant in ("plain", "bgp", "bp-lcz")
    for seed in (1, 2, 3)
}
SKILL = {"plain": 0.0, "bgp": 0.0, "msm": 0.5, "bp-lcz": 1.0}
OFFICIAL = {"kind": "So2Sat", "release": "so2sat-v2"}
COMPARISON = {
    "claim": "better",
    "where": "a table",
    "value": None,
    "reason": "not accessible",
    "check": {
        "stage": "evaluate",
        "key": "oa",
        "trials": {"backbone": "eb_cnn", "variant": "bp-lcz"},
        "than": {"backbone": "eb_cnn", "variant": "plain"},
    },
}
NUMBER = {
    "claim": "a number",
    "where": "a table",
    "value": None,
    "reason": "not accessible",
    "tolerance": 0.02,
    "check": {"stage": "evaluate", "key": "oa", "trials": {"backbone": "eb_cnn", "variant": "plain"}},
}


def changed(claim, **values):
    """A claim with some keys set; a double underscore goes a level deeper."""
    claim = json.loads(json.dumps(claim))
    for dotted, value in values.items():
        *parents, last = dotted.split("__")
        section = claim
        for parent in parents:
            section = section[parent]
        section[last] = value
    return claim


def paper_of(folder, **claims):
    path = folder / "paper.yaml"
    path.write_text(yaml.safe_dump({"title": "t", "doi": "d", "claims": claims}, sort_keys=False))
    return load_paper(path, NAMES)


def judged(folder, claim, trials=TRIALS, **options):
    options = {"patches": 300, "skill": SKILL, "groups": ("RGB",), **options}
    write_results(folder, trials, **options)
    (outcome,) = check_claims(paper_of(folder, it=claim), *read(folder, trials))
    return outcome


def swapped(claim):
    return changed(claim, check__trials=claim["check"]["than"], check__than=claim["check"]["trials"])


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "simulated"},
        {"kind": "weak labels", "unit": "patch"},
        {"kind": "unstated"},
        {"kind": "simulated", "release": "so2sat-v2"},
        {**OFFICIAL, "leakage": {"status": "overlap", "pairs": 1, "distance": 100.0}},
    ],
)
@pytest.mark.parametrize(
    "claim", [COMPARISON, NUMBER, changed(NUMBER, value=0.5)], ids=["comparison", "null", "number"]
)
def test_nothing_but_the_official_data_is_ever_set_against_the_paper(tmp_path, options, claim):
    outcome = judged(tmp_path, claim, **options)
    assert outcome.verdict == "not comparable"
    assert failures([outcome]) == []
    if claim is COMPARISON:
        assert outcome.direction == ("undecided" if outcome.lower_bound else "holds")
    else:
        assert outcome.direction is outcome.difference is outcome.interval is None


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        (COMPARISON, "holds"),
        (swapped(COMPARISON), "fails"),
        (changed(COMPARISON, check__trials__variant="bgp"), "undecided"),
    ],
    ids=["better", "worse", "equal"],
)
@pytest.mark.parametrize("options", [{}, OFFICIAL], ids=["demo", "official"])
def test_a_direction_follows_the_interval(tmp_path, claim, expected, options):
    outcome = judged(tmp_path, claim, **options)
    assert outcome.direction == expected
    assert outcome.verdict == (expected if options else "not comparable")
    low, high = outcome.interval
    assert {"holds": low > 0, "fails": high < 0, "undecided": low <= 0 <= high}[expected]
    assert low <= outcome.difference <= high


def test_the_difference_is_that_of_the_means_over_seeds_with_seeds_and_blocks_at_random(tmp_path):
    outcome = judged(tmp_path, COMPARISON)
    results = {result.name: result for result in read(tmp_path, TRIALS).results}
    sides = [[results[f"eb_cnn-{v}-s{seed}"] for seed in (1, 2, 3)] for v in ("bp-lcz", "plain")]
    leads = [a.evaluation.oa - b.evaluation.oa for a, b in zip(*sides, strict=True)]
    assert outcome.difference == pytest.approx(np.mean(leads))
    predictions = [np.stack([each.predictions["y_pred"] for each in side]) for side in sides]
    shared = sides[0][0].predictions
    expected = crossed_intervals(shared["y_true"], *predictions, block=shared["block"])["oa"]
    assert outcome.interval == pytest.approx(expected)
    assert [trials.seeds for trials in outcome.reproduced] == [3, 3]


def rows(variant, seeds=(1, 2, 3), **overrides):
    name = "-".join([variant, *map(str, overrides.get("prompts", {}).values())])
    common = {"backbone": "eb_cnn", "variant": variant, "overrides": overrides}
    return {f"{name}-s{seed}": {**common, "seed": seed} for seed in seeds}


def test_texts_are_judged_against_the_control_that_the_claim_names(tmp_path):
    trials = {**rows("bgp"), **rows("bgp", prompts={"source": "random"}), **rows("bgp", prompts={"source": "permuted"})}
    claim = changed(COMPARISON, check__trials__variant="bgp", check__than__variant="bgp")
    claim["check"]["than"]["prompts"] = {"source": "permuted"}
    outcome = judged(tmp_path, claim, trials, skill=None)
    assert [each.trials for each in outcome.reproduced] == ["bgp", "bgp-permuted"]
    assert entries(outcome)[1] == "higher, by how much not accessible"
    assert entries(outcome.model_copy(update={"where": None}))[1] == "-"
    assert outcome.direction == "fails"  # each trial is better than the one before it


def test_a_lead_over_the_backbone_alone_comes_with_the_share_of_the_added_layers(tmp_path):
    trials = {**rows("plain"), **rows("encoder"), **rows("bp-lcz")}
    outcome = judged(tmp_path, COMPARISON, trials, skill={**SKILL, "encoder": 0.5})
    oa = {}
    for result in read(tmp_path, trials).results:
        oa.setdefault(result.evaluation.variant, []).append(result.evaluation.oa)
    part = np.mean(oa["encoder"]) - np.mean(oa["plain"])
    assert f"{part / outcome.difference:.0%} of it" in outcome.note
    assert 0 < part < outcome.difference


def test_random_vectors_in_all_trials_are_no_run_of_the_paper(tmp_path):
    write_results(tmp_path, TRIALS, patches=300, skill=SKILL, groups=("RGB",), **OFFICIAL)
    for file in tmp_path.glob("outputs/models/*/model.json"):
        file.write_text(file.read_text().replace('"source": "text"', '"source": "random"'))
    (outcome,) = check_claims(paper_of(tmp_path, it=COMPARISON), *read(tmp_path, TRIALS))
    assert outcome.verdict == "not comparable"


def test_trials_with_overrides_do_not_count(tmp_path):
    low = {
        f"low-s{seed}": {"backbone": "eb_cnn", "variant": "plain", "seed": seed, "overrides": {"model": {"alpha": 0.2}}}
        for seed in (1, 2, 3)
    }
    outcome = judged(tmp_path, NUMBER, {**low, **TRIALS})
    assert outcome.reproduced[0].trials == "eb_cnn-plain"


@pytest.mark.parametrize(("options", "verdict"), [({}, "not comparable"), (OFFICIAL, "undecided")])
@pytest.mark.parametrize(
    "claim", [changed(COMPARISON, check__than__variant="msm"), changed(NUMBER, check__trials__variant="msm")]
)
def test_trials_that_are_not_part_of_the_run_leave_a_claim_undecided_and_are_only_counted(
    tmp_path, options, verdict, claim
):
    outcome = judged(tmp_path, claim, **options)
    assert outcome.verdict == verdict
    assert "no such trials in this run" in outcome.note
    assert outcome.direction == ("undecided" if claim["check"].get("than") else None)
    text = claims_text([outcome], read(tmp_path, TRIALS).summary)
    assert text.splitlines()[1:] == [f"verdicts of 1 claims: 1 {verdict}"]


def test_a_number_of_the_paper_that_is_not_accessible_is_said_to_be_so_beside_the_reproduced_one(tmp_path):
    outcome = judged(tmp_path, NUMBER, **OFFICIAL)
    assert (outcome.verdict, outcome.note) == ("not accessible", "not accessible")
    values = [r.evaluation.oa for r in read(tmp_path, TRIALS).results if r.evaluation.variant == "plain"]
    assert outcome.reproduced[0].mean == pytest.approx(np.mean(values))
    assert outcome.reproduced[0].deviation == pytest.approx(np.std(values, ddof=1))
    assert outcome.difference is None


@pytest.mark.parametrize(("away", "verdict"), [(0.01, "holds"), (-0.4, "fails"), (0.4, "fails"), (0.03, "undecided")])
def test_an_accessible_number_is_judged_by_its_tolerance_and_fails_only_beyond_chance(tmp_path, away, verdict):
    write_results(tmp_path, TRIALS, patches=300, skill=SKILL, groups=("RGB",), **OFFICIAL)
    matrix = read(tmp_path, TRIALS)
    mean = np.mean([r.evaluation.oa for r in matrix.results if r.evaluation.variant == "plain"])
    claim = changed(NUMBER, value=float(mean - away))
    (outcome,) = check_claims(paper_of(tmp_path, it=claim), *matrix)
    assert outcome.difference == pytest.approx(away)
    assert outcome.verdict == verdict


@pytest.mark.parametrize("data", [OFFICIAL, {}])
def test_a_backbone_with_other_options_than_the_papers_is_not_comparable(tmp_path, data):
    trials = {name: {**trial, "overrides": {"backbone": {"token_size": 4}}} for name, trial in TRIALS.items()}
    write_results(tmp_path, trials, patches=200, skill=SKILL, groups=("RGB",), **data)
    plain = {name: {**trial, "overrides": {}} for name, trial in trials.items()}  # set for all trials, not overridden
    claim = changed(COMPARISON, check__trials__options={"token_size": 1})
    (outcome,) = check_claims(paper_of(tmp_path, it=claim), *read(tmp_path, plain))
    assert (outcome.verdict, outcome.direction) == ("not comparable", "holds")
    assert "eb_cnn-bp-lcz has token_size 4, the paper 1" in outcome.note


def test_an_option_that_the_backbone_does_not_have_is_one_line(tmp_path):
    write_results(tmp_path, TRIALS, patches=200, skill=SKILL, groups=("RGB",), **OFFICIAL)
    claim = changed(COMPARISON, check__trials__options={"token_sise": 1})
    with refuses("paper.yaml", "claims.it.check", "eb_cnn", "token_sise"):
        check_claims(paper_of(tmp_path, it=claim), *read(tmp_path, TRIALS))


def test_an_interval_by_patch_is_too_narrow_to_decide(tmp_path):
    write_results(tmp_path, TRIALS, patches=200, skill=SKILL, groups=("RGB",), unit="patch", **OFFICIAL)
    far = changed(NUMBER, value=0.01)
    (lift, number) = check_claims(paper_of(tmp_path, lift=COMPARISON, number=far), *read(tmp_path, TRIALS))
    assert lift.interval[0] > 0
    assert number.interval[0] > NUMBER["tolerance"]
    for outcome in (lift, number):
        assert (outcome.verdict, outcome.lower_bound) == ("undecided", True)
        assert "too narrow to decide" in outcome.note
    assert not failures([lift, number])


@pytest.mark.parametrize("claim", [COMPARISON, changed(NUMBER, value=0.01)], ids=["comparison", "number"])
def test_one_seed_decides_nothing(tmp_path, claim):
    one = {name: trial for name, trial in TRIALS.items() if trial["seed"] == 1}
    outcome = judged(tmp_path, claim, one, **OFFICIAL)
    assert outcome.interval[0] > 0
    assert (outcome.verdict, outcome.lower_bound) == ("undecided", True)
    assert "one seed" in outcome.note


def test_a_single_block_decides_nothing(tmp_path):
    outcome = judged(tmp_path, COMPARISON, blocks=1)
    assert (outcome.direction, outcome.interval) == ("undecided", None)
    assert "no interval" in outcome.note


def test_intervals_by_patch_are_marked_as_a_lower_bound(tmp_path):
    outcome = judged(tmp_path, COMPARISON, unit="patch")
    assert outcome.lower_bound
    assert "]†" in entries(outcome)[3]


def test_the_text_counts_all_claims_and_has_a_line_for_each_that_fails_or_is_undecided_by_trials(tmp_path):
    write_results(tmp_path, TRIALS, patches=200, skill=SKILL, groups=("RGB",))
    summary, results = read(tmp_path, TRIALS)
    paper = load_paper(ROOT / "paper.yaml", NAMES)
    outcomes = check_claims(paper, summary, results)
    data, verdicts, directions, *lines = claims_text(outcomes, summary).splitlines()
    assert data.startswith("200 patches of the testing split of demo: simulated data, never comparable with the paper")
    assert sum(map(int, re.findall(r"\d+", verdicts)[1:])) == len(outcomes) == len(paper.claims)
    with_trials = [each for each in outcomes if each.difference is not None]
    assert int(directions.split()[2]) == len(with_trials)
    open_ones = [each for each in with_trials if each.direction in ("fails", "undecided")]
    assert 0 < len(open_ones) < len(with_trials)
    named = [line for each in open_ones for line in lines if f"{each.direction}: {each.claim}, " in line]
    assert sorted(named) == sorted(lines)


@pytest.mark.parametrize(
    ("claim", "key", "fact"),
    [
        (changed(COMPARISON, check__key="accuracy"), "check.key", "'oa'"),
        (changed(COMPARISON, check__stage="train"), "check.stage", "'evaluate'"),
        (changed(COMPARISON, check__trials__variant="gpt"), "check.trials.variant", "'plain'"),
        (changed(COMPARISON, check__than__backbone="vgg"), "check.than", "eb_cnn, exvit"),
        (changed(NUMBER, check__trials__backbone="vgg"), "check.trials", "'vgg'"),
        (changed(COMPARISON, page=3), "page", "unknown key; known: claim"),
        (changed(COMPARISON, check__metric="oa"), "check.metric", "unknown key; known: stage"),
        (changed(COMPARISON, reason=None), "", "reason"),
        (changed(NUMBER, tolerance=None), "", "tolerance"),
        (changed(COMPARISON, tolerance=0.1), "", "tolerance"),
        (changed(NUMBER, value="0.7"), "value", "valid number"),
        (changed(NUMBER, value=float("nan")), "value", "finite"),
    ],
)
def test_an_entry_that_points_nowhere_is_one_line_with_file_key_and_cause(tmp_path, claim, key, fact):
    with refuses(tmp_path / "paper.yaml", f"claims.it.{key}".rstrip("."), fact):
        paper_of(tmp_path, it=claim)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("a: [", "YAML"),
        ("a: 2025-02-30", "YAML"),
        ("[1]", "mapping"),
        ("", "mapping"),
        ("{}", "title: Field required"),
    ],
)
def test_a_file_that_holds_no_claims_is_refused(tmp_path, text, fact):
    (tmp_path / "paper.yaml").write_text(text)
    with refuses(tmp_path / "paper.yaml", fact):
        load_paper(tmp_path / "paper.yaml", NAMES)
    with refuses(tmp_path / "none.yaml", "not found"):
        load_paper(tmp_path / "none.yaml", NAMES)


def test_no_number_of_the_paper_is_invented():
    paper = load_paper(ROOT / "paper.yaml", NAMES)
    assert all(claim.value is None and claim.reason for claim in paper.claims.values())


def test_the_committed_claims_point_at_backbones_of_this_project():
    load_paper(ROOT / "paper.yaml", backbone_names())


@pytest.mark.parametrize("key", ["oa", "kappa"])
def test_the_committed_claims_hold_the_papers_statements(key):
    checks = [claim.check for claim in load_paper(ROOT / "paper.yaml", NAMES).claims.values() if claim.where]
    stated = {
        (check.trials.backbone, check.trials.variant, check.than.variant)
        for check in checks
        if check is not None and check.than is not None and check.key == key
    }
    assert stated == {
        ("eb_cnn", "bp-lcz", "plain"),
        ("exvit", "bp-lcz", "plain"),
        ("eb_cnn", "bgp", "plain"),
        ("eb_cnn", "msm", "plain"),
        ("eb_cnn", "bp-lcz", "bgp"),
        ("eb_cnn", "bp-lcz", "msm"),
    }


def test_the_committed_controls_set_prompting_against_the_encoder_and_texts_against_vectors_without_a_meaning():
    claims = load_paper(ROOT / "paper.yaml", NAMES).claims.values()
    checks = [claim.check for claim in claims if claim.check is not None and not claim.where]
    controls = {(each.trials.variant, each.than.variant, each.than.prompts.get("source")) for each in checks}
    sources = {(variant, variant, source) for variant in ("bgp", "bp-lcz") for source in ("random", "permuted")}
    assert controls == {("bgp", "encoder", None), ("bp-lcz", "encoder", None)} | sources
