"""A lock file that is committed against the one that a run leaves."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bp_lcz.committed import compare_bytes

DEFINITIONS = """
stages:
  pack: {cmd: pack, deps: [src], outs: [packed]}
  train:
    foreach: ${trials}
    do:
      cmd: train
      deps: [packed]
      outs: ["models/${key}/model", "models/${key}/times": {meta: {timed: true}}]
  report: {cmd: report, deps: [models], outs: [figures, page.html: {meta: {timed: true}}]}
"""


def entry(deps: dict[str, str], outs: dict[str, str]) -> dict[str, Any]:
    return {
        kind: [{"path": path, "md5": md5} for path, md5 in files.items()]
        for kind, files in (("deps", deps), ("outs", outs))
    }


def lock() -> dict[str, Any]:
    return {
        "pack": entry({"src": "1"}, {"packed": "2"}),
        "train@one": entry({"packed": "2"}, {"models/one/model": "3", "models/one/times": "4"}),
        "report": entry({"models": "5"}, {"figures": "6", "page.html": "7"}),
    }


def write(folder: Path, stages: dict[str, Any], dataset: str = "data/demo") -> None:
    (folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    (folder / "params.yaml").write_text(yaml.safe_dump({"profile": None, "dataset": {"root": dataset}}))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A commit with a lock, and the outputs of its run."""
    (tmp_path / "dvc.yaml").write_text(DEFINITIONS)
    write(tmp_path, lock())
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    for out in ("packed", "models/one/model", "models/one/times", "figures", "page.html"):
        (tmp_path / out).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / out).touch()
    return tmp_path


def timed_only(stages: dict[str, Any]) -> None:
    stages["train@one"]["outs"][1]["md5"] = "other"
    stages["report"]["deps"][0]["md5"] = "other"  # the folder that holds the times
    stages["report"]["outs"][1]["md5"] = "other"


def other_weights(stages: dict[str, Any]) -> None:
    timed_only(stages)
    stages["train@one"]["outs"][0]["md5"] = "other"


def other_figures(stages: dict[str, Any]) -> None:
    timed_only(stages)
    stages["report"]["outs"][0]["md5"] = "other"


def other_code(stages: dict[str, Any]) -> None:
    stages["pack"] = entry({"src": "other"}, {"packed": "other"})
    stages["train@one"]["deps"][0]["md5"] = "other"  # and the same weights all the same


def other_trials(stages: dict[str, Any]) -> None:
    stages["train@two"] = stages.pop("train@one")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (timed_only, "3 of 3 stages as in dvc.lock"),
        (other_weights, "2 of 3 stages as in dvc.lock; other outputs of equal inputs: train@one"),
        (other_figures, "2 of 3 stages as in dvc.lock; other outputs of equal inputs: report"),
        (other_code, "2 of 3 stages as in dvc.lock; other inputs: pack"),
        (
            other_trials,
            "2 of 4 stages as in dvc.lock; not run here: train@one; not in it: train@two",
        ),
    ],
)
def test_stages_are_counted_and_the_others_named_by_the_reason(
    checkout: Path, change: Callable[[dict[str, Any]], None], line: str
) -> None:
    stages = lock()
    change(stages)
    write(checkout, stages)
    assert str(compare_bytes(checkout)) == line


def test_a_record_without_its_outputs_is_no_run(checkout: Path) -> None:
    (checkout / "packed").unlink()
    assert str(compare_bytes(checkout)) == "2 of 3 stages as in dvc.lock; not run here: pack"


def test_other_data_are_not_compared(checkout: Path) -> None:
    write(checkout, lock(), "data/mine")
    assert str(compare_bytes(checkout)).startswith("not compared: the committed dvc.lock is of other data")


def test_without_a_committed_lock_nothing_is_compared(checkout: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "-C", str(checkout), "update-ref", "-d", "HEAD"], check=True)
    assert str(compare_bytes(checkout)) == "not compared: no dvc.lock is committed"
