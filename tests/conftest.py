"""What all tests share."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Several processes of tests share the cores. Must be set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Shapes in annotations are claims; in tests they are checked. Must run before the package is imported.
install_import_hook("bp_lcz", "beartype.beartype")


def folder_of_this_run(prefix: str) -> str:
    """A temporary folder that goes with the process."""
    folder = tempfile.mkdtemp(prefix=prefix)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


# Flows of this test run wait for each other's devices, not for those of the person who runs the tests.
os.environ["BP_LCZ_SLOTS"] = folder_of_this_run("bp-lcz-slots-")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real patches and golden files, which are not part of the project."""
    folder = Path(os.environ.get("BP_LCZ_SHARED", ROOT / "../shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} not found: set BP_LCZ_SHARED to run on real patches and golden files")
    return folder.resolve()


@pytest.fixture
def case(tmp_path: Path) -> Callable[..., Path]:
    """Runs a script that makes inputs which once failed, and gives the folder in which they lie."""
    folder = Path(os.environ.get("BP_LCZ_SHARED", ROOT / "../shared")).resolve() / "cases"

    def run(name: str, **variables: object) -> Path:
        script = folder / name
        if not script.is_file():
            pytest.skip(f"{script} not found: set BP_LCZ_SHARED to run on inputs that once failed")
        environment = os.environ | {"W": str(tmp_path)} | {key: str(value) for key, value in variables.items()}
        subprocess.run([sys.executable, script], cwd=folder, env=environment, check=True, capture_output=True)
        return tmp_path

    return run
