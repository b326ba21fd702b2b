"""What Lightning trains and on which batches: the training step of a trial, what is measured after each epoch."""

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import lightning
import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from bp_lcz.errors import UserError
from bp_lcz.model.bp_lcz import BPLCZ, Output
from bp_lcz.model.joint import joint_loss
from bp_lcz.model.msm import alignment_loss, alignment_target, msm_loss
from bp_lcz.params import Split, TrialParams
from bp_lcz.patches.loader import EVALUATION_BATCH, Batches, BatchOrder
from bp_lcz.patches.store import Batch, PatchStore
from bp_lcz.scoring.metrics import confusion_matrix, kappa

History = list[dict[str, int | float]]


SYMMETRIES: tuple[tuple[tuple[int, ...], bool], ...] = (
    ((), False),
    ((-1,), True),
    ((-2, -1), False),
    ((-2,), True),
    ((-1,), False),
    ((), True),
    ((-2,), False),
    ((-2, -1), True),
)
"""Of the square: four turns, then four turns of the mirror image, as axes to flip and whether to transpose then. A
flip passes over the memory and a transposition does not, so none needs more than one pass."""

MONITORED = "validation_score"
"""Score that chooses the epoch to keep: kappa of the validation split, or its negative loss if it has one class."""


def class_weights(counts: Sequence[int], exponent: float) -> Float[Tensor, "klass"]:
    """Weights of the cross-entropy against class imbalance.

    Args:
        counts: training patches of each class.
        exponent: 0 weighs all patches alike, 1 all classes alike.

    Returns:
        ``count ** -exponent``, scaled so that the mean over patches is 1; 0 for absent classes.
    """
    count = torch.tensor(counts, dtype=torch.float64)
    weight = torch.where(count > 0, count.clamp(min=1) ** -exponent, 0.0)
    return (weight * count.sum() / (weight * count).sum()).float()


def dihedral(images: Tensor, element: int) -> Tensor:
    """Apply one of the eight symmetries of the square to a batch of images (..., row, column)."""
    flipped, transposed = SYMMETRIES[element]
    if flipped:
        images = images.flip(flipped)
    return images.transpose(-2, -1) if transposed else images


def spread_dihedral(images: Tensor) -> Tensor:
    """Apply all eight symmetries of the square, each to an eighth of a batch (B, channel, row, column).

    The order of the batch is shuffled in each epoch, so every patch meets a random symmetry, and no step sees
    one symmetry alone. Contiguous parts need no index and no second pass over the memory.
    """
    # Not torch.cat, which would give parts of which some are transposed back with channels first.
    spread = torch.empty_like(images)
    for element, (part, place) in enumerate(zip(images.tensor_split(8), spread.tensor_split(8), strict=True)):
        place.copy_(dihedral(part, element))
    return spread


