"""What all tests share."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

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
