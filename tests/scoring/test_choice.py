"""The rule of the study: what becomes the default, and what never may."""

import pytest
from scipy.stats import ttest_rel

from bp_lcz.records import ModelDescription, Timings
from bp_lcz.scoring.choice import choose, holm
from bp_lcz.scoring.results import Group, TrialResult
from tests.records import small_evaluation
from tests.refusals import refuses

DEFAULT = (0.70, 0.71, 0.69, 0.70, 0.705)


def group(kappas, variant="bp-lcz", backbone="eb_cnn", **overrides):
    """Trials of seeds 1, 2, ... with these kappas of the validation split."""
    members = [
        TrialResult(
            evaluation=small_evaluation(
                trial=f"it-s{seed}", variant=variant, backbone=backbone, seed=seed, validation_kappa=kappa
            ),
            predictions={},
            model=ModelDescription.model_construct(),
            history={},
            timings=Timings.model_construct(),
            overrides=overrides,
        )
        for seed, kappa in enumerate(kappas, 1)
    ]
    return Group(" ".join(map(str, overrides.values())) or variant, members)


def shifted(lead, spread=0.001):
    return [kappa + lead + spread * (-1) ** i for i, kappa in enumerate(DEFAULT)]


def chosen(*others):
    (choice,) = choose([group(DEFAULT), *others])
    return choice.chosen.label


def test_the_best_of_the_surely_better_settings_becomes_the_default():
    better, best = group(shifted(0.02), **{"model.alpha": 0.2}), group(shifted(0.03), **{"model.alpha": 0.05})
    assert chosen(better, best) == "0.05"


@pytest.mark.parametrize(
    "kappas",
    [shifted(-0.03), shifted(0.004, spread=1e-5), shifted(0.03, spread=0.05)],
    ids=["worse", "surely less than a difference", "higher by chance"],
)
def test_the_default_stays_where_nothing_is_surely_better(kappas):
    assert chosen(group(kappas, **{"model.alpha": 0.2})) == "bp-lcz"


@pytest.mark.parametrize(
    "other",
    [
        group(shifted(0.1), **{"prompts.source": "random"}),
        group(shifted(0.1), **{"train.batch_size": 512}),
        group(shifted(0.1), variant="bgp", **{"model.alpha": 0.3}),
        group(shifted(0.1), backbone="resnet", **{"model.alpha": 0.3}),
    ],
    ids=["control", "training", "another variant", "another backbone"],
)
def test_only_settings_of_the_method_may_become_the_default(other):
    assert chosen(other, group(DEFAULT[::-1], **{"model.alpha": 0.2})) == "bp-lcz"


def test_many_settings_are_judged_as_one_family():
    lucky = shifted(0.01, spread=0.006)
    alone = float(ttest_rel(lucky, DEFAULT).pvalue)
    assert 0.05 / 6 < alone < 0.05
    assert chosen(group(lucky, **{"model.alpha": 0.2})) == "0.2"
    others = [group(DEFAULT[::-1], **{"model.alpha": number}) for number in (0.3, 0.4, 0.5, 0.6, 0.7)]
    assert chosen(group(lucky, **{"model.alpha": 0.2}), *others) == "bp-lcz"


def test_p_values_by_holm_are_those_of_his_method():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_fewer_than_five_seeds_choose_nothing():
    with refuses("params.yaml", "4 seed", 5):
        choose([group(DEFAULT[:4]), group(DEFAULT[:4], **{"model.alpha": 0.2})])
    with refuses("params.yaml", "bp-lcz"):
        choose([group(DEFAULT)])


def test_the_text_ends_with_the_outcome():
    (choice,) = choose([group(DEFAULT), group(shifted(0.03), **{"model.alpha": 0.05})])
    assert choice.lines()[1].split()[:2] == ["bp-lcz", ".701"]
    assert choice.lines()[2].split()[-2] == "+.030"
    assert choice.lines()[-1].startswith("0.05 becomes")


def test_for_scripts_every_setting_has_its_kappas_lead_and_p():
    (choice,) = choose([group(DEFAULT), group(shifted(0.02), **{"model.alpha": 0.05})])
    facts = choice.facts()
    assert (facts["default"], facts["chosen"]) == ("bp-lcz", choice.chosen.label)
    default, other = facts["settings"]
    assert (default["kappa_by_seed"], default["lead"], default["p"]) == (list(DEFAULT), 0.0, None)
    assert other["kappa_by_seed"] == pytest.approx(shifted(0.02))
    assert (other["lead"], other["p"]) == (choice.candidates[0].lead, choice.candidates[0].p)
