"""Makes a map of local climate zones: the files of its folder from scenes and a model."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import rasterio
import torch
from jaxtyping import Int, Shaped, UInt8
from tqdm import tqdm

from bp_lcz.errors import UserError
from bp_lcz.files import staged_folder
from bp_lcz.maps.cautions import cautions
from bp_lcz.maps.cells import (
    Reason,
    cell_type,
    check_channels,
    predict_cells,
)
from bp_lcz.maps.change import Made
from bp_lcz.maps.exports import write_exports
from bp_lcz.maps.filters import FILTERS
from bp_lcz.maps.forecast import Forecast, duration, look_ahead, shares
from bp_lcz.maps.inputs import State, hashed, input_files, states
from bp_lcz.maps.item import ITEM, write_item
from bp_lcz.maps.others import Beside, Others, set_beside
from bp_lcz.maps.outputs import (
    AREAS,
    CELL_KM2,
    LCZ,
    MOST_PIXELS,
    PROBABILITY,
    QUALITY,
    REPORT,
    true_colours,
    write_areas,
    write_rasters,
)
from bp_lcz.maps.page import PAGE, Story, days_of, write_page
from bp_lcz.maps.work import finished_rows, key_of, refuse_existing
from bp_lcz.model.calibration import set_threshold
from bp_lcz.model.checkpoint import Classifier, versions
from bp_lcz.patches.likeness import too_many_unlike
from bp_lcz.records import MappedBy, MapReport
from bp_lcz.scenes.scene import Scene, SceneOptions, opened_scene
from bp_lcz.scheme import ZONES
from bp_lcz.sensors.raster import CELL, CELL_PIXELS

_FILES = (
    (LCZ, "zones 1 to 17 of cells of 100 m, 0 where there is none"),
    (PROBABILITY, "probability of each zone in percent"),
    (QUALITY, "highest probability, margin, entropy, and why a cell has a zone or none"),
    (AREAS, "area of each zone"),
    (REPORT, "what was found in the files, by what evidence, and hashes of files and model"),
    (ITEM, "the map as an item of a catalogue (STAC)"),
)
_BYTES_BESIDE = 80
"""Bytes of a cell in all outputs while they are written."""
_SPARE_BYTES = 2**24


@dataclass(frozen=True)
class MapOptions:
    """What a map is made from, and how.

    Attributes:
        scene: files of the scenes, and options for reading them.
        filter: filter of the zones, a name of `FILTERS`.
        exports: forms for other tools, from `export_names`.
        others: what the map is compared with.
        other_level: whether a scene may have another level than the model takes.
        set_coverage: share of cells whose set of classes should hold the true one; None for no sets.
    """

    scene: SceneOptions
    filter: str = "none"
    exports: tuple[str, ...] = ()
    others: Others = field(default_factory=Others)
    other_level: bool = False
    set_coverage: float | None = None

    def __post_init__(self) -> None:
        if self.filter not in FILTERS:
            raise UserError(f"--filter {self.filter}", f"expected {', '.join(FILTERS)}")


@dataclass(frozen=True)
class _Plan:
    """A map whose inputs have been checked.

    Attributes:
        scene: the open scene.
        classifier: the model.
        name: name of the model.
        options: what the map is made from.
        out: folder to make; ``map`` if it is unknown.
        notices: warnings that every output begins with.
        files: files that are read.
        states: their states at the start.
    """

    scene: Scene
    classifier: Classifier
    name: str
    options: MapOptions
    out: Path
    notices: tuple[str, ...]
    files: list[Path] = field(repr=False)
    states: list[State] = field(repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Cells down and across."""
        return self.scene.cells

    @property
    def lines(self) -> list[str]:
        """What was found in the files."""
        unused = self.scene.channels.sen1 and not self.classifier.channels.sen1
        return [*self.scene.lines, *(["Sentinel-1 is not used: the model takes Sentinel-2 alone"] if unused else [])]

    @property
    def place(self) -> rasterio.Affine:
        """Transform from cells to the coordinates of the grid."""
        grid = self.scene.grid.transform
        return grid @ grid.translation(CELL.start, CELL.start) @ grid.scale(CELL_PIXELS)

    @property
    def threshold(self) -> float | None:
        """Smallest probability of a class in a cell's set."""
        coverage, calibration = self.options.set_coverage, self.classifier.description.calibration
        return None if coverage is None else set_threshold(calibration, coverage, self.name)

    @property
    def taken(self) -> list[tuple[str, str] | None]:
        """First and last time of each scene of Sentinel-2; None if unknown."""
        return [file.taken for file in self.scene.findings.files if file.quantity == "reflectance"]

    @property
    def made(self) -> Made:
        """What the map is made from, as comparisons need it."""
        model = self.classifier.description
        temperature = model.calibration.temperature if model.calibration else None
        return Made(model.weights_sha256, self.options.filter, self.scene.findings, temperature)

    @property
    def kept(self) -> np.dtype:
        """Type of the values kept for a cell. Its picture is as fine as `MOST_PIXELS` allows."""
        sides = [side for side in (10, 5, 2) if side * max(self.shape) <= MOST_PIXELS]
        return cell_type(max(sides, default=1))

    @property
    def key(self) -> str:
        """Hash of everything that decides the bytes of a row."""
        return key_of(
            {
                "model": self.classifier.description.weights_sha256,
                "calibration": [self.classifier.description.calibration, self.threshold],
                "computed by": [versions(self.classifier.device), self.classifier.device, torch.get_num_threads()],
                "scene": [asdict(self.options.scene), self.scene.findings.model_dump(mode="json")],
                "files": self.states,
                "area": None if self.scene.area is None else self.scene.area.wkb_hex,
                "cells": [self.shape, self.place, self.kept],
            }
        )


