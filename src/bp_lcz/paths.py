"""Where the stages read and write, relative to the checkout or workspace in which they run.

``dvc.yaml`` names the same paths, since DVC cannot import them; a stage uses these constants only.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEMO = Path("data/demo")
OUTPUTS = Path("outputs")
GATE = OUTPUTS / "gate"
SUMMARY = GATE / "summary.json"
PACKED = OUTPUTS / "packed"
PROMPTS = OUTPUTS / "prompts.safetensors"
MODELS = OUTPUTS / "models"
EVALUATIONS = OUTPUTS / "evaluations"
REPORTS = Path("reports")
CLAIMS = OUTPUTS / "claims.json"
PAPER = Path("paper.yaml")
SCRATCH = Path(".scratch")


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside ``target`` that takes its place when the block ends without an exception.

    After an exception nothing of it is left and ``target`` is as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        new = scratch / "new"
        new.mkdir()
        yield new
        if target.exists():
            target.rename(scratch / "old")
        new.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def staged_file(target: Path) -> Iterator[Path]:
    """A path beside ``target`` whose file takes its place when the block ends without an exception.

    After an exception nothing of it is left and ``target`` is as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        new = Path(scratch) / target.name
        yield new
        new.replace(target)
