"""``params.yaml``: what is refused, and how the refusal reads."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bp_lcz.params import PromptVectors, load_params
from tests.conftest import ROOT
from tests.refusals import refuses

MODEL = yaml.safe_load((ROOT / "params.yaml").read_text())["model"]


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
    ("key", "value", "named", "fact"),
    [
        ("train.epoch", 3, "train.epoch", "unknown key; known: epochs"),
        ("trian", {}, "trian", "unknown key; known: profile"),
        ("trian", {}, "trian", "validate"),
        ("simulate.patches.test", 3, "simulate.patches.test", "known: training, validation, testing"),
        ("trials.eb_cnn-plain.variants", "bgp", "trials.eb_cnn-plain.variants", "known: backbone, variant"),
        ("train.start", {"name": "a", "colour": 1}, "train.start.colour", "unknown key; known: name"),
        ("cells", {}, "cells", "trials"),
        ("train.epochs", 0, "train.epochs", 0),
        ("train.epochs", "3", "train.epochs", "integer; '3' was read as text, write 3"),
        ("train.learning_rate", float("inf"), "train.learning_rate", "finite"),
        ("train.learning_rate", float("nan"), "train.learning_rate", "finite"),
        ("train.precision", "64-true", "train.precision", "'32-true'"),
        ("model.alpha", 1.5, "model.alpha", 1),
        ("model.target", "eye", "model.target", "'identity'"),
        ("model", MODEL | {"pairs": "joint", "target": "identity"}, "model", "identity"),
        ("simulate.patches.testing", -1, "simulate.patches.testing", 0),
        ("simulate.label_noise", 2, "simulate.label_noise", 1),
        ("prompts.source", "texts", "prompts.source", "'random'"),
        (
            "trials.eb_cnn-bgp.overrides",
            {"prompts": {"template": "{class} {group}"}},
            "prompts.template",
            "unknown key",
        ),
        ("prompts.template", "a {class}", "prompts", "template lacks {group}"),
        ("prompts.class_template", "a photo", "prompts", "class_template lacks {class}"),
        ("prompts.template", "{class} {group} {foo}", "prompts", "other than"),
        ("trials.eb_cnn-plain.backbone", "os", "trials.eb_cnn-plain.backbone", "'os'"),
        ("backbones", {"exvit": {}}, "backbones.eb_cnn", "missing"),
        ("trials", {}, "trials", 1),
        ("trials", {"a b": {"backbone": "vit", "variant": "plain", "seed": 1}}, "trials.a b", "eb_cnn-bp-lcz-s2"),
        ("backbones.exvit", None, "backbones.exvit", "mapping"),
        ("trials.eb_cnn-plain.variant", "bgpp", "trials.eb_cnn-plain.variant", "'plain'"),
        (
            "trials.eb_cnn-plain.overrides",
            {"train": {"epoch": 3}},
            "trials.eb_cnn-plain.overrides.train.epoch",
            "unknown key",
        ),
        ("trials.eb_cnn-plain.overrides", {"model": {"alpha": 7}}, "trials.eb_cnn-plain.overrides.model.alpha", 1),
    ],
)
def test_a_wrong_entry_is_one_line_with_file_key_and_cause(
    tmp_path: Path, key: str, value: object, named: str, fact: object
) -> None:
    file = write(tmp_path, {key: value})
    with refuses(file if "overrides" not in key else "params.yaml", named, fact):
        load_params(file)


@pytest.mark.parametrize(
    ("section", "key", "text", "told"),
    [
        ("train", "learning_rate", "2e-3", "write 2.0e-3 or 0.002"),
        ("train", "learning_rate", "1e5", "write 1.0e+5 or 100000"),
        ("train", "epochs", "1e1", "read as text, write 10"),
        ("train", "weight_decay", "-25E-4", "write -2.5e-3 or -0.0025"),
        ("promote", "kappa_floor", "5e-1", "write 5.0e-1 or 0.5"),
        ("train", "learning_rate", "'.002'", "read as text, write 0.002"),
        ("train", "learning_rate", "1e-999999999", None),
        ("train", "learning_rate", "fast", None),
        ("train", "learning_rate", "[1]", None),
    ],
)
def test_a_number_that_yaml_reads_as_text_is_told_how_to_write_it(
    tmp_path: Path, section: str, key: str, text: str, told: str | None
) -> None:
    file = tmp_path / "params.yaml"
    committed = (ROOT / "params.yaml").read_text()
    file.write_text(re.sub(rf"^  {key}: .*", f"  {key}: {text}", committed, flags=re.MULTILINE))
    with refuses(file, f"{section}.{key}", told or "number") as caught:
        load_params(file)
    assert told is None or caught.value.what.endswith(told)
    assert ("write" in caught.value.what) == (told is not None)


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"train:\n  epochs: 1\n  epochs: 2\n", "duplicate key epochs in line 3"),
        (b"a: 1\nb: [1,\nc: {", "line 3"),
        (b"a: 1\n b: 2", "line 2"),
        (b"a: 1\nb:\tc: 2", "line 2"),
        (b"a: 1\nb: \x00", "line 2"),
        (b"a: 1\nb: !!python/none x", "line 2"),
        (b"a: *b", "line 1"),
        (b"a: 2025-02-30", "YAML: day"),
        (b"[" * 20_000, "recursion"),
        (b"- 1", "mapping"),
        (b"", "mapping"),
        (bytes(range(256)), "UTF-8"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: bytes, fact: str) -> None:
    (tmp_path / "params.yaml").write_bytes(content)
    with refuses(tmp_path / "params.yaml", fact) as caught:
        load_params(tmp_path / "params.yaml")
    assert "<" not in caught.value.what.replace("'<stream end>'", "")  # no name of the parser's own


def test_a_mistyped_key_is_named_rather_than_the_one_it_lacks(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text().replace("  epochs:", "  epoch:")
    (tmp_path / "params.yaml").write_text(text)
    with refuses(tmp_path / "params.yaml", "train.epoch: unknown key"):
        load_params(tmp_path / "params.yaml")


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with refuses(tmp_path / "params.yaml", "not found", "checkout"):
        load_params(tmp_path / "params.yaml")


def test_an_unknown_trial_is_named_with_the_known_ones() -> None:
    with refuses("params.yaml", "'x'", "eb_cnn-plain"):
        load_params(ROOT / "params.yaml").trial("x")


def test_overrides_of_a_trial_win_over_the_common_sections(tmp_path: Path) -> None:
    overrides = {"train": {"epochs": 77}, "model": {"alpha": 0.2}, "backbone": {"widths": [1]}}
    overrides["prompts"] = {"source": "random", "draw": 3}
    params = load_params(write(tmp_path, {"trials.eb_cnn-bgp.overrides": overrides}))
    trial = params.trial("eb_cnn-bgp")
    assert (trial.train.epochs, trial.model.alpha, trial.backbone_options["widths"]) == (77, 0.2, [1])
    assert trial.prompts == PromptVectors(wording="names", source="random", draw=3, centre=False)
    assert params.trial("eb_cnn-plain").prompts.source == "text"
    assert params.trial("eb_cnn-plain").train.epochs == params.train.epochs


@pytest.mark.parametrize("name", ["x; touch pwned", "$(touch pwned)", "../x", "-x", "a b", "a\n", "", "é", "`x`"])
def test_a_trial_name_that_a_shell_would_read_is_refused(tmp_path: Path, name: str) -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["trials"] = {name: {"backbone": "eb_cnn", "variant": "plain", "seed": 1}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    with refuses(tmp_path / "params.yaml", "trials", "eb_cnn-bp-lcz-s2"):
        load_params(tmp_path / "params.yaml")
