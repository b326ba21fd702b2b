"""One cell trained by two processes on the CPU (gloo), which share every batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bp_lcz.params import CellParams
from tests.conftest import ROOT
from tests.integration.test_flow import is_alive, wait_for
from tests.model.packed import kill_when_printed, small_cell, write_inputs
from tests.model.test_training import RESULTS, history

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

# A file, since Lightning starts the program of the first process again for the second.
PROGRAM = """
import os, sys
from pathlib import Path
from bp_lcz.cli import _die_with_parent
from bp_lcz.model.training import train_cell
from bp_lcz.params import CellParams
packed, prompts, scratch, out, cell, pids = sys.argv[1:]
_die_with_parent()
(Path(pids) / str(os.getpid())).touch()
train_cell(CellParams.model_validate_json(cell), Path(packed), Path(prompts), Path(scratch), Path(out))
"""


def start(inputs: tuple[Path, Path], folder: Path, cell: CellParams) -> subprocess.Popen[str]:
    pids = folder / "pids"
    pids.mkdir(parents=True, exist_ok=True)
    program = folder / "program.py"
    program.write_text(PROGRAM)
    arguments = [*map(str, inputs), str(folder / "scratch"), str(folder / "out"), cell.model_dump_json(), str(pids)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1", "DVC_ROOT": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", str(program), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def train(inputs: tuple[Path, Path], folder: Path, cell: CellParams) -> str:
    trainer = start(inputs, folder, cell)
    printed, _ = trainer.communicate()
    assert trainer.returncode == 0, printed[-3000:]
    return printed


def test_two_processes_repeat_themselves_write_once_and_survive_a_kill(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path)
    cell = small_cell(epochs=6, patience=6, devices=2)
    printed = train(inputs, tmp_path / "first", cell)
    assert len(list((tmp_path / "first/pids").iterdir())) == 2
    assert "on 2 x cpu" in printed
    assert printed.count("epoch 1/") == 1
    rows = history(tmp_path / "first/out")
    assert [int(row["epoch"]) for row in rows] == list(range(6))
    assert float(rows[-1]["training_loss"]) < float(rows[0]["training_loss"])
    assert json.loads((tmp_path / "first/out/model.json").read_text())["train"]["devices"] == 2

    killed = start(inputs, tmp_path / "second", cell)
    kill_when_printed(killed, "epoch 3/")
    for process in (tmp_path / "second/pids").iterdir():
        wait_for(lambda process=process: not is_alive(int(process.name)))
    assert not (tmp_path / "second/out").exists()
    assert "resuming from" in train(inputs, tmp_path / "second", cell)
    for name in RESULTS:
        assert (tmp_path / "first/out" / name).read_bytes() == (tmp_path / "second/out" / name).read_bytes()
