"""Where the stages read and write, relative to the checkout or workspace in which they run.

``dvc.yaml`` names the same paths, since DVC cannot import them; a stage uses these constants only.
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
SCRATCH = Path(".scratch")
