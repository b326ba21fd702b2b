"""The table of what the alignment loss weighs: the form in use against that which counts every pair."""

import pytest

from benchmarks.batch_gradient import CASES, measure, table
from bp_lcz.params import Loss, Target


@pytest.mark.parametrize(("target", "loss"), CASES)
def test_the_form_in_use_weighs_the_same_in_a_batch_eight_times_as_large(target: Target, loss: Loss) -> None:
    small, large = (measure(batch, target, loss, know=0.0, summed=False) for batch in (16, 128))
    assert small == pytest.approx(large, rel=0.1)


def test_counting_every_pair_does_not() -> None:
    small, large = (measure(batch, "graded", "sigmoid", know=0.0, summed=True) for batch in (16, 128))
    assert all(after > 3 * before for before, after in zip(small, large, strict=True))


def test_the_table_has_both_forms_of_each_case() -> None:
    rows = table((64, 128), know=0.5)[2:]
    assert [row.split("|")[1].strip() for row in rows] == [f"{t}, {form}" for t, form in CASES for _ in range(2)]
    assert all(row.count(" / ") == 2 for row in rows)
