"""The report of one experiment matrix: a self-contained page, the same as Markdown, and the figures.

Everything in it is a pure function of the gate's summary and of each cell's files: no clock, no host, no
order of a folder listing. Equal inputs give equal bytes.
"""

import base64
import csv
import json
import re
import statistics
import struct
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from tqdm import tqdm

from bp_lcz.errors import UserError
from bp_lcz.evaluation import figures
from bp_lcz.evaluation.figures import Note
from bp_lcz.evaluation.metrics import reliability
from bp_lcz.evaluation.score import fraction
from bp_lcz.evaluation.significance import LEVEL, bootstrap_differences, mcnemar
from bp_lcz.params import SPLITS

METRICS = {"oa": "OA", "aa": "AA", "kappa": "kappa", "macro_f1": "macro-F1"}
PAGE, MARKDOWN, FIGURES = "index.html", "report.md", "figures"

_EVALUATION_KEYS = (
    *("cell", "backbone", "variant", "seed", "dataset", "kind", "split", "patches", *METRICS),
    *("oa_built", "oa_natural", "ece", "intervals", "interval", "per_class", "confusion"),
    *("parameters", "best_epoch"),
)
_MODEL_KEYS = ("backbone_options", "train", "model", "parameters", "best_epoch", "text", "versions", "device")
_HISTORY_KEYS = ("epoch", "training_loss", "training_alignment", "validation_loss", "validation_kappa")
_TIMING_KEYS = ("seconds", "epochs", "patches_per_second", "peak_memory_mib", "threads", "machine")
_PREDICTION_KEYS = ("y_true", "y_pred", "probability", "block")

_WARNINGS = {"simulated": "simulated data", "weak labels": "weak labels", "unstated": "provenance not stated"}


@dataclass(frozen=True)
class CellResult:
    """What the stages left of one cell.

    Attributes:
        evaluation: ``evaluation.json``.
        predictions: arrays of ``predictions.npz``.
        model: ``model.json``.
        history: columns of ``history.csv``.
        timings: ``timings.json``.
    """

    evaluation: Mapping[str, Any]
    predictions: Mapping[str, np.ndarray]
    model: Mapping[str, Any]
    history: Mapping[str, Sequence[float]]
    timings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The cell's key in ``params.yaml``."""
        return str(self.evaluation["cell"])


def read_result(evaluation: Path, model: Path) -> CellResult:
    """Read one cell.

    Args:
        evaluation: folder with ``evaluation.json`` and ``predictions.npz``.
        model: folder with ``model.json``, ``history.csv`` and ``timings.json``.

    Raises:
        UserError: if a file is missing or unreadable or lacks a value that the report shows.
    """
    return CellResult(
        evaluation=_read(evaluation / "evaluation.json", _json, _EVALUATION_KEYS),
        predictions=_read(evaluation / "predictions.npz", _arrays, _PREDICTION_KEYS),
        model=_read(model / "model.json", _json, _MODEL_KEYS),
        history=_read(model / "history.csv", _columns, _HISTORY_KEYS),
        timings=_read(model / "timings.json", _json, _TIMING_KEYS),
    )


def read_summary(path: Path) -> dict[str, Any]:
    """Read the gate's summary.

    Raises:
        UserError: if it is missing or unreadable or lacks a value that the report shows.
    """
    return _read(path, _json, ("dataset", "source", "kind", "channels", "splits", "expectations"))


def write_report(out: Path, *, summary: Mapping[str, Any], results: Sequence[CellResult]) -> None:
    """Write ``index.html``, ``report.md`` and ``figures/*.png`` into an empty folder.

    Args:
        out: existing empty folder.
        summary: the gate's ``summary.json``.
        results: the cells, in the order in which the report shows them; at least one.

    Raises:
        UserError: if cells were evaluated on different patches.
    """
    _check_same_patches(results)
    drawn = _draw(summary, results)
    context = _context(summary, results)
    (out / FIGURES).mkdir()
    for figure in (figure for section in drawn.values() for figure in section):
        (out / figure.path).write_bytes(figure.png)
    for name in (PAGE, MARKDOWN):
        template = _environment().get_template(f"{name}.j2")
        (out / name).write_text(template.render(figures=drawn, **context), encoding="utf-8")


