import re
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bp_lcz.bands import ALL_CHANNELS, Channels
from bp_lcz.gate import quality
from bp_lcz.gate.expectations import Expectation, suite
from bp_lcz.gate.quality import data_kind, data_level, gate, leakage_suite
from bp_lcz.records import GateSummary, SplitSummary
from bp_lcz.so2sat.releases import SO2SAT_V2
from tests.refusals import refuses
from tests.so2sat.patches import COUNTS, edit, random_patches, write_dataset

INTENSITIES = Channels(("VH_lee_intensity", "VV_lee_intensity"), ALL_CHANNELS.sen2)
FEW = Channels(("VH_real", "VH_lee_intensity"), ("B02", "B12"))
"""Great Expectations takes most of a second for the twenty-odd expectations of all bands."""


def check(root: Path, out: Path | None = None) -> dict[str, Any]:
    return gate(root, out or root.parent / "gate", reflectance_max=3.0, zeros_max=0.5)


def is_refused(root: Path, expectation: str, *facts: str) -> str:
    """The gate refuses a data set for an expectation; statistics and Data Docs are there all the same."""
    out = root.parent / "gate"
    out.mkdir()
    (out / "summary.json").write_text("of an earlier run")
    with refuses(root, f"'{expectation}'", *facts) as caught:
        check(root)
    assert sorted(path.name for path in out.iterdir()) == ["data_docs", "statistics.parquet"]
    assert "<strong>Failed: later stages do not run.</strong>" in (out / "data_docs/index.html").read_text()
    return caught.value.what


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "mine", channels=FEW)


@pytest.fixture(scope="module")
def passed(tmp_path_factory) -> Path:
    """Folder of a gate that a data set with geo files and a stated source has passed."""
    base = tmp_path_factory.mktemp("gate")
    cities = {"training": 9, "validation": 2, "testing": 3}
    write_dataset(base / "mine", channels=INTENSITIES, cities=cities, source="simulated from seed 1")
    check(base / "mine")
    return base / "gate"


# ---- what a data set that passes leaves


def test_the_summary_tells_what_the_data_set_is(passed):
    summary = GateSummary.read(passed / "summary.json")
    assert summary.dataset == "mine"
    assert summary.source == "simulated from seed 1"
    assert summary.kind == "simulated"
    assert summary.release is None
    assert summary.channels == INTENSITIES
    assert summary.splits["training"] == SplitSummary(patches=34, class_counts=(2,) * 17, cities=9)
    assert summary.splits["testing"] == SplitSummary(patches=17, class_counts=(1,) * 17, cities=3)
    assert summary.warnings == ()
    assert all(e.success for e in summary.expectations)
    checked = [f"{e.target}: {e.expectation}" for e in summary.expectations]
    assert sorted([*checked, *summary.not_checked]) == sorted(
        f"{e.target}: {e.name}" for e in (*suite(INTENSITIES, 3.0, 0.5), *leakage_suite(False))
    )


def test_what_few_patches_cannot_tell_is_not_said_to_have_passed(passed):
    summary = GateSummary.read(passed / "summary.json")
    assert "sen2: no two bands in each other's place" in summary.not_checked
    assert '<td class="not checked">' in (passed / "data_docs/index.html").read_text()


def test_the_summary_gives_band_statistics_over_all_pixels(passed):
    summary = GateSummary.read(passed / "summary.json")
    sen1, sen2, _ = random_patches(34, INTENSITIES, seed=0)
    for position, band in enumerate(INTENSITIES.names):
        pixels = np.concatenate([sen1, sen2], axis=3)[..., position]
        expected = {name: getattr(np, name)(pixels) for name in ("mean", "std", "min", "max")}
        assert summary.bands["training"][band].model_dump() == pytest.approx(expected, rel=1e-8)


def test_the_summary_has_the_same_bytes_on_every_run_and_no_path(passed, tmp_path):
    check(passed.parent / "mine", tmp_path / "again")
    content = (passed / "summary.json").read_bytes()
    assert (tmp_path / "again/summary.json").read_bytes() == content
    assert str(passed.parent).encode() not in content


def test_statistics_have_a_row_for_each_patch(passed):
    assert len(pd.read_parquet(passed / "statistics.parquet")) == sum(COUNTS.values())


