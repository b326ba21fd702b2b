"""Score the predictions of any classifier of local climate zones from one file."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from bp_lcz.errors import NO_ARRAY, UserError, one_line
from bp_lcz.records import Scores
from bp_lcz.scheme import CLASS_COUNT, CODES
from bp_lcz.scoring.metrics import evaluate_predictions

_Classes = tuple[Int[np.ndarray, "patch"], Int[np.ndarray, "patch"], list[str]]
"""True and predicted classes 1..17, and cautions about them."""


@dataclass(frozen=True)
class Scored:
    """Metrics of predictions; as text with a table of classes.

    Attributes:
        patches: number of scored patches.
        cautions: cautions about the predictions, in words.
        scores: metrics of the predictions.
    """

    patches: int
    cautions: Sequence[str]
    scores: Scores

    def __str__(self) -> str:
        """Headline, cautions and a row for each class."""
        scores = self.scores
        named = {"OA": scores.oa, "AA": scores.aa, "kappa": scores.kappa, "macro-F1": scores.macro_f1}
        headline = ", ".join(f"{name} {fraction(value, 5)}" for name, value in named.items())
        rows = [
            f"{row.code:>3}  {row.name:<20} {row.support:>8} {fraction(row.precision, 5):>10} "
            f"{fraction(row.recall, 5):>8}"
            for row in scores.per_class
        ]
        heading = f"{'LCZ':>3}  {'name':<20} {'patches':>8} {'precision':>10} {'recall':>8}"
        return "\n".join([headline, f"{self.patches:,} patches", *self.cautions, "", heading, *rows])


def score_file(path: Path) -> Scored:
    """Metrics of the predictions in a file.

    Args:
        path: ``.npz`` file with ``y_true`` and ``y_pred``, both (N,), classes 1..17; or the Parquet file of ``bp-lcz
            predict`` with ``label`` and ``code``, in which rows without a label do not count.

    Raises:
        UserError: if the file is missing or of another form, or an array is missing, empty or not one-dimensional, or
            the lengths differ, or values are not whole numbers 1..17 or codes of classes.

    Example:
        >>> print(str(score_file(Path("predictions.npz"))).splitlines()[0])
        OA .75000, AA .83333, kappa .66667, macro-F1 .88889
    """
    y_true, y_pred, cautions = _read(path)
    return Scored(len(y_true), cautions, evaluate_predictions(y_true - 1, y_pred - 1))


def fraction(value: float | None, digits: int) -> str:
    """A number between -1 and 1 without its leading zero, such as ``.69369``; ``-`` for None."""
    if value is None:
        return "-"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def text_table(rows: Sequence[Sequence[str]], separator: str = "  ") -> list[str]:
    """Rows of equal length as lines with aligned columns, for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [separator.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _read(path: Path) -> _Classes:
    if path.is_dir():
        raise UserError(path, "a folder; expected a NumPy .npz file or predictions in parquet")
    if not path.is_file():
        raise UserError(path, "a pipe or device; expected a file" if path.exists() else "no such file")
    with path.open("rb") as start:
        if start.read(4) == b"PAR1":
            return _read_predictions(path)
    if not zipfile.is_zipfile(path):
        raise UserError(path, "neither a NumPy .npz file nor predictions in parquet")
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in ("y_true", "y_pred") if key not in file.files]
            if missing:
                raise UserError(path, f"no array {' or '.join(missing)}; it holds {', '.join(file.files) or 'nothing'}")
            arrays = {key: np.asarray(file[key]) for key in ("y_true", "y_pred")}  # bytes if it is no array
    except (OSError, RuntimeError, *NO_ARRAY) as error:  # RuntimeError: locked
        cause = one_line(error)
        raise UserError(path, f"not a readable NumPy .npz file: {cause}") from None
    y_true, y_pred = (_classes(path, key, array) for key, array in arrays.items())
    if len(y_true) != len(y_pred):
        raise UserError(path, f"y_true has {len(y_true)} patches but y_pred {len(y_pred)}")
    return y_true, y_pred, []


def _read_predictions(path: Path) -> _Classes:
    """Classes of the rows that have a label."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            missing = [name for name in ("label", "code") if name not in file.schema_arrow.names]
            if missing:
                raise UserError(
                    path, f"no column {' or '.join(missing)}; `bp-lcz predict` writes label for labelled patches"
                )
            columns = file.read(["label", "code"]).drop_null().to_pydict()
            said = file.schema_arrow.metadata or {}
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: a text that is not UTF-8
        raise UserError(path, f"not readable parquet: {one_line(error)}") from None
    if not columns["label"]:
        raise UserError(path, "no patch with a label")
    unknown = next((code for codes in columns.values() for code in codes if code not in CODES), None)
    if unknown is not None:
        raise UserError(path, f"{unknown!r} is no code of a class; expected {', '.join(CODES)}")
    true, predicted = (np.array([CODES.index(code) + 1 for code in columns[name]]) for name in ("label", "code"))
    level, trained = (said.get(key, b"not stated").decode(errors="replace") for key in (b"level", b"model_level"))
    differs = level != trained and "not stated" not in (level, trained)
    return true, predicted, [f"of level {level}, by a model that was trained on {trained}"] * differs


def _classes(path: Path, key: str, array: np.ndarray) -> Int[np.ndarray, "patch"]:
    if array.ndim != 1 or not array.size:
        raise UserError(path, f"{key} has shape {array.shape}; expected (N,) with one class for each patch")
    if array.dtype.kind not in "iuf":
        raise UserError(path, f"{key} must hold whole numbers 1..{CLASS_COUNT}; its type is {array.dtype}")
    wrong = array[~np.isin(array, np.arange(1, CLASS_COUNT + 1))]
    if wrong.size:
        raise UserError(path, f"{key} must hold whole numbers 1..{CLASS_COUNT}; found {wrong[0]}")
    return array.astype(np.int64)
