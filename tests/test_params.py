"""``params.yaml``: what is refused, and how the refusal reads."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from bp_lcz.errors import UserError
from bp_lcz.params import load_params
from tests.conftest import ROOT


def write(folder: Path, change: dict[str, Any]) -> Path:
    """The committed parameters with some keys set, given as dotted paths."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    for dotted, value in change.items():
        *parents, last = dotted.split(".")
        section = content
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
    file = folder / "params.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def test_committed_parameters_are_valid() -> None:
    params = load_params(ROOT / "params.yaml")
    assert {params.trial(name).variant for name in params.trials} == {"plain", "bgp", "bp-lcz"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.epoch", 3, "train.epoch: unknown key"),
        ("trian", {}, "trian: unknown key"),
        ("cells", {}, "cells: unknown key; it is now called trials"),
        ("train.epochs", 0, "train.epochs: Input should be greater than 0"),
        ("train.epochs", "3", "train.epochs: Input should be a valid integer"),
        ("train.learning_rate", float("inf"), "train.learning_rate: Input should be"),
        ("train.learning_rate", float("nan"), "train.learning_rate: Input should be"),
        ("train.precision", "64-true", "train.precision: Input should be '32-true'"),
        ("model.alpha", 1.5, "model.alpha: Input should be less than or equal to 1"),
        ("model.target", "eye", "model.target: Input should be 'identity'"),
        ("simulate.patches.testing", -1, "simulate.patches.testing: Input should be greater than 0"),
        ("simulate.label_noise", 2, "simulate.label_noise: Input should be less than or equal to 1"),
        ("prompts.template", "a {class}", "prompts: template lacks {group}"),
        ("prompts.class_template", "a photo", "prompts: class_template lacks {class}"),
        ("prompts.template", "{class} {group} {foo}", "prompts: template has fields other than {class} and {group}"),
        ("trials.eb_cnn-plain.backbone", "os", "trials.eb_cnn-plain.backbone: unknown backbone 'os'; known: "),
        ("backbones", {"exvit": {}}, "backbones.eb_cnn: missing"),
        ("trials", {}, "trials: Dictionary should have at least 1 item"),
        ("trials.eb_cnn-plain.variant", "bgpp", "trials.eb_cnn-plain.variant: Input should be 'plain'"),
        (
            "trials.eb_cnn-plain.overrides",
            {"train": {"epoch": 3}},
            "trials.eb_cnn-plain.overrides.train.epoch: unknown key",
        ),
        (
            "trials.eb_cnn-plain.overrides",
            {"model": {"alpha": 7}},
            "trials.eb_cnn-plain.overrides.model.alpha: Input should be less",
        ),
    ],
)
def test_a_wrong_entry_is_one_line_with_file_key_and_cause(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    file = write(tmp_path, {key: value})
    with pytest.raises(UserError) as error:
        load_params(file)
    assert str(error.value).startswith(str(file) if "overrides" not in key else "params.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train:\n  epochs: 1\n  epochs: 2\n", "duplicate key epochs in line 3"),
        ("a: [", "not valid YAML"),
        ("a: 2025-02-30", "not valid YAML: day is out of range"),
        ("[" * 20_000, "not valid YAML: maximum recursion depth"),
        ("- 1", "expected a mapping"),
        ("", "expected a mapping"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        load_params(tmp_path / "params.yaml")
    assert "\n" not in str(error.value)


def test_a_mistyped_key_is_named_rather_than_the_one_it_lacks(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text().replace("  epochs:", "  epoch:")
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match="train.epoch: unknown key"):
        load_params(tmp_path / "params.yaml")


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match="params.yaml: not a text file in UTF-8"):
        load_params(tmp_path / "params.yaml")


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not found; run inside a BP-LCZ checkout"):
        load_params(tmp_path / "params.yaml")


def test_an_unknown_trial_is_named_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"no trial 'x'; known: eb_cnn-plain, "):
        load_params(ROOT / "params.yaml").trial("x")


def test_overrides_of_a_trial_win_over_the_common_sections(tmp_path: Path) -> None:
    overrides = {"train": {"epochs": 77}, "model": {"alpha": 0.2}, "backbone": {"widths": [1]}}
    params = load_params(write(tmp_path, {"trials.eb_cnn-bgp.overrides": overrides}))
    trial = params.trial("eb_cnn-bgp")
    assert (trial.train.epochs, trial.model.alpha, trial.backbone_options["widths"]) == (77, 0.2, [1])
    assert params.trial("eb_cnn-plain").train.epochs == params.train.epochs


@pytest.mark.parametrize("name", ["x; touch pwned", "$(touch pwned)", "../x", "-x", "a b", "a\n", "", "é", "`x`"])
def test_a_trial_name_that_a_shell_would_read_is_refused(tmp_path: Path, name: str) -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["trials"] = {name: {"backbone": "eb_cnn", "variant": "plain", "seed": 1}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=r"params.yaml: trials\..*: String should match pattern"):
        load_params(tmp_path / "params.yaml")
