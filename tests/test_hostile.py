"""In every hostile environment a command works, or ends with one line and nothing half written."""

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml

from bp_lcz.bands import SEN1_BANDS
from bp_lcz.params import SPLITS
from tests.conftest import ROOT
from tests.fuzz.targets import TARGETS
from tests.hostile import COMMANDS, HARMLESS, LIMITS, UNSTEADY
from tests.so2sat.patches import random_patches, write_dataset

ENVIRONMENTS = HARMLESS | LIMITS
STEADY = tuple(name for name in ENVIRONMENTS if name not in UNSTEADY)
QUICK = ("score", "split", "tile", "predict", "workspace")
FAILS = {"pack", "models", "rollback"}
"""Nothing was validated, and there is no such model."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkout with a data set, scenes, a model and predictions."""
    folder = tmp_path_factory.mktemp("hostile") / "checkout"
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc/config").write_text("[core]\n    analytics = false\n")
    for name in ("params.yaml", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["dataset"]["root"] = "own"
    params["simulate"] |= {"patches": dict.fromkeys(SPLITS, 34), "cities": dict.fromkeys(SPLITS, 2)}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (folder / "new").mkdir()
    for name in ("geotiff-s2", "description"):
        (folder / name).mkdir()
        TARGETS[name].make(folder / name)
    for name in ("s1.tif", "s2.tif"):
        (folder / "geotiff-s2" / name).rename(folder / name)
    with rasterio.open(folder / "s1.tif") as scene:
        profile = scene.profile | {"count": len(SEN1_BANDS)}
    with rasterio.open(folder / "radar.tif", "w", **profile) as scene:
        patches = random_patches(4)[0].reshape(2, 2, 32, 32, -1)
        scene.write(patches.transpose(4, 0, 2, 1, 3).reshape(-1, 64, 64).astype("float32"))
    (folder / "description").rename(folder / "model")
    np.savez(folder / "p.npz", y_true=np.arange(1, 18), y_pred=np.arange(1, 18))
    counts = {"training": 34, "validation": 17, "testing": 17}
    write_dataset(folder / "own", patches=counts, cities=dict.fromkeys(counts, 3), source="a test")
    listed = [
        {"name": file.name, "size": file.stat().st_size, "md5": hashlib.md5(file.read_bytes()).hexdigest()}
        for file in sorted((folder / "own").iterdir())
    ]
    release = {"name": "mine", "files": listed, "mirrors": ["http://127.0.0.1:9/x"]}
    (folder / "release.json").write_text(json.dumps(release))
    git = ["git", "-C", str(folder), "-c", "user.name=T", "-c", "user.email=t@example.org"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "state"]):
        subprocess.run([*git, *command], check=True)
    return folder


@functools.cache
def outcomes(
    source: Path, commands: tuple[str, ...], environments: tuple[str, ...]
) -> dict[tuple[str, str], tuple[int, str, list[str]]]:
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "tests.hostile",
            *map(json.dumps, (str(source), commands, environments)),
        ],
        cwd=ROOT,
        env={**os.environ, "LC_ALL": "C", "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {(environment, command): (status, said, left) for environment, command, status, said, left in lines}


def some_are_slow(names: Iterable[str], quick: Iterable[str]) -> list[Any]:
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("environment", some_are_slow(ENVIRONMENTS, STEADY))
@pytest.mark.parametrize("command", some_are_slow(COMMANDS, QUICK))
def test_a_command_works_or_ends_with_one_line_and_leaves_nothing(source: Path, command: str, environment: str) -> None:
    commands = QUICK if command in QUICK else (command,)
    environments = STEADY if environment in STEADY else UNSTEADY
    status, said, left = outcomes(source, commands, environments)[environment, command]
    assert "Traceback" not in said, said
    if environment in HARMLESS and command not in FAILS:
        assert status == 0, said
    if status:
        assert status in (1, 69, 75), said
        assert len([line for line in said.splitlines() if line.startswith("error: ")]) == 1, said
    # Without a file to open no folder can be emptied either; the next run does it.
    assert not left or environment == "few open files"
