"""The sentence that says whether the method beats its parts."""

import numpy as np
import pytest

from bp_lcz.report.method import method_sentences
from bp_lcz.scoring.results import group_seeds
from tests.report.test_claims import TRIALS, rows
from tests.report.test_page import make_report, read, text_of, without_figures  # noqa: F401
from tests.scoring.results import write_results

PARTS = {**TRIALS, **rows("encoder")}
WORST = {"plain": 0.0, "encoder": 0.0, "bgp": 0.0}


def sentences(folder, trials=PARTS, **options):
    write_results(folder, trials, **{"patches": 300, "groups": ("RGB",), **options})
    return method_sentences(group_seeds(read(folder, trials).results))


@pytest.mark.parametrize(
    ("skill", "start", "sides"),
    [
        (
            {**WORST, "bp-lcz": 1.0},
            "eb_cnn, 3 seeds: bp-lcz beats its parts ",
            ["above bgp +", ", plain +", ", encoder +"],
        ),
        (
            {**WORST, "bgp": 2.0, "bp-lcz": 1.0},
            "eb_cnn, 3 seeds: bp-lcz does not beat",
            ["above plain +", "; below bgp -"],
        ),
        (
            {**WORST, "bgp": 1.0, "bp-lcz": 1.0},
            "eb_cnn, 3 seeds: it is undecided",
            ["above plain", "; not told apart from bgp"],
        ),
    ],
    ids=["better", "worse", "undecided"],
)
def test_with_several_seeds_the_intervals_tell(tmp_path, skill, start, sides):
    (sentence,) = sentences(tmp_path, skill=skill)
    assert sentence.startswith(start)
    assert [side for side in sides if side not in sentence] == []


def test_lead_and_interval_are_those_of_the_means_over_seeds(tmp_path):
    (sentence,) = sentences(tmp_path, skill={**WORST, "bp-lcz": 1.0})
    groups = {group.variant: group for group in group_seeds(read(tmp_path, PARTS).results)}
    lead = np.mean(groups["bp-lcz"].values("oa")) - np.mean(groups["bgp"].values("oa"))
    low, high = groups["bp-lcz"].intervals_of_lead(groups["bgp"])["oa"]
    assert f"bgp +{lead:.3f} [{low:.3f}, {high:.3f}]".replace("0.", ".") in sentence


def test_one_seed_tells_nothing_and_no_number_is_said(tmp_path):
    (sentence,) = sentences(tmp_path, {**rows("bgp", [1]), **rows("bp-lcz", [1])}, skill={**WORST, "bp-lcz": 2.0})
    assert sentence == "eb_cnn: one seed does not tell whether bp-lcz beats its parts."


def test_intervals_by_patch_decide_nothing(tmp_path):
    (sentence,) = sentences(tmp_path, skill={**WORST, "bp-lcz": 2.0}, unit="patch")
    assert "it is undecided" in sentence
    assert "]†" in sentence


@pytest.mark.parametrize("trials", [rows("bgp"), rows("bp-lcz"), rows("bp-lcz", model={"alpha": 0.2})])
def test_without_the_method_or_its_parts_it_is_said_that_nothing_tells(tmp_path, trials):
    assert sentences(tmp_path, trials)[0].startswith("No trials of bp-lcz stand beside its parts")


@pytest.mark.usefixtures("without_figures")
def test_the_sentence_stands_in_the_first_lines_of_page_and_markdown(tmp_path):
    out = make_report(tmp_path, PARTS, patches=300, skill={**WORST, "bp-lcz": 1.0})
    (sentence,) = method_sentences(group_seeds(read(tmp_path, PARTS).results))
    assert (out / "report.md").read_text().splitlines()[4] == sentence
    text = text_of(out)
    assert text.index(sentence) < text.index("Simulated data")
