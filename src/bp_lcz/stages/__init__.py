"""One thin module for each stage of dvc.yaml, with one function ``run``."""
