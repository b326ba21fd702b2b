"""The accuracy of a map by a reference, as numbers, as messages and as a table."""

import csv
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, UInt8

from bp_lcz.errors import UserError
from bp_lcz.maps.against import CEILING, doubts
from bp_lcz.maps.outputs import CELL_KM2
from bp_lcz.maps.reference import Reference
from bp_lcz.records import Accuracy, Checkpoint, DataKind, Estimate, MapMetric, ZoneAccuracy
from bp_lcz.scheme import CLASS_COUNT, CODES, ZONES
from bp_lcz.scoring.map_accuracy import adjusted_areas, confusions_of, estimated, repeated_splits
from bp_lcz.scoring.metrics import confusion_metrics
from bp_lcz.words import counted

ACCURACY, CONFUSION = "accuracy.json", "confusion.csv"
METRICS: dict[MapMetric, tuple[str, str]] = {
    "oa": ("OA", "all zones"),
    "oa_u": ("OA_u", "cells that are built, 1 to 10"),
    "oa_bu": ("OA_bu", "built against natural"),
    "oa_w": ("OA_w", "weighted by the likeness of zones"),
    "kappa": ("kappa", "agreement beyond chance"),
}
FEW_UNITS = 20
"""With fewer polygons or blocks than this, intervals are too narrow."""


def accuracy_of(
    lcz: UInt8[np.ndarray, "row column"],
    reference: Reference,
    model: Checkpoint,
    seen: Bool[np.ndarray, "row column"] | None,
    seen_in: Path | None,
) -> Accuracy:
    """Compare a map with a reference.

    Args:
        lcz: zones of the map, 1..17; 0 for none.
        reference: reference on the same cells.
        model: model that made the map.
        seen: cells that share ground with the training patches, or may do so; None if that is unknown.
        seen_in: data set from which `seen` was found; None if it comes from the places that the checkpoint names.

    Raises:
        UserError: if no cell has a zone in both.
    """
    both = (reference.zones >= 0) & (lcz > 0)
    if not both.any():
        raise UserError(reference.name, "has no zone in any cell that has a zone on the map")
    zones, mapped, unit = reference.zones[both], lcz[both].astype(np.int64) - 1, reference.unit[both]
    confusions = confusions_of(zones, mapped, unit)
    total = confusions.sum(axis=0)
    km2 = CELL_KM2 * np.bincount(lcz.ravel(), minlength=CLASS_COUNT + 1)[1:]
    areas, unadjusted = adjusted_areas(confusions, km2)
    metrics, of_zone = estimated(confusions)
    is_simulated = model.kind is DataKind.SIMULATED
    return Accuracy(
        reference=reference.name,
        sha256=reference.sha256,
        kind=reference.kind,
        band=reference.band,
        found=reference.lines,
        cells=len(zones),
        unmapped=int((reference.zones >= 0).sum()) - len(zones),
        unit="polygon" if reference.kind == "polygons" else "block of 1 km",
        units=len(confusions),
        metrics=metrics,
        zones=tuple(
            ZoneAccuracy(
                code=zone.code,
                name=zone.name,
                cells=int(total[i].sum()),
                mapped_cells=int(total[:, i].sum()),
                producers=of_zone["producers"][i],
                users=of_zone["users"][i],
                f1=of_zone["f1"][i],
                km2=float(km2[i]),
                adjusted_km2=areas[i],
            )
            for i, zone in enumerate(ZONES)
        ),
        macro_f1=float(confusion_metrics(total)["macro_f1"]),
        confusion=tuple(tuple(row) for row in total.tolist()),
        splits=_splits(confusions, zones, unit) if reference.kind == "polygons" else None,
        unadjusted_km2=float(unadjusted.sum()),
        seen=0 if is_simulated else None if seen is None else int((seen & both).sum()),
        seen_by=_how_seen(model, seen, seen_in),
        ceiling=CEILING,
    )