class LczTask(lightning.LightningModule):
    """Trains a network on cross-entropy plus the alignment loss.

    Every random choice is drawn from a generator seeded by (seed, epoch, step), so that a run that resumes
    continues exactly as an unbroken one.

    Args:
        network: the network, freshly made.
        trial: the trial's parameters.
        weights: of the classes in the cross-entropy.
        steps: optimiser steps of the whole training, for the learning-rate schedule.
        old: parts of the network whose weights come from a start.
    """

    weights: Tensor

    def __init__(
        self,
        network: BPLCZ,
        trial: TrialParams,
        weights: Float[Tensor, "klass"],
        steps: int,
        old: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.trial = trial
        self.steps = steps
        self.old = old
        self.history: History = []
        self.register_buffer("weights", weights, persistent=False)
        self._training: list[Tensor] = []
        self._validation: list[tuple[Tensor, Tensor]] = []
        self._validated: tuple[Tensor, Tensor]

    def training_step(self, batch: Batch, step: int) -> Tensor:
        """Loss of one batch."""
        sen1, sen2, label = batch
        process = [self.global_rank] if self.global_rank else []
        random = np.random.default_rng([self.trial.seed, self.current_epoch, step, *process])
        torch.manual_seed(int(random.integers(2**63)))  # dropout and stochastic depth draw from it
        if self.trial.train.flips:
            sen1, sen2 = spread_dihedral(sen1), spread_dihedral(sen2)
        output = self.network(sen1, sen2)
        loss = cross_entropy(output.logits.float(), label, self.weights)
        alignment = torch.zeros_like(loss)
        if output.alignment is not None:
            alignment = self._alignment(output, label)
            loss = loss + self.trial.model.alignment_weight * alignment
        self._training.append(torch.stack([loss.detach(), alignment.detach()]))
        return loss

    def _alignment(self, output: Output, label: Tensor) -> Tensor:
        """Loss of image groups against texts. The joint matrix takes the mean with image groups against each other."""
        variant, model = self.trial.variant, self.trial.model
        target, form = alignment_target(variant, model), alignment_loss(variant, model)
        assert output.alignment is not None
        with_texts = msm_loss(output.alignment, label, target=target, loss=form, alpha=model.alpha)
        if variant != "bp-lcz" or model.pairs == "texts":
            return with_texts
        assert self.network.prompting is not None
        assert output.groups is not None
        among = self.network.prompting.between(output.groups)
        return (with_texts + joint_loss(among, label, target=target, loss=form, alpha=model.alpha)) / 2

    def on_train_batch_end(self, *_: object) -> None:
        """Keeps the logit scale within its bound."""
        if self.network.prompting is not None:
            self.network.prompting.bound_scale()

    def validation_step(self, batch: Batch) -> None:
        """Keeps the logits of one batch."""
        sen1, sen2, label = batch
        self._validation.append((self.network(sen1, sen2).logits.float(), label))

    def on_validation_epoch_end(self) -> None:
        """Adds a row to the history; epochs count from 1 wherever people see them."""
        logits = torch.cat([logits for logits, _ in self._validation])
        label = torch.cat([label for _, label in self._validation])
        training = self.trainer.strategy.reduce(torch.stack(self._training).mean(0), reduce_op="mean")
        self._validated = logits.cpu(), label.cpu()
        self._validation.clear()
        self._training.clear()
        if not torch.isfinite(training[0]):
            raise UserError(
                self.trial.name,
                f"training diverged, its loss is {float(training[0])} in epoch "
                f"{self.current_epoch + 1}; lower train.learning_rate",
            )
        confusion = confusion_matrix(label.cpu().numpy(), logits.argmax(1).cpu().numpy())
        row = {
            "epoch": self.current_epoch + 1,
            "learning_rate": self.trainer.optimizers[0].param_groups[0]["lr"],
            "training_loss": float(training[0]),
            "training_alignment": float(training[1]),
            "validation_loss": float(cross_entropy(logits, label)),
            "validation_oa": float(confusion.trace() / confusion.sum()),
            "validation_kappa": float(kappa(confusion)),
        }
        # Batch statistics are those of a share, so processes differ; they must not differ in what they decide.
        row = self.trainer.strategy.broadcast(row)
        self.history.append(row)
        # Kappa is 0 or undefined whatever is predicted where all labels are of one class.
        has_classes = len(label.unique()) > 1
        self.log(MONITORED, float(np.nan_to_num(row["validation_kappa"])) if has_classes else -row["validation_loss"])

    def configure_optimizers(self) -> Any:
        """AdamW with decay on matrices only, and one cosine cycle of the learning rate, lower for what is old."""
        train = self.trial.train
        groups: list[dict[str, Any]] = []
        for is_old, rate in ((False, train.learning_rate), (True, train.learning_rate * train.start_rate)):
            named = self.network.named_parameters()
            parameters = [p for name, p in named if (name.partition(".")[0] in self.old) == is_old]
            groups += [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": train.weight_decay, "lr": rate},
                {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0, "lr": rate},
            ]
        groups = [group for group in groups if group["params"]]
        # One kernel for all parameters. On a CPU it saves 1 % of a step and gives other last bits, so not there.
        fused = self.device.type == "cuda" or None
        optimizer = torch.optim.AdamW(groups, lr=train.learning_rate, fused=fused)
        rates = [group["lr"] for group in groups]
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rates, total_steps=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the history, and the logits of the validation split that calibrate the epoch, with the resume state."""
        checkpoint["history"] = self.history
        checkpoint["validated"] = self._validated

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the history up again."""
        self.history = checkpoint["history"]


class PatchModule(lightning.LightningDataModule):
    """Training and validation batches.

    Args:
        open_split: opens the store of a split.
        batch_size: patches of a training batch.
        seed: of the shuffle.
        pools: the patches to take of a split; all of them without.
    """

    def __init__(
        self,
        open_split: Callable[[Split], PatchStore],
        batch_size: int,
        seed: int,
        pools: Mapping[Split, Int64[np.ndarray, " patch"]] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.open_split = open_split
        self.batch_size = batch_size
        self.seed = seed
        self.pools = pools

    def train_dataloader(self) -> Batches:
        """Shuffled training batches."""
        return self._batches("training", self.batch_size, self.seed)

    def val_dataloader(self) -> Batches:
        """Validation batches in the order of the file."""
        return self._batches("validation", EVALUATION_BATCH, None)

    def _batches(self, split: Split, batch_size: int, seed: int | None) -> Batches:
        store = self.open_split(split)
        # Every process validates on the whole split, and so comes to the same decisions.
        trainer = self.trainer if split == "training" else None
        share = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        return Batches(store, BatchOrder(len(store), batch_size, seed, share, self.pools.get(split)))
