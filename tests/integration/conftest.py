"""A DVC project with the form of this project's graph, whose stages are one small script."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bp_lcz.paths import CLAIMS
from tests.conftest import folder_of_this_run
from tests.records import small_claims, small_evaluation

# Prefect reads this when it is imported; flows/__init__.py would choose the checkout's own folder.
os.environ["PREFECT_HOME"] = folder_of_this_run("bp-lcz-prefect-")

# The stages' python is this one, with or without an activated environment.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

ROOT = Path(__file__).parents[2]

STAGES = """
stages:
  unneeded:
    cmd: exec python toy.py unneeded
    outs: [outputs/unneeded]
  validate:
    cmd: exec python toy.py validate
    deps: [toy.py]
    outs: [outputs/validate]
  prompts:
    cmd: exec python toy.py prompts
    deps: [toy.py]
    outs: [outputs/prompts]
  train:
    foreach: ${trials}
    do:
      cmd: exec python toy.py train ${key}
      params: [train.epochs]
      deps: ["outputs/validate", "outputs/prompts", "control/${key}"]
      outs: ["outputs/models/${key}"]
  evaluate:
    foreach: ${trials}
    do:
      cmd: exec python toy.py evaluate ${key}
      deps: ["outputs/models/${key}"]
      outs: ["outputs/evaluations/${key}/evaluation.json"]
      metrics: ["outputs/evaluations/${key}/metrics.json"]
      plots: ["outputs/evaluations/${key}/confusion.csv"]
  report:
    cmd: exec python toy.py report
    deps: [outputs/evaluations]
    outs: [reports]
  verify:
    cmd: exec python toy.py verify
    deps: [reports]
    outs: [outputs/verify]
"""

SCRIPT = """
import json, os, sys, time
from pathlib import Path

from bp_lcz.errors import Ending

stage, *trial = sys.argv[1:]
name = "@".join([stage, *trial])
Ending.write(None)
with open("events.log", "a") as log:
    print("start", name, file=log, flush=True)
    control = Path("control", *(trial or [stage])) if stage in ("train", "verify") else Path("none")
    command = control.read_text() if control.exists() else ""
    if command == "fail":
        Ending.write(1, "training.h5: label row 3 is not one-hot")
        sys.exit(1)
    if command == "die":
        if Path("events.log").read_text().count("start " + name) == 1:
            os.kill(os.getpid(), 9)
    if command == "busy":
        Ending.write(75, "server: does not answer")
        sys.exit(75)
    if command == "wait":
        from bp_lcz.cli import _die_with_parent

        _die_with_parent()  # as `bp-lcz` does
        Path("pid").write_text(str(os.getpid()))
        time.sleep(600)
    out = {"train": "outputs/models", "evaluate": "outputs/evaluations", "report": "."}.get(stage, "outputs")
    folder = Path(out, *trial) if trial else Path(out, "reports" if stage == "report" else stage)
    folder.mkdir(parents=True, exist_ok=True)
    score = json.loads(Path("evaluation.json").read_text()) | {"kappa": None if "plain" in name else 0.5}
    (folder / "evaluation.json").write_text(json.dumps(score))
    if stage == "evaluate":
        (folder / "metrics.json").write_text(json.dumps({"oa": score["oa"]}))
        (folder / "confusion.csv").write_text("true,predicted\\n1,1\\n")
    print("end", name, file=log, flush=True)
Ending.write(0)
"""


class ToyProject:
    """The small project, new or as a copy of another."""

    def __init__(self, folder: Path, other: Path | None = None) -> None:
        self.folder = folder
        self.trials = ["plain", "bp-lcz"]
        if other is not None:
            shutil.copytree(other, folder)
            (folder / "events.log").unlink()
            return
        (folder / ".dvc").mkdir(parents=True)
        (folder / ".dvc/config").write_text("[core]\n    analytics = false\n    autostage = false\n")
        (folder / ".dvc/.gitignore").write_text("/tmp\n/cache\n")
        (folder / ".gitignore").write_text((ROOT / ".gitignore").read_text() + "/events.log\n/pid\n")
        (folder / "dvc.yaml").write_text(STAGES)
        (folder / "toy.py").write_text(SCRIPT)
        small_evaluation(oa=0.625).write(folder / "evaluation.json")
        small_claims(method=("one seed tells nothing.",)).write(folder / CLAIMS)
        params = yaml.safe_load((ROOT / "params.yaml").read_text())
        params["trials"] = {trial: {"backbone": "eb_cnn", "variant": trial, "seed": 1} for trial in self.trials}
        (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        (folder / "control").mkdir()
        for trial in self.trials:
            self.control(trial, "succeed")
        subprocess.run(["git", "init", "--quiet", str(folder)], check=True)

    def control(self, trial: str, command: str) -> None:
        """What training this trial, or ``verify``, does: succeed, fail, wait, die once, or be busy (fail for a while)."""
        (self.folder / "control" / trial).write_text(command)

    @property
    def events(self) -> list[str]:
        """Starts and ends of stages so far."""
        log = self.folder / "events.log"
        return log.read_text().splitlines() if log.exists() else []

    @property
    def machine(self) -> tuple[Any, Any]:
        """Its devices, and the project's parameters."""
        from bp_lcz.params import load_params
        from flows.devices import Devices

        return Devices(2, []), load_params(self.folder / "params.yaml")

    @property
    def started(self) -> list[str]:
        return [event.removeprefix("start ") for event in self.events if event.startswith("start ")]


@pytest.fixture
def project(tmp_path: Path) -> ToyProject:
    return ToyProject(tmp_path / "project")


@pytest.fixture(scope="session")
def advanced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the project after some stages: making one takes seconds, copying it does not."""
    folder = tmp_path_factory.mktemp("advanced")
    project = ToyProject(folder / "finished")
    dvc(project, "repro", "validate", "prompts").check_returncode()
    shutil.copytree(project.folder, folder / "prepared")
    dvc(project, "repro", "verify").check_returncode()
    return folder


@pytest.fixture
def prepared(tmp_path: Path, advanced: Path) -> ToyProject:
    """The project when training may begin."""
    return ToyProject(tmp_path / "project", advanced / "prepared")


@pytest.fixture
def finished(tmp_path: Path, advanced: Path) -> ToyProject:
    """The project when all is up to date."""
    return ToyProject(tmp_path / "project", advanced / "finished")


def dvc(project: ToyProject, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *arguments]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
