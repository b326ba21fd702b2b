"""Rows for the training step: alignment loss, text side, EB-CNN, cost of prompting, ExViT."""

import copy
import os
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy, normalize

from benchmarks.dense_msm import dense_loss
from benchmarks.growth import Curve, Series
from benchmarks.harness import QUICK_REPEATS, Goal, Measured, Row, Setup, Side, rates, ratio_of, seconds, timed
from benchmarks.memory import peak_mebibytes
from benchmarks.networks import batch_of, network_of, training_step, trial_of
from benchmarks.separate_branches import with_separate_branches
from benchmarks.speed import figure
from bp_lcz.bands import ALL_CHANNELS, GROUPS, PATCH_SIDE, Channels
from bp_lcz.model.backbones.exvit import HEADS, Attention
from bp_lcz.model.bp_lcz import BPLCZ, BandGroupPrompting
from bp_lcz.model.memory import keep_freed_memory
from bp_lcz.model.msm import msm_loss
from bp_lcz.patches.store import Batch
from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.text.encoder import PACKAGED_MINILM, load_encoder
from bp_lcz.text.prompts import prompt_texts

BATCH = 256
DIMENSION = 64
"""Dimension of the space of the alignment, as in params.yaml."""


def alignment(batch: int, groups: int = 7, classes: int = CLASS_COUNT) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors of image groups (B, G, d) and prompts (K, G, d), with gradients, and labels (B,)."""
    generator = torch.Generator().manual_seed(1)
    image = normalize(torch.randn(batch, groups, DIMENSION, generator=generator), dim=-1).requires_grad_()
    text = normalize(torch.randn(classes, groups, DIMENSION, generator=generator), dim=-1).requires_grad_()
    return image, text, torch.randint(classes, (batch,), generator=generator)


def exact_alignment(image: Tensor, text: Tensor, label: Tensor) -> tuple[Tensor, ...]:
    """Loss and gradients over distinct prompts, as in training."""
    logits = torch.einsum("bgd,chd->bgch", 10 * image, text) - 10
    loss = msm_loss(logits, label, target="graded", loss="sigmoid", alpha=0.1)
    return loss.detach(), *torch.autograd.grad(loss, (image, text))


def dense_alignment(image: Tensor, text: Tensor, label: Tensor) -> tuple[Tensor, ...]:
    """Loss and gradients over all pairs of image and text entries of the batch."""
    matrix = (10 * image).flatten(0, 1) @ text[label].flatten(0, 1).T - 10
    loss = dense_loss(matrix, label, "graded", "sigmoid", 0.1, len(text))
    return loss.detach(), *torch.autograd.grad(loss, (image, text))


def msm(setup: Setup) -> Measured:
    """Alignment loss and its gradient, from features."""
    inputs = alignment(8 if setup.quick else 512)
    ours, theirs = Side(lambda _: exact_alignment(*inputs)), Side(lambda _: dense_alignment(*inputs))
    found = rates(setup, ours, theirs)
    keep_freed_memory()
    kept = ratio_of(*rates(setup, ours, theirs))
    return Measured(
        *found,
        beside={"ratio with freed memory kept, as the trainer does": figure(kept.median)},
        note="graded target, sigmoid loss, from unit vectors of groups and prompts to their gradients, glibc's default",
    )


def msm_memory(setup: Setup) -> Measured:
    """Peak memory of the alignment loss."""
    # A quick run needs sizes that a page can show.
    inputs = alignment(128 if setup.quick else 512)
    tiny = alignment(2)
    exact_alignment(*tiny), dense_alignment(*tiny)  # so that one-time set-up of libraries counts for neither side
    return Measured(
        *peaks(setup, lambda: exact_alignment(*inputs), lambda: dense_alignment(*inputs)),
        note="growth of the resident memory of this process",
    )


def text(setup: Setup) -> Measured:
    """Number of calls of the text encoder in a step."""
    trial, size = trial_of("bp-lcz"), 2 if setup.quick else BATCH
    batch = batch_of(size)
    step = training_step(network_of(trial), trial, batch)
    encoder = load_encoder(PACKAGED_MINILM, None)
    prompts = prompt_texts("a photo of a {class} with {group} bands")
    in_batch = [prompt for label in batch[2].tolist() for prompt in prompts[label]]

    def encode_and_step(number: int) -> None:
        encoder(in_batch)
        step(number)

    counts, beside = [], {}
    for name, work in (("from the table", step), ("encoding", encode_and_step)):
        start = time.perf_counter()
        counts.append(float(encoder_calls(lambda work=work: work(0))))
        beside[f"one step, prompts {name}"] = f"{figure(time.perf_counter() - start)} s"
    note = f"{len(in_batch):,} texts in a batch"
    return Measured(np.array(counts[:1]), np.array(counts[1:]), beside=beside, note=note)


def encoder_calls(work: Callable[[], object]) -> int:
    """Forward passes of transformers models while ``work`` runs."""
    from transformers import PreTrainedModel

    calls = 0

    def count(module: nn.Module, _: object) -> None:
        nonlocal calls
        calls += isinstance(module, PreTrainedModel)

    handle = nn.modules.module.register_module_forward_pre_hook(count)
    try:
        work()
    finally:
        handle.remove()
    return calls


def eb_cnn(precision: str) -> Callable[[Setup], Measured]:
    """A step of EB-CNN with prompting, against one module for each branch in float32 with channels first."""

    def measure(setup: Setup) -> Measured:
        size = 8 if setup.quick else BATCH
        trial = trial_of("bp-lcz")
        network = network_of(trial).to(setup.device)
        separate = with_separate_branches(network, ALL_CHANNELS)
        batch = batch_of(size, device=setup.device)
        first = batch_of(size, memory_format=torch.contiguous_format, device=setup.device)
        keep_freed_memory()
        ours, theirs = rates(
            setup,
            Side(training_step(network, trial, batch, precision), size),
            Side(training_step(separate, trial, first), size),
        )
        dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
        beside = {
            "our step": f"{figure(1e3 * size / float(np.median(ours)))} ms",
            "of it our convolutions, by themselves": f"{figure(1e3 * convolutions(setup, network, batch, dtype))} ms",
            "half of their step": f"{figure(500 * size / float(np.median(theirs)))} ms",
        }
        note = f"{precision}; both sides with the same augmentation, losses, optimiser and allocator"
        return Measured(ours, theirs, beside=beside, note=note)

    return measure


def convolutions(setup: Setup, network: BPLCZ, batch: Batch, dtype: torch.dtype) -> float:
    """Seconds of only the network's convolutions and their gradients, on inputs of the same shapes."""
    calls: list[Callable[[], object]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        # The first layer's input is the images, which need no gradient.
        image = torch.randn_like(inputs[0], dtype=dtype, requires_grad=inputs[0].requires_grad)
        weight = layer.weight.detach().to(dtype).requires_grad_()
        slope = torch.randn_like(output, dtype=dtype)
        wanted = (image, weight) if image.requires_grad else (weight,)

        def both_ways() -> object:
            made = conv2d(image, weight, None, layer.stride, layer.padding, 1, layer.groups)
            return torch.autograd.grad(made, wanted, slope)

        calls.append(both_ways)

    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    handles = [layer.register_forward_hook(note) for layer in layers]
    network(*batch[:2])
    for handle in handles:
        handle.remove()
    return sum(float(np.median(spent)) for spent in samples(setup, calls))


def overhead(precision: str) -> Callable[[Setup], Measured]:
    """A step with prompting, against the backbone alone."""

    def measure(setup: Setup) -> Measured:
        size = 8 if setup.quick else BATCH
        batch = batch_of(size, device=setup.device)
        keep_freed_memory()
        sides = []
        for variant in ("bp-lcz", "plain"):
            trial = trial_of(variant)
            sides.append(Side(training_step(network_of(trial).to(setup.device), trial, batch, precision)))
        return Measured(*seconds(setup, *sides), note=precision)

    return measure


class ExplicitAttention(Attention):
    """The published attention: the matrix of all pairs of tokens is made, normalised and kept for the gradient."""

    def forward(self, tokens: Tensor) -> Tensor:
        """As ``Attention``."""
        split = self.query_key_value(tokens).unflatten(2, (3, HEADS, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4)
        score = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
        return self.project((score.softmax(-1) @ value).transpose(1, 2).flatten(2))


def with_explicit_attention(network: BPLCZ) -> BPLCZ:
    """A copy of an ExViT network with the same weights."""
    other = copy.deepcopy(network)
    for module in other.modules():
        if isinstance(module, Attention):
            module.__class__ = ExplicitAttention
    return other


def exvit_sides(setup: Setup, size: int, explicit_size: int) -> tuple[Callable[[int], Tensor], Callable[[int], Tensor]]:
    """Training steps of ExViT with torch's attention and with explicit attention."""
    trial = trial_of("plain", "exvit", token_size=8 if setup.quick else 1)
    network = network_of(trial).to(setup.device)
    return (
        training_step(network, trial, batch_of(size, device=setup.device)),
        training_step(with_explicit_attention(network), trial, batch_of(explicit_size, device=setup.device)),
    )


def exvit(setup: Setup) -> Measured:
    """A step of ExViT with one token for each pixel.

    From batch 8 on, the score matrices exceed the 2 GiB that glibc can keep, so earlier rows have no influence.
    """
    size = 2 if setup.quick else 8
    keep_freed_memory()
    ours, theirs = exvit_sides(setup, size, size)
    found = rates(setup, Side(ours, size), Side(theirs, size))
    beside = {
        f"{name}, share of the CPU time spent in the kernel": share_in_kernel(lambda work=work: work(0))
        for name, work in (("ours", ours), ("explicit", theirs))
    }
    return Measured(*found, beside=beside, note=f"batch {size}, 32-true")


def share_in_kernel(work: Callable[[], object]) -> str:
    """Share of the CPU time of a call that the kernel takes, mostly to map pages."""
    before = os.times()
    work()
    after = os.times()
    system, user = after.system - before.system, after.user - before.user
    return f"{system / max(system + user, 0.01):.0%}"


def exvit_memory(setup: Setup) -> Measured:
    """Memory of a step on a batch four times as large."""
    size = 16 if setup.quick else 2
    ours, theirs = exvit_sides(setup, 4 * size, size)
    ours(0), theirs(0)  # the optimiser's state and what libraries set up once
    return Measured(
        *peaks(setup, lambda: ours(1), lambda: theirs(1)),
        note=f"growth of memory in a step, batch {4 * size} against batch {size}",
    )


def peaks(setup: Setup, ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[np.ndarray, np.ndarray]:
    """Peaks of memory of both sides in turns, MiB."""
    pairs = [(peak_mebibytes(setup, ours), peak_mebibytes(setup, theirs)) for _ in range(QUICK_REPEATS)]
    return np.array(pairs)[:, 0], np.array(pairs)[:, 1]


def samples(setup: Setup, works: Sequence[Callable[[], object]]) -> list[list[float]]:
    """Seconds of each piece of work, measured in turns after one warm-up call."""
    keep_freed_memory()
    for work in works:
        work()
    sides = [Side(lambda _, work=work: work()) for work in works]
    rounds = [[timed(setup, side, repeat) for side in sides] for repeat in range(3 if setup.quick else 9)]
    return [list(column) for column in zip(*rounds, strict=True)]


def gradient(network: BPLCZ, size: int, channels: Channels, side: int = PATCH_SIDE) -> Callable[[], object]:
    """Forward and backward pass on a batch, with both losses."""
    sen1, sen2, label = batch_of(size, channels, side)

    def work() -> None:
        output = network(sen1, sen2)
        assert output.alignment is not None
        loss = cross_entropy(output.logits, label)
        (loss + msm_loss(output.alignment, label, target="graded", loss="sigmoid", alpha=0.1)).backward()
        network.zero_grad()

    return work


def growth_batch(setup: Setup) -> list[Series]:
    """The step and the alignment loss against the batch."""
    sizes = (8, 16, 32) if setup.quick else (16, 32, 64, 128, 256, 512, 1024)
    dense = sizes if setup.quick else sizes[:-1]
    network = network_of(trial_of("bp-lcz"))
    works = [gradient(network, n, ALL_CHANNELS) for n in sizes]
    return [
        Series("gradient of EB-CNN bp-lcz", 1, sizes, samples(setup, works)),
        Series("alignment, distinct prompts", 1, sizes, _alignment(setup, exact_alignment, [(n, 7) for n in sizes])),
        Series("alignment, all pairs", 2, dense, _alignment(setup, dense_alignment, [(n, 7) for n in dense])),
    ]


def growth_groups(setup: Setup) -> list[Series]:
    """The same against the number of band groups."""
    size, sizes = (8 if setup.quick else BATCH), range(1, len(GROUPS) + 1)
    networks = []
    for count in sizes:
        bands = {band for group in list(GROUPS)[-count:] for band in GROUPS[group]}
        channels = Channels(
            *(tuple(band for band in names if band in bands) for names in (ALL_CHANNELS.sen1, ALL_CHANNELS.sen2))
        )
        networks.append(gradient(network_of(trial_of("bp-lcz"), channels), size, channels))
    return [
        Series("gradient of EB-CNN bp-lcz", 1, sizes, samples(setup, networks)),
        Series("alignment, distinct prompts", 2, sizes, _alignment(setup, exact_alignment, [(size, n) for n in sizes])),
        Series("alignment, all pairs", 2, sizes, _alignment(setup, dense_alignment, [(size, n) for n in sizes])),
    ]


def growth_classes(setup: Setup) -> list[Series]:
    """The alignment loss against the number of classes."""
    size, sizes = (8 if setup.quick else BATCH), (17, 34, 68) if setup.quick else (17, 34, 68, 136, 272)
    cases = [(size, 7, classes) for classes in sizes]
    return [
        Series("alignment, distinct prompts", 1, sizes, _alignment(setup, exact_alignment, cases)),
        Series("alignment, all pairs", 0, sizes, _alignment(setup, dense_alignment, cases)),
    ]


def growth_prompts(setup: Setup) -> list[Series]:
    """Prompting, retrieval included, against the number of distinct prompts: classes times groups."""
    size, classes = (8 if setup.quick else BATCH), (17, 34, 68) if setup.quick else (17, 34, 68, 136, 272)
    trial = trial_of("bp-lcz")
    works = []
    for count in classes:
        prompting = BandGroupPrompting(torch.randn(count, 7, 384), 64, 128, trial.model, "bp-lcz")
        fused, groups = torch.randn(size, 128), torch.randn(size, 7, 64)

        def work(prompting: BandGroupPrompting = prompting, inputs: tuple[Tensor, Tensor] = (fused, groups)) -> None:
            augmented, logits, _ = prompting(*inputs)
            (augmented.sum() + logits.sum()).backward()

        works.append(work)
    return [Series("band group prompting", 1, [7 * count for count in classes], samples(setup, works))]


def growth_side(setup: Setup) -> list[Series]:
    """The gradient against the side of the images; EB-CNN takes any."""
    size, sides = (2, (16, 32, 64)) if setup.quick else (32, (16, 32, 64, 128))
    network = network_of(trial_of("bp-lcz"))
    works = [gradient(network, size, ALL_CHANNELS, side) for side in sides]
    return [Series("gradient of EB-CNN bp-lcz", 2, sides, samples(setup, works))]


def _alignment(
    setup: Setup, form: Callable[[Tensor, Tensor, Tensor], object], cases: Sequence[tuple[int, ...]]
) -> list[list[float]]:
    inputs = [alignment(*case) for case in cases]
    return samples(setup, [lambda one=one: form(*one) for one in inputs])


ROWS = (
    Row("msm", "MSM loss and gradient", "dense (B x 7)² form", "1/s", Goal(30), msm),
    Row("msm-memory", "its peak memory", "dense form", "MiB", Goal(1 / 20, "at most"), msm_memory),
    Row("text", "text side of a step", "encoding the batch's prompts", "encoder calls", Goal(0, "at most"), text),
    Row("step", "EB-CNN bp-lcz, step", "seven branch modules", "patches/s", Goal(2), eb_cnn("bf16-mixed")),
    Row("step-float32", "the same in float32", "seven branch modules", "patches/s", None, eb_cnn("32-true")),
    Row("overhead", "step of bp-lcz", "step of plain", "s", Goal(1.15, "at most"), overhead("32-true")),
    Row("overhead-bf16", "the same in bfloat16", "step of plain", "s", Goal(1.15, "at most"), overhead("bf16-mixed")),
    Row("exvit", "ExViT, token side 1, step", "explicit score matrix", "patches/s", Goal(2), exvit),
    Row("exvit-memory", "its memory, batch x 4", "explicit, batch x 1", "MiB", Goal(1, "at most"), exvit_memory),
)
CURVES = (
    Curve("batch", "Cost against the batch", "patches in a batch", "s", growth_batch),
    Curve("groups", "Cost against the band groups", "band groups", "s", growth_groups),
    Curve("classes", "Alignment loss against the classes", "classes", "s", growth_classes),
    Curve("prompts", "Prompting against the prompts", "distinct prompts", "s", growth_prompts),
    Curve("side", "Gradient against the image side", "pixels a side", "s", growth_side),
)