def make_map(
    classifier: Classifier, name: str, options: MapOptions, out: Path, tell: Callable[[str], object] = print
) -> MapReport:
    """Make a map. A run that was killed continues where it stopped.

    Args:
        classifier: the model.
        name: name of the model.
        options: what the map is made from.
        out: folder to make: ``lcz.tif``, ``probability.tif``, ``quality.tif``, ``areas.csv``, ``report.json``,
            ``item.json``, ``map.html`` and what the options ask for. It appears whole or not at all.
        tell: takes each message.

    Returns:
        The report of the map.

    Raises:
        UserError: if the folder exists, the disk has too little space, a file cannot be read or used, the scenes lack
            channels that the model takes or are of another level than it takes, or nothing can be mapped.
    """
    with _planned(classifier, name, options, out) as plan:
        for line in (*plan.lines, *plan.notices):
            tell(line)
        down, across = plan.shape
        with finished_rows(out, plan.key, plan.kept, across) as rows:
            if rows.count:
                tell(f"goes on from row {rows.count} of {down}")
            start, todo = time.monotonic(), (down - rows.count) * across
            with tqdm(total=down * across, initial=rows.count * across, desc="map", unit="cell") as progress:
                for row in predict_cells(
                    plan.scene, classifier, plan.kept, rows.count, rows.predicted(), plan.threshold
                ):
                    rows.add(row)
                    progress.update(across)
            seconds = time.monotonic() - start
            states(plan.files, plan.states)
            cells = rows.read()
            reasons = _counts(cells["reason"], len(Reason))
            written = _write(plan, cells, reasons) if cells["lcz"].any() else None
        if written is None:  # only here, when the rows are deleted: another run would find the same
            raise _no_cell(options, "no cell", reasons)
        report, agreement = written
        done = [*plan.scene.losses(), f"{todo:,} cells in {seconds:.1f} s", *agreement]
    for line in (*done, *_areas(report), *_next_steps(out, options)):
        tell(line)
    return report


def plan_map(
    classifier: Classifier,
    name: str,
    options: MapOptions,
    out: Path | None = None,
    tell: Callable[[str], object] = print,
) -> Forecast:
    """Print what a map would be: findings in the files, its grid, how many cells have data, how long it takes.

    Nothing is written.

    Raises:
        UserError: as in `make_map`, as far as it is known without reading whole files.
    """
    with _planned(classifier, name, options, out) as plan:
        for line in (*plan.lines, *plan.notices):
            tell(line)
        found, reasons = look_ahead(plan.scene, classifier, plan.place, tell)
        if not reasons[Reason.MAPPED]:
            raise _no_cell(options, f"no cell in {found.rows} of {found.down} rows", reasons)
        tell(f"of the cells in {found.rows} of {found.down} rows: {shares(reasons)}")
        tell(f"about {duration(found.seconds)} for about {found.cells:,} cells on {found.device}")
        tell("nothing was written" if out is None else f"would make {out}; nothing was written")
    return found


def _no_cell(options: MapOptions, which: str, reasons: Int[np.ndarray, " reason"]) -> UserError:
    return UserError(
        options.scene.s2[0], f"{which} can be mapped: {shares(reasons)}; a cell needs all of the 320 m round it"
    )


@contextmanager
def _planned(classifier: Classifier, name: str, options: MapOptions, out: Path | None) -> Iterator[_Plan]:
    if out is not None:
        refuse_existing(out)
    with opened_scene(options.scene) as scene:
        check_channels(scene, classifier)
        notices = cautions(scene, classifier.description, options.other_level)
        files = input_files(options.scene, scene)
        plan = _Plan(scene, classifier, name, options, out or Path("map"), notices, files, states(files))
        _check_space(plan)
        _ = plan.threshold  # raises now if the model has no threshold for this coverage
        options.others.check(plan.made, scene.grid.crs, plan.place, plan.shape)
        yield plan


