"""The training step: its random choices are those of the seed, the epoch and the step alone."""

import pytest
import torch

from bp_lcz.model.task import LczTask, dihedral
from tests.model.networks import images_of, network_of, trial_of


def loss_of_step(number: int, global_seed: int) -> float:
    """Loss of one training step of a network with dropout, whatever was drawn before."""
    trial = trial_of("sen2lcz_mf")
    trial = trial.model_copy(update={"train": trial.train.model_copy(update={"flips": False})})
    task = LczTask(network_of("sen2lcz_mf", dropout=0.5), trial, torch.ones(17), 10)
    torch.manual_seed(global_seed)
    return task.training_step((*images_of(), torch.tensor([0, 1, 2])), number).item()


def test_dropout_of_a_step_does_not_depend_on_what_was_drawn_before() -> None:
    assert loss_of_step(4, global_seed=1) == loss_of_step(4, global_seed=2)


def test_dropout_differs_from_step_to_step() -> None:
    assert len({loss_of_step(number, global_seed=1) for number in range(4)}) == 4


def test_the_logit_scale_stays_within_its_bound_and_can_leave_it_again() -> None:
    prompting = (network := network_of("eb_cnn", "bp-lcz")).prompting
    assert prompting is not None
    task = LczTask(network, trial_of("eb_cnn", "bp-lcz"), torch.ones(17), 10)
    with torch.no_grad():
        prompting.log_scale.fill_(7.0)
    task.on_train_batch_end()
    assert prompting.scale.item() == pytest.approx(100.0)
    task.training_step((*images_of(), torch.tensor([0, 1, 2])), 0).backward()
    assert prompting.log_scale.grad.item() != 0


def test_the_eight_symmetries_are_four_turns_and_four_turns_of_the_mirror_image() -> None:
    images = torch.randn(2, 3, 5, 5)
    for element in range(8):
        expected = (images.flip(-1) if element >= 4 else images).rot90(element % 4, dims=(-2, -1))
        assert torch.equal(dihedral(images, element), expected)
