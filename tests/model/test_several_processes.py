"""One trial trained by two processes on the CPU (gloo), which share every batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bp_lcz.params import TrialParams
from tests.conftest import ROOT
from tests.integration.test_flow import is_alive, wait_for
from tests.model.packed import small_trial, write_inputs
from tests.model.test_training import RESULTS, history

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

# A file, since Lightning starts the program of the first process again for the second.
PROGRAM = """
import os, sys
from pathlib import Path
from bp_lcz.cli import _die_with_parent
from bp_lcz.model.training import train_trial
from bp_lcz.params import TrialParams
packed, prompts, scratch, out, trial, pids = sys.argv[1:]
_die_with_parent()
(Path(pids) / str(os.getpid())).touch()
train_trial(TrialParams.model_validate_json(trial), Path(packed), Path(prompts), Path(scratch), Path(out))
"""


def start(inputs: tuple[Path, Path], folder: Path, trial: TrialParams) -> subprocess.Popen[str]:
    pids = folder / "pids"
    pids.mkdir(parents=True, exist_ok=True)
    program = folder / "program.py"
    program.write_text(PROGRAM)
    arguments = [*map(str, inputs), str(folder / "scratch"), str(folder / "out"), trial.model_dump_json(), str(pids)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1", "DVC_ROOT": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", str(program), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def kill_when_printed(trainer: subprocess.Popen[str], text: str) -> None:
    """Kill a trainer, as ``kill -9`` does, at the first line that has the text."""
    assert trainer.stdout is not None
    assert any(text in line for line in trainer.stdout), f"ended without {text}"
    trainer.kill()
    trainer.wait()


def train(inputs: tuple[Path, Path], folder: Path, trial: TrialParams) -> str:
    trainer = start(inputs, folder, trial)
    printed, _ = trainer.communicate()
    assert trainer.returncode == 0, printed[-3000:]
    return printed


def test_two_processes_repeat_themselves_write_once_and_survive_a_kill(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path)
    trial = small_trial(epochs=6, patience=6, devices=2)
    printed = train(inputs, tmp_path / "first", trial)
    assert len(list((tmp_path / "first/pids").iterdir())) == 2
    assert "on 2 x cpu" in printed
    assert printed.count("epoch 1/") == 1
    rows = history(tmp_path / "first/out")
    assert [int(row["epoch"]) for row in rows] == list(range(1, 7))
    assert float(rows[-1]["training_loss"]) < float(rows[0]["training_loss"])
    assert json.loads((tmp_path / "first/out/model.json").read_text())["train"]["devices"] == 2

    killed = start(inputs, tmp_path / "second", trial)
    kill_when_printed(killed, "epoch 3/")
    for process in (tmp_path / "second/pids").iterdir():
        wait_for(lambda process=process: not is_alive(int(process.name)))
    assert not (tmp_path / "second/out").exists()
    assert "resuming from" in train(inputs, tmp_path / "second", trial)
    for name in RESULTS:
        assert (tmp_path / "first/out" / name).read_bytes() == (tmp_path / "second/out" / name).read_bytes()
