"""What a trained trial came from: the data's md5, the commit, and the hash of its DVC record."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from bp_lcz.errors import UserError
from bp_lcz.params import Params
from bp_lcz.paths import MODELS, PACKED
from bp_lcz.records import ModelDescription, PackManifest, TrialTags
from bp_lcz.workspace import LOCK_FILE, git

_CODE = ("src", "dvc.yaml", "constraints.txt", "constraints-runtime.txt")
"""Paths that determine a result, besides parameters and data, which have tags of their own."""


def tags_of_trials(workspace: Path, params: Params, trials: Iterable[str]) -> dict[str, TrialTags]:
    """Tags by which a run or a model version of each trial is found and traced.

    What the trials share is read once: DVC's record of a study of 90 trials takes six seconds.

    Raises:
        UserError: if DVC has no record of a trial or of the data, or a trial's files are not there.
    """
    lock = _read_lock(workspace)
    shared = {
        "data_md5": _data_md5(workspace, lock, params.dataset.root),
        "testing_digest": PackManifest.read(workspace / PACKED / "manifest.json").digest("testing."),
        "git_commit": git(workspace, "rev-parse", "HEAD"),
        "git_dirty": "true" if git(workspace, "status", "--porcelain", "--", *_CODE) else "false",
    }
    return {trial: _tags(workspace, trial, _lock_hash(lock, trial), shared) for trial in trials}


def _tags(workspace: Path, trial: str, lock_hash: str, shared: dict[str, Any]) -> TrialTags:
    description = ModelDescription.read(workspace / MODELS / trial / "model.json")
    return TrialTags(
        trial=trial,
        backbone=description.backbone,
        variant=description.variant,
        seed=str(description.seed),
        prompts=json.dumps(description.prompts.model_dump()),
        dataset=description.dataset,
        kind=description.kind,
        leakage=description.leakage.status,
        channels=json.dumps({"sen1": description.channels.sen1, "sen2": description.channels.sen2}),
        level=description.level or "not stated",
        lock_hash=lock_hash,
        weights_sha256=description.weights_sha256,
        versions=json.dumps(description.versions, sort_keys=True),
        **shared,
    )


def _read_lock(workspace: Path) -> dict[str, Any]:
    file = workspace / LOCK_FILE
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        stages: dict[str, Any] = content["stages"]
    except FileNotFoundError:
        raise UserError(file, "not found; run `dvc repro` first") from None
    except (yaml.YAMLError, KeyError, TypeError):
        raise UserError(file, "not a DVC lock file") from None
    return stages


def _lock_hash(lock: dict[str, Any], trial: str) -> str:
    entries = {stage: lock.get(stage) for stage in (f"train@{trial}", f"evaluate@{trial}")}
    for stage, entry in entries.items():
        if entry is None:
            raise UserError(LOCK_FILE, f"no record of {stage}; run `dvc repro` first")
    canonical = json.dumps(entries, sort_keys=True, separators=(",", ":"))
    return hashlib.md5(canonical.encode(), usedforsecurity=False).hexdigest()


def _data_md5(workspace: Path, lock: dict[str, Any], root: str) -> str:
    folder = os.path.normpath(workspace / root)
    for dependency in lock.get("validate", {}).get("deps", []):
        if os.path.normpath(workspace / dependency["path"]) == folder:
            return str(dependency["md5"])
    raise UserError(LOCK_FILE, f"no record of {root} under validate; run `dvc repro` first")