def told(found: Accuracy) -> list[str]:
    """An accuracy as messages. The last one says how to read it."""
    band = f", band {found.band}" if found.band else ""
    few = f", and from fewer than {FEW_UNITS} they are too narrow" if found.units < FEW_UNITS else ""
    seen = "nobody knows how many" if found.seen is None else f"{found.seen:,}"
    return [
        *found.found,
        f"{found.reference}{band}: {found.cells:,} cells in {counted(found.units, found.unit)}; {found.unmapped:,} "
        "other cells of it have no zone on this map",
        *(f"{METRICS[name][0]:<6} {measured(name, each)}, {METRICS[name][1]}" for name, each in found.metrics.items()),
        f"all but kappa are in percent; intervals are 95 % by {found.unit}{few}",
        *([_split_line(found.splits)] if found.splits else []),
        f"{seen} of these cells share ground with a patch that the model was trained on: {found.seen_by}",
        *(f"warning: {each}" for each in doubts_of(found)),
        found.ceiling,
    ]


def doubts_of(found: Accuracy) -> list[str]:
    """The doubt that the reference shows zones, if the map agrees with it only by chance."""
    oa, kappa = (found.metrics[name].value for name in ("oa", "kappa"))
    return doubts(found.reference, found.confusion, oa or 0.0, kappa)


def measured(name: MapMetric, estimate: Estimate) -> str:
    """A metric with its interval: kappa as a number, shares in percent."""
    return shown(estimate, 1.0, 3) if name == "kappa" else shown(estimate)


def shown(estimate: Estimate, scale: float = 100, digits: int = 1) -> str:
    """A value with its interval, in percent unless another scale is given."""
    if estimate.value is None:
        return "undefined"
    value = f"{scale * estimate.value:.{digits}f}"
    if estimate.interval is None:
        return value
    low, high = (f"{scale * end:.{digits}f}" for end in estimate.interval)
    return f"{value} ({low} to {high})"


def write_confusion(found: Accuracy, path: Path) -> None:
    """Write a row for each zone of the reference: its accuracy, and how many of its cells each zone got on the map."""
    measures = ("producers", "users", "f1")
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        heads = [f"{measure}{end}" for measure in measures for end in ("", "_low", "_high")]
        table.writerow(["code", "name", "cells", *heads, *(f"map_{code}" for code in CODES)])
        for row, counts in zip(found.zones, found.confusion, strict=True):
            values = [getattr(row, measure) for measure in measures]
            numbers = [number for each in values for number in (each.value, *(each.interval or (None, None)))]
            table.writerow([row.code, row.name, row.cells, *numbers, *counts])


def _split_line(splits: dict[MapMetric, Estimate]) -> str:
    values = ", ".join(f"{METRICS[name][0]} {measured(name, value)}" for name, value in splits.items())
    return f"25 tests on 30 % of the polygons of each zone, mean and range of nine in ten: {values}"


def _splits(
    confusions: Int[np.ndarray, "unit klass klass"], zones: Int[np.ndarray, " cell"], unit: Int[np.ndarray, " cell"]
) -> dict[MapMetric, Estimate]:
    _, first = np.unique(unit, return_index=True)
    return repeated_splits(confusions, zones[first])


def _how_seen(model: Checkpoint, seen: Bool[np.ndarray, "row column"] | None, seen_in: Path | None) -> str:
    if model.kind is DataKind.SIMULATED:
        return "it was trained on a simulation"
    if seen_in is not None:
        return f"by the places of the training patches in {seen_in.name}"
    if seen is not None and model.places is not None:
        start = "" if model.places.are_all else ", and nobody knows where the model was trained that it began with"
        return f"this is an upper bound, as the checkpoint names squares of {model.places.side / 100:g} degrees{start}"
    data = "" if model.dataset is None else f" ({model.dataset})"
    return f"the checkpoint does not tell where its training patches{data} lie; give their folder with --trained-on"
