"""The README's commands in a fresh clone, environment included. Minutes."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.checkout import copy_checkout

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("clone"))


def make(clone: Path, *arguments: str) -> str:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "MLFLOW_", "PYTHON", "VIRTUAL_ENV"))
    }
    result = subprocess.run(
        ["make", *arguments], cwd=clone, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.mark.timeout(3600)
def test_make_reproduce_ends_with_a_registered_demo_model(clone: Path) -> None:
    printed = make(clone, "reproduce")
    assert "registered  bp-lcz-demo version 1 @challenger" in printed
    assert (clone / "reports/index.html").is_file()


@pytest.mark.timeout(3600)
@pytest.mark.shared
def test_make_reproduce_on_real_patches_ends_with_a_registered_model(clone: Path, shared_data: Path) -> None:
    printed = make(clone, "reproduce", f"DATASET={shared_data / 'real_mini'}")
    assert "registered  bp-lcz-real_mini version 1 @challenger" in printed
    assert "weak labels" in printed
