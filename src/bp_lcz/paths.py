"""Paths that the stages read and write, relative to the checkout or workspace in which they run.

``dvc.yaml`` repeats these paths, since DVC cannot import them. Stages use only these constants.
"""

from pathlib import Path

DEMO = Path("data/demo")
OUTPUTS = Path("outputs")
GATE = OUTPUTS / "gate"
SUMMARY = GATE / "summary.json"
GATE_FIGURES = GATE / "figures"
PACKED = OUTPUTS / "packed"
PROMPTS = OUTPUTS / "prompts.safetensors"
MODELS = OUTPUTS / "models"
EVALUATIONS = OUTPUTS / "evaluations"
REPORTS = Path("reports")
CLAIMS = OUTPUTS / "claims.json"
PAPER = Path("paper.yaml")
REFERENCES = Path("references.yaml")
STARTS = OUTPUTS / "starts"
"""Checkpoints that training begins with, each in its `start_folder`."""
SCRATCH = Path(".scratch")


def start_folder(starts: Path, sha256: str) -> Path:
    """Folder of the checkpoint with these weights."""
    return starts / sha256[:16]