def test_data_docs_need_nothing_from_elsewhere(passed):
    pages = sorted((passed / "data_docs").rglob("*.html"))
    assert len(pages) > 1
    for page in pages:
        text = page.read_text()
        assert "<script" not in text
        assert "url(" not in text
        assert not re.findall(r"<(?:link|img|iframe)\b", text)
        for target in re.findall(r'href="([^"#]+)"', text):
            assert (page.parent / target).is_file(), target


def test_the_index_of_data_docs_begins_with_the_verdict_and_lists_every_expectation(passed):
    text = (passed / "data_docs/index.html").read_text()
    summary = GateSummary.read(passed / "summary.json")
    assert "Quality gate of mine" in text
    met, missed = len(summary.expectations), len(summary.not_checked)
    verdict = (
        f"<strong>Passed.</strong> {met} of {met} expectations met, 0 failed, 0 with warnings, {missed} not checked."
    )
    assert text.index(verdict) < text.index("<table")
    for expectation in (*suite(INTENSITIES, 3.0, 0.5), *leakage_suite(False)):
        assert f"<td>{escape(expectation.name)}</td>" in text


def test_alike_channels_share_a_line_of_the_index_and_what_was_not_checked_says_why(passed):
    text = (passed / "data_docs/index.html").read_text()
    lines = re.findall(r"<tr><td class=.*?</tr>", text)
    assert len([line for line in lines if "reflectance at least 0" in line]) == 1
    assert f"<td>{', '.join(INTENSITIES.sen2)}</td><td>reflectance at least 0</td>" in text
    assert len(lines) == len(set(lines))
    reasons = [re.findall(r"<td>(.*?)</td>", line)[2] for line in lines if 'class="not checked"' in line]
    assert len(reasons) > 3
    assert all(re.fullmatch(r"needs .{10,}", reason) for reason in reasons)


def test_pages_of_great_expectations_name_their_table(passed):
    (page,) = (passed / "data_docs/validations/patches").rglob("*.html")
    assert "Table: patches" in page.read_text()
    assert "Data asset: None" not in page.read_text()


def test_nothing_else_is_left(passed):
    assert sorted(path.name for path in passed.iterdir()) == [
        "data_docs",
        "statistics.parquet",
        "summary.json",
    ]


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("simulated from seed 1", "simulated"),
        ("raster of local climate zones a.tif; simulated from seed 1", "simulated"),
        ("arg-max of a network (weak labels, not ground truth)", "weak labels"),
        ("field survey", "unstated"),
        (None, "unstated"),
    ],
)
def test_the_kind_of_a_data_set_follows_from_its_source(source, kind):
    assert data_kind(source, None) == kind


# ---- what stops the pipeline


@pytest.mark.parametrize(
    ("stated", "release", "level"),
    [
        ({"L2A"}, None, "L2A"),
        ({None}, None, None),
        ({None}, SO2SAT_V2, "L1C"),
        ({"L2A"}, SO2SAT_V2, "L2A"),
        ({"L1C", None}, None, None),
    ],
)
def test_the_level_is_what_all_splits_state_or_that_of_so2sat(stated, release, level):
    assert data_level(stated, release) == level


@pytest.mark.parametrize(("table", "column"), [("patchs", "zeros_sen2"), ("patches", "zeros_sen3")])
def test_a_check_of_a_table_or_column_that_is_not_there_is_one_line(root, monkeypatch, table, column):
    mistyped = Expectation("no snow", "sen2", table, column, maximum=1.0)
    monkeypatch.setattr(quality, "leakage_suite", lambda _: [mistyped])
    with refuses("expectation 'sen2: no snow'", table if table != "patches" else column, "patches"):
        check(root)


def test_values_that_are_not_finite_are_refused(root):
    _, sen2, _ = random_patches(17, FEW, seed=2)
    sen2[3, 0, 0, 1] = np.nan
    sen2[11, 0, 0, 1] = np.inf
    edit(root, "testing", "sen2", sen2)
    docs = root.parent / "gate/data_docs/index.html"
    assert is_refused(root, "pixels: all values finite") == (
        "expectation 'pixels: all values finite' violated by 2 patches: "
        f"testing.h5[3], testing.h5[11]; 1 more failed, see {docs}"
    )