def _check_space(plan: _Plan) -> None:
    rows, columns = plan.shape
    needed = rows * columns * (plan.kept.itemsize + _BYTES_BESIDE) + _SPARE_BYTES
    place = next(folder for folder in (*plan.out.absolute().parents, Path("/")) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise UserError(place, f"has {free / 2**20:,.0f} MiB free; this map needs {needed / 2**20:,.0f} MiB")


def _write(
    plan: _Plan, cells: Shaped[np.ndarray, "row cell"], reasons: Int[np.ndarray, " reason"]
) -> tuple[MapReport, list[str]]:
    lcz: UInt8[np.ndarray, "row cell"] = FILTERS[plan.options.filter](np.ascontiguousarray(cells["lcz"]))
    if warning := too_many_unlike(int(reasons[Reason.UNLIKE]), int(np.count_nonzero(lcz))):
        plan = replace(plan, notices=(*plan.notices, warning))
    crs, notice = plan.scene.grid.crs, " ".join(plan.notices)
    with staged_folder(plan.out) as folder:
        tags = {"model": plan.name, "weights_sha256": plan.classifier.description.weights_sha256}
        tags |= {"notice": notice} if notice else {}
        write_rasters(folder, cells, lcz, crs, plan.place, tags, plan.options.set_coverage)
        beside = set_beside(folder, plan.options.others, plan.classifier.description)
        report = _report(plan, reasons, lcz, beside)
        write_areas(folder / AREAS, [report.zones.get(zone.code, 0) for zone in ZONES], notice, beside.accuracy)
        write_item(folder, plan.out.name, plan.taken, plan.notices)
        report.write(folder / REPORT)
        write_page(folder, true_colours(cells), _story(plan, beside))
        return report, beside.lines + write_exports(folder, plan.options.exports)


def _story(plan: _Plan, beside: Beside) -> Story:
    """The texts of the page."""
    model = plan.classifier.description
    lines = [
        f"{plan.name}: {model.backbone}, {model.variant}, weights {model.weights_sha256[:12]}",
        f"Takes {', '.join(plan.classifier.channels.names)}; level {model.level or 'unknown'}",
        f"Trained on {model.dataset}" if model.dataset else model.source or "Trained on unknown data",
    ]
    return Story(
        title=plan.out.name,
        days=days_of(plan.taken),
        model=lines,
        notices=plan.notices,
        agreement=beside.agreement,
        findings=[*plan.lines, *plan.scene.losses()],
        files=_FILES + beside.files,
        accuracy=beside.accuracy,
        change=beside.change,
    )


def _report(
    plan: _Plan,
    reasons: Int[np.ndarray, " reason"],
    lcz: UInt8[np.ndarray, "row cell"],
    beside: Beside,
) -> MapReport:
    model, place = plan.classifier.description, plan.place
    zones = _counts(lcz, len(ZONES) + 1)[1:]
    return MapReport(
        notices=plan.notices,
        model=MappedBy(
            name=plan.name,
            trial=model.trial,
            weights_sha256=model.weights_sha256,
            dataset=model.dataset,
            kind=model.kind,
            level=model.level,
        ),
        scene=plan.scene.findings,
        inputs=hashed(plan.files),
        crs=plan.scene.grid.crs.to_string(),
        west=place.c,
        north=place.f,
        rows=plan.shape[0],
        columns=plan.shape[1],
        reasons={kind.word: count for kind, count in zip(Reason, reasons.tolist(), strict=True)},
        zones={zone.code: count for zone, count in zip(ZONES, zones.tolist(), strict=True) if count},
        filter=plan.options.filter,
        temperature=plan.made.temperature,
        set_coverage=plan.options.set_coverage,
        against=beside.against,
        accuracy=beside.accuracy,
        change=beside.change,
        versions=versions(plan.classifier.device)
        | {"rasterio": rasterio.__version__, "gdal": rasterio.__gdal_version__},
    )


def _counts(values: UInt8[np.ndarray, "row cell"], kinds: int) -> np.ndarray:
    """Count of each value. Rows are counted one by one, since the cells may be a memory-mapped file."""
    return sum((np.bincount(row, minlength=kinds) for row in values), start=np.zeros(kinds, np.int64))


def _areas(report: MapReport) -> list[str]:
    """Areas of the zones and shares of the reasons, as messages."""
    mapped = sum(report.zones.values())
    lines = [
        f"{zone.code:>3}  {zone.name:<22}{count * CELL_KM2:>12,.2f} km2{100 * count / mapped:>7.1f} %"
        for zone in ZONES
        if (count := report.zones.get(zone.code))
    ]
    found = shares(np.array([report.reasons[kind.word] for kind in Reason]))
    return [*lines, found, *report.notices]


def _next_steps(out: Path, options: MapOptions) -> list[str]:
    exports = f"; {out / 'exports'} for other tools" if options.exports else ""
    return [f"look at {out / PAGE} in a browser; {out / LCZ} opens in QGIS with colours and names{exports}"]
