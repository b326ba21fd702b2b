"""The table of classes that were left out of the training."""

import pytest

from bp_lcz.report.left_out import left_out_table
from bp_lcz.scoring.left_out import find_left_out, joined
from bp_lcz.scoring.results import group_seeds
from tests.report.test_page import PLAIN, make_report, read, table, without_figures  # noqa: F401
from tests.scoring.test_left_out import without


@pytest.mark.usefixtures("without_figures")
def test_each_class_and_all_together_stand_beside_their_controls(tmp_path):
    sources = ("text", "random", "permuted")
    trials = {name: trial for source in sources for code in ("2", "B") for name, trial in without(code, source).items()}
    out = make_report(tmp_path, trials, patches=800, groups=("RGB",))
    rows = table(out, "Classes left out of the training")
    assert [row[1] for row in rows] == ["2", "B", "all"] * 3
    # Controls have no controls.
    assert [[entry == "-" for entry in row[5:7]] for row in rows] == [[False, False]] * 3 + [[True, True]] * 6
    groups = group_seeds(read(tmp_path, trials).results)
    found = [find_left_out(group) for group in groups]
    lead = joined(found[:2]).mean("rank") - joined(found[2:4]).mean("rank")
    assert rows[2][5].startswith(f"+{lead:.3f}".replace("0.", "."))


@pytest.mark.usefixtures("without_figures")
def test_a_run_on_all_classes_has_no_such_section(tmp_path):
    out = make_report(tmp_path, PLAIN, patches=100)
    matrix = read(tmp_path, PLAIN)
    assert left_out_table(matrix.summary, group_seeds(matrix.results)) is None
    assert "left out of the training" not in (out / "report.md").read_text()
