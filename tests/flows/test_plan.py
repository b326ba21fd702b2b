"""What `make paper` says of the hours ahead, and of what is there so far."""

from pathlib import Path

import pytest
import yaml

from bp_lcz.params import Params, backbone_names, load_params
from bp_lcz.report.claims import load_paper
from bp_lcz.workspace import merge_profile
from flows.plan import blocks_of, is_table_due, plan_lines, row_of, so_far
from tests.conftest import ROOT
from tests.records import small_evaluation


@pytest.fixture(scope="module")
def params() -> Params:
    return Params.model_validate(merge_profile(ROOT, yaml.safe_load((ROOT / "params.yaml").read_text()), "paper"))


def test_blocks_are_the_trials_in_order_by_seed_and_then_by_backbone(params: Params) -> None:
    blocks = blocks_of(params)
    assert [name for block in blocks for name in block.trials] == list(params.trials)
    assert blocks[0].title.startswith("seed 1: eb_cnn-plain, eb_cnn-bp-lcz")
    assert len(blocks[0].trials) == 10
    assert {params.trials[name].backbone for name in blocks[-1].trials} == {"convnext_v2"}
    assert len(blocks) < 20


def test_the_plan_adds_up_and_says_when_claims_are_decided(params: Params) -> None:
    paper = load_paper(ROOT / "paper.yaml", backbone_names())
    hours = dict.fromkeys(params.trials, 0.5)
    lines = plan_lines(params, paper, hours, 0.25)
    assert lines[2].split("  ")[0] == blocks_of(params)[0].title
    assert "5.2 h        a table after each" in lines[2]
    assert "10.2 h       first verdict of" in lines[3]
    assert lines[-1].endswith(f"{0.25 + 0.5 * len(hours):.1f} h")
    left = {name: 0.5 for name in params.trials if name not in blocks_of(params)[0].trials}
    assert plan_lines(params, paper, left, 0.0)[2].startswith("seed 2: "), "what is done is not planned again"


def test_every_comparison_of_the_paper_is_decided_by_some_block(params: Params) -> None:
    paper = load_paper(ROOT / "paper.yaml", backbone_names())
    told = [line for line in plan_lines(params, paper, dict.fromkeys(params.trials, 1.0), 0.0) if "verdict of" in line]
    counted = [int(line.split("verdict of ")[1].split()[0]) for line in told]
    assert sum(counted) == sum(
        claim.check is not None and claim.check.than is not None for claim in paper.claims.values()
    )


def test_a_table_is_due_after_each_trial_of_the_first_block_and_after_whole_others(params: Params) -> None:
    first, second = blocks_of(params)[:2]
    assert is_table_due(params, first.trials[3], {first.trials[3]})
    assert not is_table_due(params, second.trials[0], {second.trials[0]})
    assert is_table_due(params, second.trials[0], set(second.trials))


def test_the_table_so_far_has_means_over_the_seeds_that_are_there(tmp_path: Path, params: Params) -> None:
    scores = {"eb_cnn-plain-s1": 0.5, "eb_cnn-plain-s2": 0.7, "eb_cnn-bp-lcz-s1": 0.25}
    for trial, oa in scores.items():
        folder = tmp_path / "outputs/evaluations" / trial
        folder.mkdir(parents=True)
        small_evaluation(oa=oa).write(folder / "evaluation.json")
    head, _, *rows = so_far(tmp_path, params, set(scores))
    assert f"3 of {len(params.trials)} trials; one seed decides nothing" in head
    assert [row.split()[:3] for row in rows] == [["eb_cnn-plain", "2", ".600"], ["eb_cnn-bp-lcz", "1", ".250"]]


def test_a_row_is_a_trial_without_its_seed() -> None:
    assert row_of("convnext_v2-sen1-s12") == "convnext_v2-sen1"
    assert {row_of(name) for name in load_params(ROOT / "params.yaml").trials} == {
        "eb_cnn-plain",
        "eb_cnn-bgp",
        "eb_cnn-bp-lcz",
    }
