"""Committed results of the benchmark, as `bp-lcz bench --show` finds them."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import GpuResults
from benchmarks.growth import GrowthResults
from benchmarks.speed import BENCHMARKS, SpeedResults, read_latest
from bp_lcz.records import Record
from tests.conftest import ROOT
from tests.refusals import refuses

MACHINE = {
    **{"cpu": "Some CPU", "cores": 2, "memory_gib": 8.0, "gpu": None, "threads": 2, "torch": "2", "numpy": "2"},
    **{
        "commit": "abc",
        "date": "2026-01-02T03:04:05+00:00",
        "system": "Linux",
        "python": "3",
        "load_before": 0.1,
        "load_after": 1.9,
    },
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
    assert content.machine.cpu == "newest"


def test_without_results_there_is_nothing_to_show(tmp_path: Path) -> None:
    assert read_latest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 1, "machine": {"date": "x"}, "rows": [{}]}'])
def test_a_file_that_is_no_result_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.json").write_text(text)
    with refuses(tmp_path / "odd.json", "`bp-lcz bench`"):
        read_latest(tmp_path)


def test_another_format_is_named(tmp_path: Path) -> None:
    path = results(tmp_path)
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with refuses(path, "format 2"):
        read_latest(tmp_path)


@pytest.mark.parametrize(
    ("form", "pattern"), [(SpeedResults, "*cores.json"), (GrowthResults, "*.growth.json"), (GpuResults, "*.gpu.json")]
)
def test_the_committed_results_are_in_form(form: type[Record], pattern: str) -> None:
    assert [form.read(file) for file in (ROOT / BENCHMARKS).glob(pattern)]
