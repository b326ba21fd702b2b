"""Training that begins with another network: what is taken over, what is new, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bp_lcz.bands import ALL_CHANNELS, SEN2_BANDS, Channels
from bp_lcz.model.bp_lcz import BPLCZ
from bp_lcz.model.checkpoint import Classifier, load_classifier, write_checkpoint
from bp_lcz.model.start import check_start, load_start, take_over
from bp_lcz.model.task import LczTask
from bp_lcz.model.training import train_trial
from bp_lcz.params import SPLITS, Params, Start, Trial, TrialParams, load_params
from bp_lcz.paths import start_folder
from tests.conftest import ROOT
from tests.model.networks import INTENSITIES_ONLY, SMALL, network_of, trial_of
from tests.model.packed import small_trial, write_inputs
from tests.records import described
from tests.refusals import refuses, states
from tests.so2sat.patches import write_dataset

SEN2_ALONE = Channels((), SEN2_BANDS)


def as_start(network: BPLCZ, trial: TrialParams, channels: Channels = ALL_CHANNELS) -> Classifier:
    return Classifier(network.eval(), channels, described(trial, channels), "cpu")


def start_of(backbone: str, variant: str = "plain", channels: Channels = ALL_CHANNELS, **options: Any) -> Classifier:
    network = network_of(backbone, variant, channels, seed=5, **options)
    network.mean.fill_(3.0)
    network.std.fill_(2.0)
    return as_start(network, trial_of(backbone, variant, **options), channels)


def is_taken(network: BPLCZ, start: Classifier, part: str) -> bool:
    mine, theirs = (getattr(each, part).state_dict() for each in (network, start.network))
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_plain_network_begins_wholly_with_one_of_the_same_form() -> None:
    network, start = network_of("eb_cnn"), start_of("eb_cnn")
    taken = take_over(network, trial_of("eb_cnn"), ALL_CHANNELS, start)
    assert sum(taken.values()) == sum(parameter.numel() for parameter in network.parameters())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, start.network.state_dict()[name]), name


@pytest.mark.parametrize("variant", ["bgp", "bp-lcz"])
def test_prompting_takes_the_backbone_of_a_plain_network_and_its_own_layers_are_new(variant: str) -> None:
    network, untouched = (network_of("sen2lcz_mf", variant) for _ in range(2))
    start = start_of("sen2lcz_mf", channels=SEN2_ALONE)
    taken = take_over(network, trial_of("sen2lcz_mf", variant), ALL_CHANNELS, start)
    assert set(taken) == {"backbone", "classifier"}
    assert is_taken(network, start, "backbone")
    assert network.prompting is not None
    assert network.group_encoder is not None
    for own, fresh in (
        (network.prompting, untouched.prompting),
        (network.group_encoder, untouched.group_encoder),
    ):
        assert fresh is not None
        assert all(map(torch.equal, own.state_dict().values(), fresh.state_dict().values()))


def test_the_channels_that_the_start_knows_are_normalised_as_it_did() -> None:
    network = network_of("sen2lcz_mf")
    take_over(network, trial_of("sen2lcz_mf"), ALL_CHANNELS, start_of("sen2lcz_mf", channels=SEN2_ALONE))
    assert network.mean.tolist() == 8 * [0.0] + 10 * [3.0]
    assert network.std.tolist() == 8 * [1.0] + 10 * [2.0]


def test_prompting_is_taken_over_with_the_same_vectors_alone() -> None:
    network, start = network_of("eb_cnn", "bgp"), start_of("eb_cnn", "bgp")
    assert "prompting" not in take_over(network, trial_of("eb_cnn", "bgp"), ALL_CHANNELS, start)
    assert network.prompting is not None
    assert start.network.prompting is not None
    network.prompting.prompts = start.network.prompting.prompts.clone()
    assert "prompting" in take_over(network, trial_of("eb_cnn", "bgp"), ALL_CHANNELS, start)
    assert is_taken(network, start, "prompting")


@pytest.mark.parametrize(
    ("start", "facts"),
    [
        (start_of("resnet"), ["eb_cnn", "resnet"]),
        (start_of("eb_cnn", channels=INTENSITIES_ONLY), ["sen1", "VH_real", "VH_lee_intensity"]),
        (start_of("eb_cnn", widths=[4, 16]), ["backbones.eb_cnn", "widths [4, 8] ([4, 16])"]),
    ],
    ids=["backbone", "channels", "options"],
)
def test_a_start_that_does_not_fit_is_refused_by_name(start: Classifier, facts: list[str]) -> None:
    network = network_of("eb_cnn")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    trial = trial_of("eb_cnn")
    with refuses(f"trial {trial.name}") as caught:
        take_over(network, trial, ALL_CHANNELS, start)
    assert all(fact in caught.value.what for fact in facts)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def params_of(root: Path, **trials: dict[str, Any]) -> Params:
    params = load_params(ROOT / "params.yaml")
    start = Start(name="one", sha256="0" * 64)
    return params.model_copy(
        update={
            "dataset": params.dataset.model_copy(update={"root": str(root)}),
            "train": params.train.model_copy(update={"start": start}),
            "backbones": params.backbones | SMALL,
            "trials": {name: Trial(variant="plain", seed=1, **more) for name, more in trials.items()},
        }
    )


def test_data_that_a_start_cannot_be_tuned_on_are_told_by_their_files(tmp_path: Path) -> None:
    levels = dict.fromkeys(SPLITS, "L2A")
    write_dataset(tmp_path, patches=dict.fromkeys(SPLITS, 2), channels=INTENSITIES_ONLY, levels=levels)
    one = params_of(tmp_path, one={"backbone": "sen2lcz_mf"})
    start = start_of("sen2lcz_mf", channels=SEN2_ALONE)
    assert check_start(start, one) == []
    start = replace(start, description=start.description.model_copy(update={"level": "L1C"}))
    (note,) = check_start(start, one)
    assert states(note, "L2A")
    two = params_of(tmp_path, one={"backbone": "sen2lcz_mf"}, other={"backbone": "eb_cnn"})
    with refuses("trial other", "sen2lcz_mf"):
        check_start(start, two)
    with refuses("trial one", "sen1", "VV_real", "VV_lee_intensity"):
        check_start(start_of("eb_cnn"), params_of(tmp_path, one={"backbone": "eb_cnn"}))
    free = {"backbone": "eb_cnn", "overrides": {"train": {"start": None}}}
    check_start(start, params_of(tmp_path, one={"backbone": "sen2lcz_mf"}, other=free))
    assert check_start(start, params_of(tmp_path / "not here yet", other={"backbone": "eb_cnn"})) == []


def rates(task: LczTask) -> list[tuple[float, float, int]]:
    optimizer = task.configure_optimizers()["optimizer"]
    return [
        (group["max_lr"], group["weight_decay"], sum(p.numel() for p in group["params"]))
        for group in optimizer.param_groups
    ]


def test_what_is_old_has_a_lower_rate() -> None:
    trial, network = trial_of("eb_cnn", "bgp"), network_of("eb_cnn", "bgp")
    alike = rates(LczTask(network, trial, torch.ones(17), 10))
    assert [rate for rate, _, _ in alike] == [trial.train.learning_rate] * 2
    assert [decay for _, decay, _ in alike] == [trial.train.weight_decay, 0.0]
    new, new_bias, old, old_bias = rates(LczTask(network, trial, torch.ones(17), 10, ("backbone", "classifier")))
    assert new[0] == new_bias[0] == trial.train.learning_rate
    assert old[0] == old_bias[0] == trial.train.learning_rate * trial.train.start_rate
    old_count = sum(p.numel() for part in (network.backbone, network.classifier) for p in part.parameters())
    assert old[2] + old_bias[2] == old_count
    assert sum(count for _, _, count in (new, new_bias, old, old_bias)) == sum(count for _, _, count in alike)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def begun(inputs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Start, Path]:
    """A start as a workspace holds it, and the folder of all starts."""
    folder = tmp_path_factory.mktemp("start")
    train_trial(small_trial("plain", epochs=2), *inputs, folder / "scratch", folder / "first")
    digest = json.loads((folder / "first/model.json").read_text())["weights_sha256"]
    shutil.copytree(folder / "first", start_folder(folder / "starts", digest))
    return Start(name="models:/mine/1", sha256=digest), folder / "starts"


def tuned(
    inputs: tuple[Path, Path], begun: tuple[Start, Path], folder: Path, variant: str = "plain", **train: object
) -> Path:
    trial = small_trial(variant, start=begun[0].model_dump(), **train)
    train_trial(trial, *inputs, folder / "scratch", folder / "out", starts=begun[1])
    return folder / "out"


def statistics(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for name, value in load_file(folder / "model.safetensors").items() if "running" in name}


def test_few_patches_leave_the_statistics_of_the_start_and_many_do_not(
    inputs: tuple[Path, Path], begun: tuple[Start, Path], tmp_path: Path
) -> None:
    before = statistics(start_folder(begun[1], begun[0].sha256))
    few, many = (
        statistics(tuned(inputs, begun, tmp_path / str(bound), epochs=2, frozen_norm_below=bound)) for bound in (69, 68)
    )
    assert all(torch.equal(few[name], before[name]) for name in before)
    assert not any(torch.equal(many[name], before[name]) for name in before)


def test_a_checkpoint_and_the_log_tell_the_start(
    inputs: tuple[Path, Path], begun: tuple[Start, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tuned(inputs, begun, tmp_path, "bp-lcz", epochs=1)
    description = load_classifier(out).description
    assert description.train is not None
    assert description.train.start == begun[0]
    assert 0 < description.from_start < description.parameters
    assert description.places is None  # nobody knows where these patches lie
    line = next(line for line in capsys.readouterr().out.splitlines() if begun[0].name in line)
    assert states(line, f"{description.from_start:,} of {description.parameters:,}")
    assert states(line, "prompting 0")


def test_weights_that_hardly_move_stay_those_of_the_start(
    inputs: tuple[Path, Path], begun: tuple[Start, Path], tmp_path: Path
) -> None:
    out = tuned(inputs, begun, tmp_path, epochs=1, learning_rate=1e-12)
    start = load_file(start_folder(begun[1], begun[0].sha256) / "model.safetensors")
    for name, tensor in load_file(out / "model.safetensors").items():
        torch.testing.assert_close(tensor, start[name])


def test_a_start_that_is_not_there_is_one_line_with_what_to_do(begun: tuple[Start, Path], tmp_path: Path) -> None:
    with refuses(f"start {begun[0].name}", "not found", "--start"):
        load_start(tmp_path, begun[0])


def test_a_damaged_start_is_one_line(begun: tuple[Start, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(begun[1], tmp_path / "starts"))
    weights = start_folder(folder, begun[0].sha256) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with refuses(f"start {begun[0].name}", "model.safetensors", "sha256"):
        load_start(folder, begun[0])


def test_a_start_of_other_classes_is_one_line(begun: tuple[Start, Path], tmp_path: Path) -> None:
    start, digest = load_classifier(start_folder(begun[1], begun[0].sha256)), begun[0].sha256
    start.network.classifier = torch.nn.Linear(start.network.backbone.fused_width, 10)
    (folder := start_folder(tmp_path, digest)).mkdir()
    write_checkpoint(folder, start.network, start.description)
    with refuses(f"start {begun[0].name}", "classifier.bias", "[10]", "[17]"):
        load_start(tmp_path, begun[0])


def test_other_weights_than_the_parameters_name_are_refused(begun: tuple[Start, Path], tmp_path: Path) -> None:
    other = begun[0].model_copy(update={"sha256": "0" * 64})
    shutil.copytree(start_folder(begun[1], begun[0].sha256), start_folder(tmp_path, other.sha256))
    with refuses(f"start {other.name}", "sha256"):
        load_start(tmp_path, other)
