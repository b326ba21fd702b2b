"""Measures how realistic the simulation is, by two numbers from networks and real pixels.

The published Sen2LCZ-MF was trained on real So2Sat. The first number is the share of simulated Sentinel-2 patches to
which it gives the intended class. For the second number, a network that was trained only on simulated patches is
applied to real ones: it is the share of patches on which it agrees with Sen2LCZ-MF.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from tqdm import tqdm

from bp_lcz.errors import UserError
from bp_lcz.model.checkpoint import BATCH, Classifier, load_classifier
from bp_lcz.model.sen2lcz_weights import convert_sen2lcz
from bp_lcz.params import SPLITS, Split
from bp_lcz.scheme import CLASS_COUNT, CODES, NAMES
from bp_lcz.so2sat.hdf5 import dataset_of, opened, readable
from bp_lcz.so2sat.layout import dataset_name, open_split

RECOGNISED = 0.25
"""Share of patches above which a class counts as recognised; chance is 1/17."""


@dataclass(frozen=True)
class Verdict:
    """The judge's verdict on a data set.

    Attributes:
        dataset: name of the data set.
        confusion: counts; rows are intended classes, columns are classes from the judge.
    """

    dataset: str
    confusion: Integer[np.ndarray, "17 17"]

    @property
    def shares(self) -> list[float | None]:
        """Share of the patches of each class that the judge gives this class; None without a patch."""
        counts = self.confusion.sum(1)
        return [float(self.confusion[c, c] / counts[c]) if counts[c] else None for c in range(CLASS_COUNT)]

    @property
    def overall(self) -> float:
        """Mean share over classes: the share with equal class counts."""
        return float(np.mean([share for share in self.shares if share is not None]))

    def lines(self) -> list[str]:
        """The verdict as plain text, with the classes that the judge saw most often instead."""
        shares = [share for share in self.shares if share is not None]
        above = sum(share > RECOGNISED for share in shares)
        return [
            f"{self.dataset}: Sen2LCZ-MF gives the intended class to {self.overall:.3f} of the simulated patches "
            f"(equal class weights, chance {1 / CLASS_COUNT:.2f}), {above} of {len(shares)} classes above {RECOGNISED}",
            f"{'LCZ':<26}  {'patches':>7}  {'share':>5}  seen instead",
            *(self._line(c) for c in range(CLASS_COUNT) if self.confusion[c].any()),
        ]

    def _line(self, c: int) -> str:
        count = self.confusion[c].sum()
        order = [int(other) for other in np.argsort(-self.confusion[c], kind="stable") if other != c]
        others = [f"{CODES[o]} {self.confusion[c, o] / count:.2f}" for o in order[:3] if self.confusion[c, o]]
        return f"{CODES[c]:>2}  {NAMES[c]:<22}  {count:>7}  {self.confusion[c, c] / count:>5.2f}  {', '.join(others)}"


def judge_simulation(weights: Path, root: Path) -> Verdict:
    """Let the published Sen2LCZ-MF classify a simulated data set.

    Args:
        weights: its Keras weights, an HDF5 file.
        root: simulated data set, whose geo files hold the class before label noise (``intended``).

    Raises:
        UserError: if the weights or the data cannot be read, or a geo file holds no intended classes.
    """
    network = _sen2lcz(weights)
    confusion = np.zeros((CLASS_COUNT, CLASS_COUNT), dtype=np.int64)
    for split in SPLITS:
        seen = classify_split(network, root, split)
        np.add.at(confusion, (_intended(root, split, len(seen)), seen), 1)
    return Verdict(dataset_name(root), confusion)


def agreement(weights: Path, model: Path, root: Path) -> tuple[float, int]:
    """Share of a data set's patches to which a trained trial and Sen2LCZ-MF give the same class, and their number.

    Args:
        weights: Keras weights of Sen2LCZ-MF.
        model: a trained trial with the channels of the data set.
        root: data set of real patches; its labels are not used.

    Raises:
        UserError: if a checkpoint cannot be read or its channels are not those of the data set.
    """
    teacher, student = _sen2lcz(weights), load_classifier(model)
    seen, learnt = ([classify_split(each, root, split) for split in SPLITS] for each in (teacher, student))
    same = np.concatenate(seen) == np.concatenate(learnt)
    return float(same.mean()), len(same)


def _sen2lcz(weights: Path) -> Classifier:
    with tempfile.TemporaryDirectory() as scratch:
        return load_classifier(convert_sen2lcz(weights, Path(scratch) / "sen2lcz"))


def classify_split(classifier: Classifier, root: Path, split: Split) -> Integer[np.ndarray, "patch"]:
    """The class 0..16 that a network gives to each patch of a split.

    Raises:
        UserError: if the data cannot be read, or their channels are not those of the network in its order.
    """
    with (
        open_split(root, split) as reader,
        tqdm(total=reader.count, desc=f"{classifier.description.trial} {split}", unit="patch") as progress,
    ):
        for key in ("sen1", "sen2"):
            wanted, present = getattr(classifier.channels, key), getattr(reader.channels, key)
            if wanted and wanted != present:
                raise UserError(
                    f"{root / f'{split}.h5'}",
                    f"{key} holds {', '.join(present)}; {classifier.description.trial} looks at "
                    f"{', '.join(wanted)}, in this order; it needs data that have them",
                )
        classes = []
        for _, sen1, sen2, _ in reader.chunks(BATCH):
            radar = sen1 if classifier.channels.sen1 else sen1[..., :0]
            classes.append(classifier.predict_proba(radar, sen2).argmax(1))
            progress.update(len(sen2))
    return np.concatenate(classes)


def _intended(root: Path, split: Split, count: int) -> Integer[np.ndarray, "patch"]:
    path = root / f"{split}_geo.h5"
    with opened(path) as file:
        stored = dataset_of(path, file, "intended")
        if stored is None:
            raise UserError(path, "no intended classes; only data of `bp-lcz simulate` can be judged")
        with readable(path):
            intended: np.ndarray = stored[:]
    if len(intended) != count:
        raise UserError(path, f"{len(intended)} intended classes for {count} patches")
    return intended