def interval_text(interval: Sequence[float] | None) -> str:
    """An interval as ``[.571, .650]``; empty for None."""
    return "" if interval is None else f"[{', '.join(fraction(end, 3) for end in interval)}]"


@dataclass(frozen=True)
class DrawnFigure:
    """A figure of the report.

    Attributes:
        file: name in the folder of figures.
        alternative: what it shows, for those who cannot see it.
        png: the image.
    """

    file: str
    alternative: str
    png: bytes

    @property
    def path(self) -> str:
        """Path relative to the report."""
        return f"{FIGURES}/{self.file}"

    @property
    def data_uri(self) -> str:
        """The image itself as an address."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode('ascii')}"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width, height = struct.unpack(">II", self.png[16:24])
        return width, height


class Entry(NamedTuple):
    """One cell of a table: a text, and a smaller one beside it such as an interval."""

    text: str
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        caption: what it shows, with split and data.
        header: names of the columns.
        rows: their entries.
        text: columns beside the first that hold text rather than numbers.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Entry]]
    text: Collection[str] = ()

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """Name of each column, and whether it holds numbers."""
        return [(name, i > 0 and name not in self.text) for i, name in enumerate(self.header)]


SECTIONS = ("overview", "data", "recall", "confusion", "curves", "groups", "prompts", "calibration")
"""Sections of the report that hold figures."""


class PlannedFigure(NamedTuple):
    """A figure that is still to be drawn."""

    section: str
    file: str
    alternative: str
    draw: Callable[[], bytes]


def _draw(summary: Mapping[str, Any], results: Sequence[CellResult]) -> dict[str, list[DrawnFigure]]:
    drawn: dict[str, list[DrawnFigure]] = {section: [] for section in SECTIONS}
    for plan in tqdm(_plan(summary, results), desc="figures", unit="figure"):
        drawn[plan.section].append(DrawnFigure(plan.file, plan.alternative, plan.draw()))
    return drawn


def _plan(summary: Mapping[str, Any], results: Sequence[CellResult]) -> list[PlannedFigure]:
    note = Note(f"{summary['dataset']}, testing split, {_patches(summary):,} patches", _warning(summary))
    data_note = Note(str(summary["dataset"]), _warning(summary))
    evaluations = [result.evaluation for result in results]
    class_counts = {split: content["class_counts"] for split, content in _splits(summary).items()}
    plan = [
        PlannedFigure(
            "overview",
            "overview.png",
            "Overall accuracy and kappa of each cell with intervals",
            partial(figures.overview, evaluations, note),
        ),
        PlannedFigure(
            "data",
            "classes.png",
            "Patches of each class in each split",
            partial(figures.class_histogram, class_counts, data_note),
        ),
    ]
    for backbone, members in _by_backbone(results):
        plan += _plan_backbone(backbone, members, note, data_note)
    for result in results:
        plan += _plan_cell(result, note)
    return plan


def _plan_backbone(backbone: str, members: Sequence[CellResult], note: Note, data_note: Note) -> list[PlannedFigure]:
    evaluations = [member.evaluation for member in members]
    histories = {member.name: _with_cross_entropy(member) for member in members}
    bins = {
        member.name: reliability(member.predictions["y_true"], member.predictions["probability"]) for member in members
    }
    return [
        PlannedFigure(
            "recall",
            f"recall-{backbone}.png",
            f"Recall by class, {backbone}",
            partial(figures.recall, evaluations, note),
        ),
        PlannedFigure(
            "curves",
            f"training-{backbone}.png",
            f"Loss and validation kappa by epoch, {backbone}",
            partial(figures.curves, histories, evaluations, data_note),
        ),
        PlannedFigure(
            "calibration",
            f"calibration-{backbone}.png",
            f"Confidence against accuracy, {backbone}",
            partial(figures.calibration, bins, evaluations, note),
        ),
    ]


def _with_cross_entropy(result: CellResult) -> dict[str, Any]:
    """The history and the training loss without its alignment part, which alone compares with validation."""
    weight = result.model["model"]["alignment_weight"]
    loss, alignment = (np.asarray(result.history[f"training_{name}"]) for name in ("loss", "alignment"))
    return {**result.history, "training_cross_entropy": loss - weight * alignment}


def _plan_cell(result: CellResult, note: Note) -> list[PlannedFigure]:
    name, predictions = result.name, result.predictions
    plan = [
        PlannedFigure(
            "confusion",
            f"confusion-{name}.png",
            f"Confusion matrix of {name}",
            partial(figures.confusion, result.evaluation, note),
        )
    ]
    if "groups" in predictions:
        groups = [str(group) for group in predictions["groups"]]
        by_group, by_class = predictions["group_similarity"], predictions["class_similarity"]
        plan += [
            PlannedFigure(
                "groups",
                f"groups-{name}.png",
                f"Cosine of image groups and group prompts, {name}",
                partial(figures.group_similarity, name, groups, by_group, note),
            ),
            PlannedFigure(
                "prompts",
                f"prompts-{name}.png",
                f"Cosine of image groups and class prompts by true class, {name}",
                partial(figures.class_similarity, name, groups, by_class, note),
            ),
        ]
    return plan


def _context(summary: Mapping[str, Any], results: Sequence[CellResult]) -> dict[str, Any]:
    expectations = summary["expectations"]
    return {
        "dataset": summary["dataset"],
        "kind": summary["kind"],
        "source": " ".join(summary["source"].split()) if summary["source"] else None,
        "channels": summary["channels"],
        "patches": _patches(summary),
        "expectations": len(expectations),
        "expectations_met": sum(bool(expectation["success"]) for expectation in expectations),
        "warnings": summary.get("warnings", []),
        "interval_notes": _interval_notes(results),
        "text": next((result.model["text"] for result in results if result.model["text"]), None),
        "tables": {
            "data": _data_table(summary),
            "results": _results_table(summary, results),
            "seeds": _seeds_table(summary, results),
            "comparison": _comparison_table(summary, results),
            "zones": _zones_table(summary, results),
            "cost": _cost_table(summary, results),
            "environment": _environment_table(summary, results),
        },
        "class_tables": {result.name: _class_table(summary, result) for result in results},
    }


def _data_table(summary: Mapping[str, Any]) -> Table:
    rows = []
    for split, content in _splits(summary).items():
        cities = "not stated" if content["cities"] is None else f"{content['cities']:,}"
        classes = sum(count > 0 for count in content["class_counts"])
        smallest = min(count for count in content["class_counts"] if count) if classes else 0
        rows.append(_row(split, f"{content['patches']:,}", cities, f"{classes} of 17", f"{smallest:,}"))
    header = ("split", "patches", "cities", "classes present", "smallest class present")
    return Table(f"Splits of {_data(summary)}", header, rows)


def _results_table(summary: Mapping[str, Any], results: Sequence[CellResult]) -> Table:
    rows = []
    for result in results:
        evaluation = result.evaluation
        intervals = evaluation["intervals"] or {}
        mark = "†" if evaluation["interval"]["lower_bound"] else ""
        values = []
        for key in METRICS:
            interval = interval_text(intervals.get(key))
            values.append(Entry(fraction(evaluation[key], 3), interval and interval + mark))
        row = _row(result.name, evaluation["backbone"], evaluation["variant"], evaluation["seed"])
        rows.append([row[0], *values, *row[1:]])
    header = ("cell", *METRICS.values(), "backbone", "variant", "seed")
    return Table(_caption("Results", summary), header, rows, text=("backbone", "variant"))


def _seeds_table(summary: Mapping[str, Any], results: Sequence[CellResult]) -> Table | None:
    """Mean and standard deviation of cells that differ in nothing but the seed."""
    alike: dict[str, list[CellResult]] = {}
    for result in results:
        settings = [result.evaluation["backbone"], result.evaluation["variant"]]
        settings += [result.model[key] for key in ("backbone_options", "train", "model")]
        alike.setdefault(json.dumps(settings, sort_keys=True), []).append(result)
    rows = []
    for members in alike.values():
        if len(members) == 1:
            continue
        first = members[0].evaluation
        row = _row(f"{first['backbone']} {first['variant']}", len(members))
        for key in METRICS:
            values = [member.evaluation[key] for member in members]
            if None in values:
                row.append(Entry("-"))
                continue
            mean, deviation = statistics.fmean(values), statistics.stdev(values)
            row.append(Entry(fraction(mean, 3), f"± {fraction(deviation, 3)}"))
        rows.append(row)
    header = ("cells", "seeds", *METRICS.values())
    caption = _caption("Mean and standard deviation over seeds", summary)
    return Table(caption, header, rows) if rows else None


def _comparison_table(summary: Mapping[str, Any], results: Sequence[CellResult]) -> Table | None:
    """Each cell against the plain cell of its backbone and seed."""
    plain: dict[tuple[str, int], CellResult] = {}
    for result in results:
        if result.evaluation["variant"] == "plain":
            plain.setdefault((result.evaluation["backbone"], result.evaluation["seed"]), result)
    rows = []
    for result in results:
        evaluation = result.evaluation
        partner = plain.get((evaluation["backbone"], evaluation["seed"]))
        if evaluation["variant"] == "plain" or partner is None:
            continue
        y_true, block = result.predictions["y_true"], result.predictions["block"]
        pair = result.predictions["y_pred"], partner.predictions["y_pred"]
        test = mcnemar(y_true, *pair)
        resampling = evaluation["interval"]
        intervals = bootstrap_differences(y_true, *pair, block, resampling["samples"], resampling["seed"])
        differences = []
        for key in ("oa", "kappa"):
            values = evaluation[key], partner.evaluation[key]
            text = "-" if None in values else _signed(values[0] - values[1])
            differences.append(Entry(text, interval_text(intervals[key])))
        counts = f"{test['b']:,}", f"{test['c']:,}"
        rows.append([Entry(result.name), *differences, *_row(*counts, _probability(test["p"]), partner.name)])
    header = ("cell", "OA difference", "kappa difference", "only cell right", "only plain right")
    caption = _caption("Differences from the plain backbone of the same seed", summary)
    return Table(caption, (*header, "McNemar p", "against"), rows, text=("against",)) if rows else None


def _zones_table(summary: Mapping[str, Any], results: Sequence[CellResult]) -> Table:
    rows = [
        _row(result.name, *(fraction(result.evaluation[key], 3) for key in ("oa_built", "oa_natural", "ece")))
        for result in results
    ]
    header = ("cell", "OA of 1 to 10", "OA of A to G", "ECE")
    return Table(_caption("Built zones (1 to 10), land cover (A to G), calibration", summary), header, rows)


def _class_table(summary: Mapping[str, Any], result: CellResult) -> Table:
    rows = [
        _row(
            row["code"],
            row["name"],
            f"{row['support']:,}",
            *(fraction(row[key], 3) for key in ("precision", "recall", "f1")),
        )
        for row in result.evaluation["per_class"]
    ]
    header = ("LCZ", "name", "patches", "precision", "recall", "F1")
    return Table(_caption(f"Classes, {result.name}", summary), header, rows, text=("name",))


def _cost_table(summary: Mapping[str, Any], results: Sequence[CellResult]) -> Table:
    rows = []
    for result in results:
        timings = result.timings
        epochs = f"{result.evaluation['best_epoch'] + 1} of {timings['epochs']}"
        memory = "-" if timings["peak_memory_mib"] is None else f"{timings['peak_memory_mib']:,.0f} MiB"
        numbers = f"{timings['seconds']:,.1f}", f"{timings['patches_per_second']:,.0f}", memory
        rows.append(_row(result.name, f"{result.evaluation['parameters']:,}", epochs, *numbers))
    header = ("cell", "parameters", "epoch kept", "training, s", "patches/s", "peak memory")
    return Table(f"Cost of training on {_data(summary)}, training split", header, rows)


def _environment_table(summary: Mapping[str, Any], results: Sequence[CellResult]) -> Table:
    """One row for all cells that were trained in the same way on the same machine."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for result in results:
        versions = ", ".join(f"{name} {version}" for name, version in sorted(result.model["versions"].items()))
        train, timings = result.model["train"], result.timings
        threads, precision = str(timings["threads"]), str(train["precision"])
        key = (str(timings["machine"]), str(result.model["device"]), threads, precision, versions)
        alike.setdefault(key, []).append(result.name)
    rows = [_row(", ".join(names), *key) for key, names in alike.items()]
    header = ("cells", "machine", "device", "threads", "precision", "versions")
    return Table(f"Environment of training on {_data(summary)}", header, rows, text=header)


