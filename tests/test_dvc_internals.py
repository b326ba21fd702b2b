"""The module that runs DVC, compared with DVC itself."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

from bp_lcz.dvc_internals import UP_TO_DATE
from bp_lcz.errors import STATUS_FILE, Ending

STAGES = {
    "first": {"cmd": "echo 1 > first", "params": ["set"], "outs": ["first"]},
    "second": {"cmd": "mkdir second && cp first second", "deps": ["first"], "outs": ["second"]},
}
VALUES = {"nothing": None, "text": "1e5", "words": "a: b # c", "truth": "yes", "list": [0.1, 1e-9, "12:30"]}


def repository(folder: Path) -> Path:
    folder.mkdir()
    run("dvc", "init", "--no-scm", "--quiet", folder=folder)
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    (folder / "params.yaml").write_text(yaml.safe_dump({"set": VALUES}))
    return folder


def run(module: str, *arguments: str, folder: Path, **environment: str) -> None:
    command = [sys.executable, "-m", module, *arguments]
    subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, check=True)


def repro(folder: Path, stage: str) -> str:
    status = folder.parent / f"{folder.name}-{stage}.json"
    run("bp_lcz.dvc_internals", "repro", stage, folder=folder, **{STATUS_FILE: str(status)})
    ending = Ending.read(status)
    assert ending is not None
    status.unlink()
    return ending.message


def test_stages_leave_the_bytes_of_the_lock_that_dvc_leaves(tmp_path: Path) -> None:
    ours, theirs = repository(tmp_path / "ours"), repository(tmp_path / "theirs")
    for stage in STAGES:
        repro(ours, stage)
    run("dvc", "repro", folder=theirs)
    assert (ours / "dvc.lock").read_bytes() == (theirs / "dvc.lock").read_bytes()
    assert {repro(ours, stage) for stage in STAGES} == {UP_TO_DATE}


def test_another_parameter_changes_the_lock_in_one_stage_only(tmp_path: Path) -> None:
    folder = repository(tmp_path / "one")
    for stage in STAGES:
        repro(folder, stage)
    before = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    (folder / "params.yaml").write_text(yaml.safe_dump({"set": VALUES | {"text": "other"}}))
    repro(folder, "first")
    after = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    assert after["first"]["params"]["params.yaml"]["set"]["text"] == "other"
    assert after["second"] == before["second"]
