"""Fine-tuning on few patches, compared with training from scratch: learning curves and some settings.

Run in a workspace whose data and prompts are ready, with every start that `bp-lcz workspace` has brought into it:

    w=$(bp-lcz workspace real_mini --dataset /data/real_mini --start models/sen2lcz-mf)
    cd "$w" && dvc repro pack prompts
    python -m benchmarks.fine_tuning --figure fine-tuning.png
    python -m benchmarks.fine_tuning --settings

Finished trainings are not repeated.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Integer
from matplotlib.ticker import NullLocator

from bp_lcz.drawing import Note, titled_figure
from bp_lcz.errors import UserError
from bp_lcz.files import staged_file
from bp_lcz.model.checkpoint import DESCRIPTION, load_classifier
from bp_lcz.model.training import train_trial
from bp_lcz.params import Start, TrialParams, load_params
from bp_lcz.patches.loader import BatchOrder
from bp_lcz.patches.store import PackedStore
from bp_lcz.paths import PACKED, PROMPTS, SCRATCH, STARTS
from bp_lcz.records import Checkpoint, Interval
from bp_lcz.scoring.crossed import crossed_intervals
from bp_lcz.scoring.metrics import confusion_matrix, kappa
from bp_lcz.scoring.score import fraction

FEW = {1: 30, 3: 20, 10: 12, 50: 6}
"""Number of epochs by the largest number of patches of a class."""
SEEDS = (1, 2, 3, 4, 5)
SETTINGS = {"batch_size": 16, "patience": 30}
NOTHING = "nothing"
RATES = (0.1, 0.01, 1.0)
"""Factors of the learning rate for weights of the start; the committed factor comes first."""
FEW_OF_SETTINGS = {most: FEW[most] for most in (3, 50)}
SEEDS_OF_SETTINGS = SEEDS[:3]
COLUMNS = ("training patches", "begun with", "kappa", "interval", "lead over {}", "interval")
COLOURS = ("#59636e", "#0969da", "#bf5b04")


class Point(NamedTuple):
    """Means over seeds on the testing split, with intervals that take seeds and blocks as random.

    Attributes:
        patches: that were trained on.
        begun: with what, and how.
        kappa: mean over seeds.
        interval: of it.
        lead: in kappa over the first that was compared; None for that itself.
        lead_interval: of it.
    """

    patches: int
    begun: str
    kappa: float
    interval: Interval
    lead: float | None
    lead_interval: Interval


def find_starts() -> dict[str, Start | None]:
    """Nothing, then each start of this workspace, by the trial that trained it.

    Raises:
        UserError: if there is none.
    """
    found = [Checkpoint.read(file) for file in sorted(STARTS.glob(f"*/{DESCRIPTION}"))]
    if not found:
        raise UserError(STARTS, "no start here; `bp-lcz workspace NAME --start MODEL` brings one")
    return {NOTHING: None} | {each.trial: Start(name=each.trial, sha256=each.weights_sha256) for each in found}


def settings_of(begun: str, start: Start | None) -> dict[str, dict[str, object]]:
    """Learning rates for weights of the start, with fixed and with moving statistics; the committed setting first."""
    return {
        f"{begun}, rate {rate}, {'frozen' if bound else 'moving'}": {
            "start": start,
            "start_rate": rate,
            "frozen_norm_below": bound,
        }
        for bound in (sys.maxsize, 0)
        for rate in RATES
    }


def measure(
    trial: TrialParams, sides: Mapping[str, Mapping[str, object]], few: Mapping[int, int], seeds: Sequence[int]
) -> list[Point]:
    """Train what is missing, and compare on the testing split.

    Args:
        trial: what is trained.
        sides: what differs in its training, by a name; the others are compared with the first.
        few: most patches of a class, and epochs.
        seeds: of each.

    Raises:
        UserError: for the reasons of `train_trial`.
    """
    store, counts = PackedStore(PACKED, "testing"), PackedStore(PACKED, "training").manifest.class_counts["training"]
    first, points = next(iter(sides)), []
    for most, epochs in few.items():
        rows = {
            name: np.stack(
                [
                    _predict(_variation(trial, f"{name}-{most}", seed, per_class=most, epochs=epochs, **own), store)
                    for seed in seeds
                ]
            )
            for name, own in sides.items()
        }
        kappas = {begun: _kappa(store.labels, predicted) for begun, predicted in rows.items()}
        for begun, predicted in rows.items():
            is_other = begun != first
            own, lead = (
                crossed_intervals(store.labels, *sides, block=store.blocks)["kappa"]
                for sides in ((predicted,), (predicted, rows[first]))
            )
            points.append(
                Point(
                    sum(min(count, most) for count in counts),
                    begun,
                    kappas[begun],
                    own,
                    kappas[begun] - kappas[first] if is_other else None,
                    lead if is_other else None,
                )
            )
    return points


def _variation(trial: TrialParams, name: str, seed: int, **settings: object) -> TrialParams:
    train = trial.train.model_copy(update={**SETTINGS, **settings})
    return trial.model_copy(update={"name": f"{name}-s{seed}", "seed": seed, "train": train})


def _predict(trial: TrialParams, store: PackedStore) -> Integer[np.ndarray, " patch"]:
    out = SCRATCH / "fine-tuning" / trial.name
    if not out.exists():
        train_trial(trial, PACKED, PROMPTS, SCRATCH, out)
    network = load_classifier(out).network
    with torch.inference_mode():
        parts = [network(*store.gather(indices)[:2]).logits for indices in BatchOrder(len(store), 256, seed=None)]
    return torch.cat(parts).argmax(1).numpy()


def _kappa(true: Integer[np.ndarray, " patch"], predicted: Integer[np.ndarray, "seed patch"]) -> float:
    return float(np.mean([kappa(confusion_matrix(true, row)) for row in predicted]))


def markdown(points: Sequence[Point]) -> str:
    """The points as a table. The first point is the one with which others are compared."""
    rows = [
        (
            str(point.patches),
            point.begun,
            fraction(point.kappa, 3),
            _text(point.interval),
            "" if point.lead is None else f"{point.lead:+.3f}",
            "" if point.lead is None else _text(point.lead_interval),
        )
        for point in points
    ]
    columns = [column.format(points[0].begun) for column in COLUMNS]
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows))


def _text(interval: Interval) -> str:
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def figure(points: Sequence[Point], note: Note) -> bytes:
    """Learning curves with intervals of means over seeds, as PNG."""
    with titled_figure("Fine-tuning on few patches", note, body=3.4) as drawing:
        axes = drawing.figure.subplots()
        for number, begun in enumerate(dict.fromkeys(point.begun for point in points)):
            own = [point for point in points if point.begun == begun]
            patches = np.array([point.patches for point in own]) * 1.04 ** (number - 1)  # beside each other
            kappas = np.array([point.kappa for point in own])
            bounds = np.array([point.interval or (np.nan, np.nan) for point in own]).T
            axes.errorbar(
                patches,
                kappas,
                np.abs(bounds - kappas),
                color=COLOURS[number % len(COLOURS)],
                marker="o",
                markersize=4,
                capsize=2,
                linewidth=1.5,
                label=f"begun with {begun}",
            )
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        sizes = sorted({point.patches for point in points})
        axes.set_xticks(sizes, map(str, sizes))
        axes.set_xlabel("training patches")
        axes.set_ylabel("kappa, testing split")
        axes.grid(axis="y")
        drawing.figure.legend(loc="outside lower left", ncols=2)
    return drawing.png


def main() -> None:
    """Measure, print the table, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--figure", type=Path, help="PNG file to write")
    output.add_argument("--settings", action="store_true", help="compare rates and statistics of each start instead")
    arguments = parser.parse_args()
    params = load_params()
    trial = params.trial(next(name for name, trial in params.trials.items() if trial.variant == "plain"))
    starts = find_starts()
    if arguments.settings:
        for name, start in starts.items():
            if start is not None:
                print(markdown(measure(trial, settings_of(name, start), FEW_OF_SETTINGS, SEEDS_OF_SETTINGS)))
        return
    points = measure(trial, {name: {"start": start} for name, start in starts.items()}, FEW, SEEDS)
    print(markdown(points))
    if arguments.figure is not None:
        manifest = PackedStore(PACKED, "testing").manifest
        note = Note(f"{manifest.dataset}, {trial.backbone}, {len(SEEDS)} seeds", manifest.caution)
        with staged_file(arguments.figure) as file:
            file.write_bytes(figure(points, note))


if __name__ == "__main__":
    main()