def _interval_notes(results: Sequence[CellResult]) -> list[str]:
    notes = []
    for result in results:
        interval = result.evaluation["interval"]
        unit, blocks = interval["unit"], interval["blocks"]
        if not any((result.evaluation["intervals"] or {}).values()):
            note = f"No intervals: all patches belong to one {unit}, so there is nothing to resample."
        else:
            plural = {"city": "cities", "patch": "patches"}.get(unit, f"{unit}s")
            note = (
                f"In brackets: {LEVEL:.0%} percentile intervals of a bootstrap over {blocks:,} {plural} "
                f"({interval['samples']:,} resamples, seed {interval['seed']})."
            )
        if interval["lower_bound"]:
            note += (
                " † Nothing is known about where the patches lie, so single patches were resampled. "
                "Overlapping patches err together: the true intervals are wider, these are a lower bound of "
                "their width."
            )
        if note not in notes:
            notes.append(note)
    return notes


def _check_same_patches(results: Sequence[CellResult]) -> None:
    first, *others = results
    for other in others:
        if not np.array_equal(first.predictions["y_true"], other.predictions["y_true"]):
            raise UserError(f"{first.name} and {other.name} were evaluated on different patches; run `dvc repro`")


def _by_backbone(results: Iterable[CellResult]) -> list[tuple[str, list[CellResult]]]:
    def backbone(result: CellResult) -> str:
        return str(result.evaluation["backbone"])

    return [(name, list(members)) for name, members in groupby(sorted(results, key=backbone), backbone)]