def test_labels_that_are_not_one_hot_are_refused(root):
    label = np.eye(17)
    label[5] = 0
    label[6, 0] = 1
    label[7] /= 2
    edit(root, "validation", "label", label)
    is_refused(root, "label: one-hot label", "3 patches", *(f"validation.h5[{row}]" for row in (5, 6, 7)))


def test_only_the_first_offenders_are_named(root):
    edit(root, "validation", "label", np.zeros((17, 17)))
    told = is_refused(root, "label: one-hot label", "17 patches", *(f"validation.h5[{row}]" for row in range(5)))
    assert "validation.h5[5]" not in told


@pytest.mark.parametrize(("value", "name"), [(3.5, "at most 3"), (-0.1, "at least 0")])
def test_reflectance_out_of_range_is_refused(root, value, name):
    _, sen2, _ = random_patches(17, FEW, seed=2)
    sen2[8, 31, 31, 1] = value
    edit(root, "testing", "sen2", sen2)
    is_refused(root, f"B12: reflectance {name}", "1 patches", "testing.h5[8]")


def test_negative_intensity_is_refused(root):
    sen1, _, _ = random_patches(34, FEW, seed=0)
    sen1[33, 0, 0, 1] = -1e-6
    edit(root, "training", "sen1", sen1)
    is_refused(root, "VH_lee_intensity: intensity at least 0", "1 patches", "training.h5[33]")


def test_a_patch_of_zeros_is_refused(root):
    sen1, _, _ = random_patches(34, FEW, seed=0)
    sen1[2, :17] = 0
    edit(root, "training", "sen1", sen1)
    is_refused(root, "sen1: share of zeros at most 0.5", "1 patches", "training.h5[2]")


def test_blank_patches_of_sentinel_2_are_the_first_thing_named(root):
    _, sen2, _ = random_patches(34, FEW, seed=0)
    sen2[10:] = 0
    edit(root, "training", "sen2", sen2)
    is_refused(root, "sen2: no blank patches, share of zeros at most 0.5", "24 patches", "training.h5[10]")


def test_an_identical_patch_in_two_splits_is_refused(root):
    training = random_patches(34, FEW, seed=0)
    testing = random_patches(17, FEW, seed=2)
    for position, key in enumerate(("sen1", "sen2")):
        testing[position][12] = training[position][30]
        edit(root, "testing", key, testing[position])
    is_refused(root, "pixels: no identical patch in two splits", "2 patches", "training.h5[30]", "testing.h5[12]")


def test_an_empty_split_is_refused(tmp_path):
    write_dataset(tmp_path / "mine", patches={**COUNTS, "validation": 0}, channels=FEW)
    is_refused(tmp_path / "mine", "split: at least one patch in each split", "1 splits", "validation.h5")


def test_an_empty_split_beside_a_full_geo_file_is_the_file_that_is_named(tmp_path):
    cities = {"training": 9, "validation": 2, "testing": 3}
    root = write_dataset(tmp_path / "mine", channels=FEW, cities=cities)
    for key, shape in (("sen1", (32, 32, 2)), ("sen2", (32, 32, 2)), ("label", (17,))):
        edit(root, "training", key, np.zeros((0, *shape)))
    with refuses(root / "training.h5", "no patches", "training_geo.h5", 34):
        check(root)


def test_a_training_split_of_one_class_is_refused(root):
    edit(root, "training", "label", np.tile(np.eye(17)[3], (34, 1)))
    is_refused(root, "label: at least two classes in training", "1 splits", "training.h5")


# ---- what is only reported


def test_an_identical_patch_twice_in_a_split_is_a_warning(root):
    sen1, sen2, _ = random_patches(34, FEW, seed=0)
    sen1[20], sen2[20] = sen1[3], sen2[3]
    edit(root, "training", "sen1", sen1)
    edit(root, "training", "sen2", sen2)
    assert list(check(root).warnings) == [
        "expectation 'pixels: no identical patch twice in a split' violated by 2 patches: "
        "training.h5[3], training.h5[20]"
    ]


def test_a_class_of_testing_that_training_lacks_is_a_warning(root):
    label = np.eye(17)[np.arange(34) % 15]
    edit(root, "training", "label", label)
    assert list(check(root).warnings) == [
        "expectation 'label: each class of testing occurs in training' violated by 2 classes: "
        "LCZ F (Bare soil or sand), LCZ G (Water)"
    ]
