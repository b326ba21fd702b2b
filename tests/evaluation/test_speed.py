"""Committed results of the benchmark, as the report finds and shows them."""

import json
from pathlib import Path
from typing import Any

import pytest

from bp_lcz.errors import UserError
from bp_lcz.evaluation import report
from bp_lcz.evaluation.speed import read_latest
from tests.evaluation.results import write_results
from tests.evaluation.test_report import PLAIN, Page, read, write

MACHINE = {
    **{"cpu": "Some CPU", "cores": 2, "memory_gib": 8.0, "gpu": None, "threads": 2, "torch": "2", "numpy": "2"},
    **{"commit": "abc", "date": "2026-01-02T03:04:05+00:00", "load_before": 0.1, "load_after": 1.9},
}
ROW = {
    **{"name": "hdf5", "what": "HDF5 in place", "against": "the <peer>", "unit": "patches/s"},
    **{"goal": {"bound": 15, "direction": "at least"}, "ours": 43210.0, "theirs": 2000.0, "ratio": 21.6},
    **{"interval": [20.0, 22.0], "verdict": "met", "repeats": 30, "cache": "warm", "note": "", "seconds": 1.0},
    "beside": {"two workers": "3,000 patches/s"},
}
MISSING = {
    **{"name": "gpu", "what": "an epoch", "against": "the floor", "unit": "s", "verdict": "not measured"},
    **{"goal": {"bound": 3, "direction": "at most"}, "note": "no GPU"},
}


def results(folder: Path, name: str = "machine", **machine: Any) -> Path:
    folder.mkdir(exist_ok=True)
    content = {"format": 1, "quick": False, "machine": MACHINE | machine, "rows": [ROW, MISSING]}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def test_the_latest_results_are_shown_whatever_the_machine(tmp_path: Path) -> None:
    results(tmp_path, "a", cpu="older")
    results(tmp_path, "b", cpu="newest", date="2026-03-01T00:00:00+00:00")
    results(tmp_path, "c", cpu="old", date="2026-02-01T00:00:00+00:00")
    (tmp_path / "d.growth.json").write_text("{}")
    content = read_latest(tmp_path)
    assert content is not None
    assert content["machine"]["cpu"] == "newest"


def test_without_results_there_is_nothing_to_show(tmp_path: Path) -> None:
    assert read_latest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 1, "machine": {"date": "x"}, "rows": [{}]}'])
def test_a_file_that_is_no_result_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.json").write_text(text)
    with pytest.raises(UserError, match=r"odd\.json: not a result of `bp-lcz bench`"):
        read_latest(tmp_path)


def test_another_format_is_named(tmp_path: Path) -> None:
    path = results(tmp_path)
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(UserError, match="another format than 1"):
        read_latest(tmp_path)


def test_the_report_shows_the_table_with_goal_and_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_draw", lambda *_: {section: [] for section in report.SECTIONS})  # takes seconds
    write_results(tmp_path, PLAIN)
    results(tmp_path / "benchmarks")
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    matrix = read(tmp_path, PLAIN)
    write(tmp_path / "with", matrix, benchmark=read_latest(tmp_path / "benchmarks"))
    write(tmp_path / "without", matrix)
    page = Page((tmp_path / "with/index.html").read_text())
    assert "#speed" in page.addresses
    text = " ".join(page.text)
    for part in ("43,210 patches/s", "the <peer>", "21.6 [20, 22]", "≥ 15", "met", "≤ 3", "no GPU", "Some CPU"):
        assert part in text
    assert "two workers: 3,000 patches/s" in (tmp_path / "with/report.md").read_text()
    assert "Speed" not in (tmp_path / "without/report.md").read_text()
    assert "#speed" not in Page((tmp_path / "without/index.html").read_text()).addresses
