"""The experiment matrices in ``profiles/``."""

import json
from collections import Counter
from hashlib import sha256
from itertools import product

import pytest
import yaml

from bp_lcz.params import Params, backbone_names
from bp_lcz.report.claims import load_paper
from bp_lcz.scoring.results import overrides
from bp_lcz.workspace import _merge, _read_profile
from tests.conftest import ROOT


def matrix(profile):
    """Parameters with a profile merged in, without a workspace."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    return Params.model_validate(_merge({**params, "trials": {}}, _read_profile(ROOT, profile)))


def settings(params):
    """Backbone, variant and overrides of each trial, with the seeds that have it."""
    found: dict = {}
    for name, trial in params.trials.items():
        own = overrides(params, name)
        found.setdefault(
            (trial.backbone, trial.variant, tuple((key, str(own[key])) for key in sorted(own))), []
        ).append(trial.seed)
    return found


@pytest.mark.parametrize(
    ("profile", "seeds"),
    [
        ("tables", 3),
        ("study", 5),
        ("plug-in", 5),
        ("forms", 5),
        ("few", 5),
        ("leftout", 5),
        ("paper", 5),
    ],
)
def test_every_setting_has_every_seed_once_and_names_end_with_it(profile, seeds):
    params = matrix(profile)
    assert all(found == list(range(1, seeds + 1)) for found in settings(params).values())
    assert all(name.endswith(f"-s{trial.seed}") for name, trial in params.trials.items())
    stems = Counter(name.rpartition("-s")[0] for name in params.trials)
    assert set(stems.values()) == {seeds}
    assert len(stems) == len(settings(params))


@pytest.mark.parametrize(
    ("profile", "digest"),
    [
        ("tables", "9892126c975862f6"),
        ("paper", "c72c9a0f37aaf6cc"),
    ],
)
def test_a_matrix_stands_for_the_trials_that_were_run(profile, digest):
    trials = _read_profile(ROOT, profile)["trials"]
    assert sha256(json.dumps(trials, sort_keys=True).encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize("profile", ["tables", "study", "plug-in", "forms", "few", "leftout", "paper"])
def test_the_head_of_a_profile_tells_command_and_number_of_trials(profile):
    head = (ROOT / f"profiles/{profile}.yaml").read_text().partition("\nmatrix:")[0]
    assert f"make {profile} " in head
    assert f"makes {len(matrix(profile).trials)} trials" in head


def test_the_tables_have_both_backbones_in_three_variants_and_name_the_tokens_of_exvit():
    params = matrix("tables")
    assert set(settings(params)) == {(b, v, ()) for b, v in product(("eb_cnn", "exvit"), ("plain", "bgp", "bp-lcz"))}
    exvit = {name: params.trial(name) for name, trial in params.trials.items() if trial.backbone == "exvit"}
    assert {trial.backbone_options["token_size"] for trial in exvit.values()} == {4}
    assert all(name.startswith("exvit_t4-") for name in exvit)


def test_the_study_has_every_control_and_every_setting_that_its_rule_names():
    params = matrix("study")
    trials = [params.trial(name) for name in params.trials if name.endswith("-s1")]
    for backbone in ("eb_cnn", "resnet", "swin"):
        of = [trial for trial in trials if trial.backbone == backbone]
        assert {trial.variant for trial in of} >= {"plain", "encoder", "bgp", "bp-lcz"}
        assert {trial.variant for trial in of if trial.prompts.source == "random"} == {"bgp", "bp-lcz"}
    assert {trial.prompts.source for trial in trials if trial.backbone == "resnet"} == {"text", "random", "permuted"}
    few = [trial for trial in trials if trial.train.per_class]
    assert {(t.train.per_class, t.variant, t.prompts.source) for t in few} == set(
        product((5, 20, 100), ("bgp", "bp-lcz"), ("text", "random"))
    ) | set(product((5, 20, 100), ("plain", "encoder"), ("text",)))
    full = [t for t in trials if t.variant == "bp-lcz" and t.backbone == "eb_cnn" and t not in few]
    forms = {(trial.model.target, trial.model.loss) for trial in full if trial.model.pairs == "texts"}
    for form in forms:
        weights = {t.model.alignment_weight for t in full if (t.model.target, t.model.loss) == form}
        assert weights == {0.1, 0.5, 2.0}
    assert forms == {("graded", "sigmoid"), ("graded", "softmax"), ("class_group", "sigmoid")}
    assert {trial.model.loss for trial in full if trial.model.pairs == "joint"} == {"softmax", "sigmoid"}
    assert {trial.prompts.wording for trial in full} == {"names", "described"}
    assert {trial.train.batch_size for trial in full} == {64, 512}
    options = {trial.backbone_options.get("fusion") for trial in trials if trial.backbone == "resnet"}
    assert options == {"early", "feature", "decision", "sen1", "sen2"}
    assert params.rule == "docs/study.md"


def test_backbones_without_group_branches_have_every_control_and_the_first_is_whole_before_the_second_begins():
    params = matrix("plug-in")
    trials = [params.trial(name) for name in params.trials]
    with_texts = {(variant, "text") for variant in ("plain", "encoder", "bgp", "bp-lcz")}
    random = {("bgp", "random"), ("bp-lcz", "random")}
    for backbone, more in (("resnet", {("bgp", "permuted"), ("bp-lcz", "permuted")}), ("vit", set())):
        of = {(trial.variant, trial.prompts.source) for trial in trials if trial.backbone == backbone}
        assert of == with_texts | random | more
    assert [trial.backbone for trial in trials] == ["resnet"] * 30 + ["vit"] * 30 + ["resnet"] * 10
    assert params.rule == "docs/plug-in.md"


def test_the_choice_of_the_default_is_among_every_form_at_three_weights():
    params = matrix("forms")
    trials = [params.trial(name) for name in params.trials if name.endswith("-s1")]
    full = [trial for trial in trials if trial.variant == "bp-lcz" and trial.train.batch_size == 64]
    with_texts = [
        trial.model
        for trial in full
        if trial.model.pairs == "texts" and trial.prompts.wording == "names" and not trial.prompts.centre
    ]
    assert {(model.target, model.loss, model.alignment_weight) for model in with_texts} == {
        (*form, weight)
        for form in (("graded", "sigmoid"), ("graded", "softmax"), ("class_group", "sigmoid"))
        for weight in (0.1, 0.5, 2.0)
    }
    assert {trial.model.loss for trial in full if trial.model.pairs == "joint"} == {"softmax", "sigmoid"}
    assert {(trial.prompts.wording, trial.prompts.centre) for trial in full} == set(
        product(("names", "described"), (False, True))
    )
    assert {trial.variant for trial in trials if trial.train.batch_size == 512} == {"plain", "bgp", "bp-lcz"}
    assert {trial.prompts.source for trial in trials} == {"text"}
    assert params.rule == "docs/forms.md"


def test_few_patches_of_each_class_have_the_controls():
    params = matrix("few")
    trials = [params.trial(name) for name in params.trials if name.endswith("-s1")]
    vectors = {("plain", "text"), ("encoder", "text"), *product(("bgp", "bp-lcz"), ("text", "random"))}
    found = {(trial.train.per_class, trial.variant, trial.prompts.source) for trial in trials}
    assert found == {(count, *each) for count in (5, 20, 100) for each in vectors}
    assert params.simulate.patches.training >= 17 * 100
    assert params.rule == "docs/few.md"


def test_classes_are_left_out_one_at_a_time_with_texts_and_both_controls():
    params = matrix("leftout")
    trials = [params.trial(name) for name in params.trials if name.endswith("-s1")]
    found = {(*trial.train.leave_out, trial.prompts.source, trial.prompts.wording) for trial in trials}
    vectors = (("text", "names"), ("text", "described"), ("random", "names"), ("permuted", "names"))
    assert found == {(code, *each) for code in ("2", "5", "9", "B") for each in vectors}
    assert {trial.variant for trial in trials} == {"bp-lcz"}
    assert params.rule == "docs/leftout.md"


def test_the_paper_is_run_on_the_official_folder_with_the_papers_exvit():
    params = matrix("paper")
    assert params.dataset.root == "data/so2sat"
    assert params.backbones["exvit"]["token_size"] == 1
    assert len({trial.backbone for trial in params.trials.values()}) == 7


def test_every_claim_has_two_seeds_before_the_third_of_any_trial_and_cheap_ones_come_first():
    params = matrix("paper")
    order = list(params.trials)
    wanted = {
        (each.backbone, each.variant, tuple(each.prompts.items()))
        for claim in load_paper(ROOT / "paper.yaml", backbone_names()).claims.values()
        if claim.check
        for each in (claim.check.trials, claim.check.than)
        if each
    }
    early = Counter(
        (trial.backbone, trial.variant, tuple(trial.overrides.prompts.items()))
        for trial in (params.trials[name] for name in order[: order.index("eb_cnn-plain-s3")])
    )
    assert {kind for kind, seeds in early.items() if seeds == 2} >= wanted
    assert {trial.seed for name, trial in params.trials.items() if name in order[:10]} == {1}
    assert order[0] == "eb_cnn-plain-s1"
    assert order.index("eb_cnn-bp-lcz-permuted-s2") < order.index("exvit-plain-s1")
