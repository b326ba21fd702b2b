"""Counts the stages whose outputs have the bytes of the committed ``dvc.lock``. It only informs, and never fails."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bp_lcz.errors import UserError
from bp_lcz.params import PARAMS_FILE
from bp_lcz.workspace import LOCK_FILE, git


@dataclass(frozen=True)
class Compared:
    """Stages with the committed bytes, and all others; one line as text.

    Attributes:
        same: number of stages with the committed bytes.
        stages: number of all stages.
        others: all other stages, by reason.
        why_not: why nothing was compared; None if stages were compared.
    """

    same: int = 0
    stages: int = 0
    others: Mapping[str, Sequence[str]] = field(default_factory=dict)
    why_not: str | None = None

    def __str__(self) -> str:
        """Counts, and names of the others."""
        if self.why_not is not None:
            return f"not compared: {self.why_not}"
        said = f"{self.same} of {self.stages} stages as in {LOCK_FILE}"
        return "; ".join([said, *(f"{reason}: {', '.join(stages)}" for reason, stages in self.others.items())])


def compare_bytes(workspace: Path) -> Compared:
    """Compare the outputs of each stage with the committed lock.

    Outputs that ``dvc.yaml`` marks with ``meta: {timed: true}`` are left out: they hold times, which differ in every
    run.
    """
    try:
        committed, params_then = (_yaml(git(workspace, "show", f"HEAD:./{name}")) for name in (LOCK_FILE, PARAMS_FILE))
    except UserError:
        return Compared(why_not=f"no {LOCK_FILE} is committed")
    here, params_now = (_yaml_file(workspace / name) for name in (LOCK_FILE, PARAMS_FILE))
    of_now, of_then = ((each.get("profile"), each.get("dataset")) for each in (params_now, params_then))
    if of_now != of_then:
        return Compared(why_not=f"the committed {LOCK_FILE} is of other data or another profile")
    then, now = (lock.get("stages", {}) for lock in (committed, here))
    definitions = _yaml_file(workspace / "dvc.yaml").get("stages", {})
    same, reasons = list[str](), dict[str, list[str]]()
    for stage in sorted(then | now):
        if stage not in then:
            reason = "not in it"
        elif stage not in now or not all((workspace / path).exists() for path in _md5s(now[stage], "outs", set())):
            reason = "not run here"
        else:
            timed = set(_timed(definitions, stage))
            if _md5s(then[stage], "outs", timed) == _md5s(now[stage], "outs", timed):
                same.append(stage)
                continue
            every_timed = {path for each in now for path in _timed(definitions, each)}
            inputs = [(entry.get("params"), _md5s(entry, "deps", every_timed)) for entry in (then[stage], now[stage])]
            reason = "other outputs of equal inputs" if inputs[0] == inputs[1] else "other inputs"
        reasons.setdefault(reason, []).append(stage)
    return Compared(len(same), len(then | now), reasons)


def _timed(definitions: dict[str, Any], stage: str) -> Iterable[str]:
    name, _, key = stage.partition("@")
    definition = definitions.get(name, {})
    for out in definition.get("do", definition).get("outs", []):
        if isinstance(out, dict):
            for path, options in out.items():
                if (options.get("meta") or {}).get("timed"):
                    yield path.replace("${key}", key)


def _md5s(entry: dict[str, Any], kind: str, timed: set[str]) -> dict[str, str | None]:
    """The md5 of a stage's files and folders, except those that are timed or hold timed ones."""
    files = {each["path"]: each.get("md5") for each in entry.get(kind, [])}
    return {path: md5 for path, md5 in files.items() if not any(f"{each}/".startswith(f"{path}/") for each in timed)}


def _yaml_file(file: Path) -> dict[str, Any]:
    return _yaml(file.read_text(encoding="utf-8")) if file.exists() else {}


def _yaml(text: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        content = None
    return content if isinstance(content, dict) else {}
