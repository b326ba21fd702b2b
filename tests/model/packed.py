"""A packed data set and a prompt table, small enough to train on in a test."""

from pathlib import Path

import h5py
import numpy as np
import torch

from bp_lcz.params import TrialParams
from bp_lcz.patches.pack import pack
from bp_lcz.text.table import PromptTable
from tests.model.test_bp_lcz import trial
from tests.records import random_origin, small_summary
from tests.so2sat.patches import write_dataset

PATCHES = {"training": 68, "validation": 34, "testing": 34}


def small_trial(variant: str = "bp-lcz", **train: object) -> TrialParams:
    content = trial(variant, dimension=8).model_dump()
    content["train"] |= {"epochs": 3, "batch_size": 16, **train}
    return TrialParams.model_validate(content)


def write_inputs(folder: Path, patches: dict[str, int] = PATCHES, validated: int | None = None) -> tuple[Path, Path]:
    """Write ``packed/`` and ``prompts.safetensors``; return their paths. Validation may be of one class."""
    root = write_dataset(folder / "data", patches=patches, source="simulated for a test")
    if validated is not None:
        with h5py.File(root / "validation.h5", "r+") as file:
            file["label"][:] = np.eye(17)[[validated] * patches["validation"]]
    summary = small_summary(patches, source="simulated for a test")
    summary.write(folder / "summary.json")
    pack(root, summary, folder / "packed")
    names = torch.randn(17, 7, 12, generator=torch.Generator().manual_seed(0))
    embedding = torch.nn.functional.normalize(torch.stack([names, -names]), dim=-1)
    classes = torch.nn.functional.normalize(embedding.mean(2), dim=-1)
    PromptTable(embedding, classes, random_origin()).write(folder / "prompts.safetensors")
    return folder / "packed", folder / "prompts.safetensors"
