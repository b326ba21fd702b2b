"""Compares two maps of the same scenes with one reference, to find which model maps a city better."""

from pathlib import Path

import numpy as np
import rasterio

from bp_lcz.errors import UserError
from bp_lcz.maps.outputs import LCZ, REPORT
from bp_lcz.maps.reference import read_reference
from bp_lcz.records import MapContest, MapReport
from bp_lcz.scoring.metrics import confusion_matrix, defined, kappa
from bp_lcz.scoring.significance import bootstrap_differences

_SAME = ("inputs", "scene", "filter", "crs", "west", "north", "rows", "columns")


def contest(candidate: Path, champion: Path, reference: Path, *, samples: int, seed: int) -> MapContest:
    """Compare two maps on the cells that both of them and a reference have a zone in.

    Args:
        candidate: folder of the map of the model that may become champion.
        champion: folder of the map of the champion, of the same files with the same options.
        reference: reference, as in `read_reference`. Neither model may have been trained on it.
        samples: number of resamples.
        seed: seed of the resampling.

    Returns:
        Kappa of both, and the interval of the lead. Resampling is by polygons or blocks of 1 km, since cells in them
        err together.

    Raises:
        UserError: if a map or the reference cannot be read, the maps differ in scenes or options, or no cell has a zone
            in all three.
    """
    reports = [MapReport.read(folder / REPORT) for folder in (candidate, champion)]
    other = [name for name in _SAME if getattr(reports[0], name) != getattr(reports[1], name)]
    if other:
        raise UserError(
            champion, f"is of other scenes or options than {candidate}; both must have one {', '.join(other)}"
        )
    with rasterio.open(candidate / LCZ) as file:
        crs, place, own = file.crs, file.transform, file.read(1).astype(np.int64) - 1
    with rasterio.open(champion / LCZ) as file:
        theirs = file.read(1).astype(np.int64) - 1
    there = read_reference(reference, crs, place, own.shape)
    known = (there.zones >= 0) & (own >= 0) & (theirs >= 0)
    if not known.any():
        raise UserError(reference, f"has no zone where both {candidate} and {champion} have one")
    true, own, theirs, unit = there.zones[known], own[known], theirs[known], there.unit[known]
    kappas = [defined(kappa(confusion_matrix(true, each))) for each in (own, theirs)]
    return MapContest(
        reference=reference.name,
        reference_sha256=there.sha256,
        inputs=reports[0].inputs,
        cells=len(true),
        unit="polygon" if there.kind == "polygons" else "block of 1 km",
        units=len(np.unique(unit)),
        samples=samples,
        seed=seed,
        candidate_sha256=reports[0].model.weights_sha256,
        champion_sha256=reports[1].model.weights_sha256,
        candidate_kappa=kappas[0],
        champion_kappa=kappas[1],
        lead_interval=bootstrap_differences(true, own, theirs, unit, samples, seed)["kappa"],
    )