def _splits(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {split: summary["splits"][split] for split in SPLITS}


def _data(summary: Mapping[str, Any]) -> str:
    return f"{summary['dataset']} ({_warning(summary)})"


def _caption(subject: str, summary: Mapping[str, Any]) -> str:
    return f"{subject}: testing split of {_data(summary)}, {_patches(summary):,} patches"


def _patches(summary: Mapping[str, Any]) -> int:
    return int(summary["splits"]["testing"]["patches"])


def _warning(summary: Mapping[str, Any]) -> str:
    return _WARNINGS[summary["kind"]]


def _row(*values: object) -> list[Entry]:
    return [Entry(str(value)) for value in values]


def _signed(value: float) -> str:
    text = fraction(value, 3)
    return text if text.startswith("-") or float(text) == 0 else f"+{text}"


def _probability(p: float) -> str:
    return "< .001" if p < 0.001 else fraction(p, 3)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bp_lcz.evaluation"),
        autoescape=lambda name: name is not None and name.endswith((".html.j2", ".css")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["markdown"] = _markdown
    return environment


def _markdown(text: str) -> str:
    """Escape what Markdown would take for markup; an underscore inside a word is none."""
    return re.sub(r"([\\`*<>|~]|(?<![a-zA-Z0-9])_|_(?![a-zA-Z0-9])|\](?=\())", r"\\\1", text)


def _read(path: Path, parse: Callable[[Path], dict[str, Any]], keys: Sequence[str]) -> dict[str, Any]:
    try:
        content = parse(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run `dvc repro`") from None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: unreadable: {' '.join(str(error).split())}") from None
    missing = [key for key in keys if key not in content]
    if missing:
        raise UserError(f"{path}: lacks {', '.join(missing)}; run `dvc repro -f` for the stage that wrote it")
    return content


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("expected a JSON object")
    return content


def _arrays(path: Path) -> dict[str, Any]:
    if path.exists() and not zipfile.is_zipfile(path):
        raise ValueError("not a NumPy .npz file")
    with np.load(path, allow_pickle=False) as file:
        return dict(file.items())


def _columns(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    return {name: [float(row[name] or "") for row in rows] for name in reader.fieldnames or ()}
