"""The stage graph against the code: a forgotten dependency would silently leave stale results."""

import ast
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

SOURCE = ROOT / "src"
# Not part of what a stage computes: how it is called, what an error is, where files lie.
# params.py decides through params.yaml, which DVC watches by value.
CARRIERS = {f"src/bp_lcz/{name}.py" for name in ("cli", "errors", "files", "params", "paths", "__init__")}

STAGES: dict[str, dict[str, object]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
BACKBONES = sorted(p.stem for p in (SOURCE / "bp_lcz/model/backbones").glob("[a-z]*.py"))


def file_of(module: str) -> Path | None:
    path = SOURCE.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def imports(file: Path) -> set[Path]:
    """Files of the package that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found |= {path for name in names if name.startswith("bp_lcz.") and (path := file_of(name))}
    return found


def closure(file: Path) -> set[str]:
    """Everything that the file imports, directly or not, as paths from the root."""
    reached, waiting = set(), [file]
    while waiting:
        current = waiting.pop()
        if current not in reached:
            reached.add(current)
            waiting += imports(current)
    return {path.relative_to(ROOT).as_posix() for path in reached}


def dependencies(stage: str, backbone: str) -> set[str]:
    definition = STAGES[stage]
    content = definition.get("do", definition)
    assert isinstance(content, dict)
    named = [dep.replace("${item.backbone}", backbone) for dep in content["deps"]]
    files = set()
    for dep in named:
        path = ROOT / dep
        files |= {p.relative_to(ROOT).as_posix() for p in path.rglob("*.py")} if path.is_dir() else {dep}
    return files


def needed_by(stage: str, backbone: str) -> set[str]:
    """Everything that the stage runs for a trial of the backbone."""
    needed = closure(SOURCE / f"bp_lcz/stages/{stage}.py")
    if "src/bp_lcz/model/backbones/__init__.py" in needed:
        # Loaded by name, so no import statement shows it.
        needed |= closure(SOURCE / f"bp_lcz/model/backbones/{backbone}.py")
    return needed


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("stage", STAGES)
def test_every_module_that_a_stage_imports_is_among_its_dependencies(stage: str, backbone: str) -> None:
    needed = needed_by(stage, backbone)
    packages = {name for name in needed if name.endswith("__init__.py") and "backbones" not in name}
    missing = needed - packages - CARRIERS - dependencies(stage, backbone)
    assert not missing, f"dvc.yaml: stage {stage} imports but does not depend on {sorted(missing)}"


@pytest.mark.parametrize("stage", STAGES)
def test_every_dependency_on_code_exists_and_is_needed_by_some_backbone(stage: str) -> None:
    needed = set().union(*(needed_by(stage, backbone) for backbone in BACKBONES))
    for backbone in BACKBONES:
        for dep in dependencies(stage, backbone):
            if dep.startswith("src/") and dep.endswith(".py"):
                assert (ROOT / dep).is_file()
                assert dep in needed or dep.endswith("__init__.py"), dep


def test_trials_do_not_depend_on_each_others_backbones() -> None:
    deps = STAGES["train"]["do"]["deps"]  # type: ignore[index]
    assert "src/bp_lcz/model/backbones/${item.backbone}.py" in deps
    assert not any(dep.rstrip("/") in ("src/bp_lcz/model/backbones", "src/bp_lcz/model") for dep in deps)


def test_python_caches_are_invisible_to_dvc() -> None:
    assert "__pycache__/" in (ROOT / ".dvcignore").read_text().splitlines()
