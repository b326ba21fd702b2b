import dataclasses
import struct

import matplotlib as mpl
import numpy as np
import pytest

from bp_lcz.drawing import Note, class_histogram
from bp_lcz.records import Resampling
from bp_lcz.report import features, figures
from bp_lcz.scoring.metrics import evaluate_predictions

NOTE = Note("demo, testing split, 4 patches", "simulated data")


def evaluation(trial="eb_cnn-plain", variant="plain", **by_seed):
    scores = evaluate_predictions(np.array([0, 0, 3, 16]), np.array([0, 3, 3, 16]))
    return figures.Pooled(
        trial=trial,
        variant=variant,
        by_seed={"oa": [scores.oa], "kappa": [scores.kappa], "ece": None, **by_seed},
        intervals={"oa": (0.5, 1.0), "kappa": (0.4, 0.9)},
        interval=Resampling(level=0.95, unit="city", blocks=3, samples=200, seed=1, lower_bound=False),
        per_class=scores.per_class,
        confusion=np.array(scores.confusion),
    )


def size(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


def test_equal_numbers_give_equal_bytes_without_date_or_software():
    first = figures.confusion(evaluation(), NOTE)
    assert first == figures.confusion(evaluation(), NOTE)
    assert b"Software" not in first
    assert b"Date" not in first
    assert b"tIME" not in first


def test_other_numbers_give_another_figure():
    other = dataclasses.replace(evaluation(), confusion=np.eye(17, dtype=int))
    assert figures.confusion(evaluation(), NOTE) != figures.confusion(other, NOTE)


def test_axes_span_the_trials_of_other_backbones_too():
    own, wide = evaluation(), dataclasses.replace(evaluation(), intervals={"oa": (0.1, 1.0), "kappa": (0.0, 0.9)})
    alone = figures.overview([own], NOTE)
    assert figures.overview([own], NOTE, beside=[own]) == alone
    assert figures.overview([own], NOTE, beside=[own, wide]) != alone
    long = dataclasses.replace(own, trial="sen2lcz_mf-bp-lcz")
    assert figures.overview([own], NOTE, beside=[own, long]) != alone


def test_every_figure_shows_its_warning():
    unmarked = Note(NOTE.text, "")
    assert figures.overview([evaluation()], NOTE) != figures.overview([evaluation()], unmarked)


def test_the_users_matplotlib_settings_do_not_matter_and_are_kept():
    before = figures.overview([evaluation()], NOTE)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert figures.overview([evaluation()], NOTE) == before
        assert mpl.rcParams["font.size"] == 30


@pytest.mark.parametrize(
    "changes",
    [{"kappa": None}, {"intervals": None}, {"intervals": {"oa": None, "kappa": None}}],
    ids=["undefined kappa", "no intervals", "undefined intervals"],
)
def test_the_overview_survives_what_is_undefined(changes):
    assert size(figures.overview([evaluation(**changes)], NOTE))[0] == 1080


def test_the_overview_grows_with_the_trials():
    few = [evaluation()]
    many = [evaluation(f"trial-{i}", variant) for i, variant in enumerate(["plain", "bgp", "bp-lcz"] * 3)]
    assert size(figures.overview(many, NOTE))[1] > size(figures.overview(few, NOTE))[1]


def test_similarity_of_classes_without_patches_is_drawn_as_missing():
    similarity = np.full((2, 17, 17), 0.5)
    complete = features.class_similarity("trial", ["VH", "RGB"], similarity, NOTE)
    similarity[:, 4] = np.nan
    assert features.class_similarity("trial", ["VH", "RGB"], similarity, NOTE) != complete


def test_a_single_epoch_and_a_single_group_can_be_drawn():
    history = {
        "epoch": [1],
        "training_cross_entropy": [1.0],
        "training_alignment": [3.0],
        "validation_loss": [1.2],
        "validation_kappa": [0.1],
        "best_epoch": 1,
    }
    size(figures.curves({"eb_cnn-plain": [history]}, [evaluation()], NOTE))
    size(features.group_similarity("trial", ["RGB"], np.array([[0.3]]), NOTE))
    size(class_histogram({"testing": [0] * 16 + [3]}, NOTE))


def test_alignment_has_a_panel_where_a_trial_is_aligned():
    history = {
        "epoch": [1, 2],
        "training_cross_entropy": [1.0, 0.9],
        "training_alignment": [0.0, 0.0],
        "validation_loss": [1.2, 1.1],
        "validation_kappa": [0.1, 0.2],
        "best_epoch": 1,
    }
    without = figures.curves({"eb_cnn-plain": [history]}, [evaluation()], NOTE)
    aligned = {**history, "training_alignment": [50.0, 30.0]}
    assert size(figures.curves({"eb_cnn-plain": [aligned]}, [evaluation()], NOTE))[1] > size(without)[1]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.125, ".125"), (0.6, ".6"), (-0.25, "-.25"), (0.0, "0"), (-1e-17, "0"), (1.0, "1"), (10.5, "10.5")],
)
def test_ticks_are_never_rounded_to_another_value(value, text):
    assert figures.leading_dot()(value, None) == text


def test_the_overview_marks_each_seed():
    seeds, moved = ({"oa": oa, "kappa": [0.5, 0.7]} for oa in ([0.6, 0.8], [0.5, 0.9]))
    assert figures.overview([evaluation(**seeds)], NOTE) != figures.overview([evaluation(**moved)], NOTE)


def test_embeddings_have_a_panel_for_each_trial_and_the_same_bytes_every_time():
    points = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    one = {"plain": features.Embedding(points, np.array([0.6, 0.2]))}
    y_true = np.array([0, 0, 3, 16])
    drawn = features.embedding(one, y_true, 1, NOTE)
    assert drawn == features.embedding(one, y_true, 1, NOTE)
    three = dict.fromkeys(("plain", "bgp", "bp-lcz"), one["plain"])
    assert features.embedding(three, y_true, 1, NOTE) != drawn
    assert features.embedding(one, y_true[::-1].copy(), 1, NOTE) != drawn
