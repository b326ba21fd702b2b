"""Trials that no table could hold are refused before the first of them is trained."""

from pathlib import Path

import pytest
import yaml

from bp_lcz.params import load_params
from bp_lcz.stages import prompts
from tests.refusals import refuses

ROOT = Path(__file__).parents[2]


def test_a_seed_that_only_some_trials_have_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["trials"]["second"] = {"backbone": "resnet", "variant": "plain", "seed": 2}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    with refuses("params.yaml", "seed 2"):
        prompts.run(load_params(tmp_path / "params.yaml"))
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("place", ["section", "override"])
def test_a_mistyped_option_of_any_backbone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    last = content["trials"]["last"] = {"backbone": "resnet", "variant": "plain", "seed": 1}
    mistyped = {"widht": 64}
    if place == "section":
        content["backbones"]["resnet"] |= mistyped
    else:
        last["overrides"] = {"backbone": mistyped}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    with refuses("params.yaml", "backbones.resnet.widht"):
        prompts.run(load_params(tmp_path / "params.yaml"))
    assert not (tmp_path / "outputs").exists()
