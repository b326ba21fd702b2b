"""Makes the map of one tile. A finished map is kept, so any machine may run this again."""

import shutil
from collections.abc import Callable

from bp_lcz.errors import UserError
from bp_lcz.files import locked
from bp_lcz.maps.inputs import hashed, input_files
from bp_lcz.maps.map import MapOptions, make_map
from bp_lcz.maps.outputs import REPORT
from bp_lcz.model.checkpoint import Classifier
from bp_lcz.records import MapReport
from bp_lcz.regions.store import TILES, Store
from bp_lcz.scenes.scene import opened_scene

KEPT, MADE = "kept", "made"


def make_tile(
    store: Store,
    tile: str,
    classifier: Classifier,
    name: str,
    options: MapOptions,
    tell: Callable[[str], object] = print,
) -> str:
    """Make the map of a tile in the store, unless it exists.

    If another process makes the same map, this one waits for it. Rows that a killed process finished are not computed
    again, if both processes reach the same disk.

    Args:
        store: store of the region.
        tile: name of the tile.
        classifier: the model.
        name: name of the model.
        options: what the map is made from, with the scenes of the tile.
        tell: takes each message.

    Returns:
        `MADE` or `KEPT`.

    Raises:
        UserError: as in `make_map`; if the store refuses; or if it holds a map of other inputs or another model.
    """
    place = store.place(tile)
    with locked(place.parent / f".{tile}.lock", f"another process makes {tile}", tell=tell):
        report = report_of(store, tile)
        if report is not None:
            if _is_of(report, classifier, options):
                return KEPT
            where = f"{store.address}/{TILES}/{tile}"
            raise UserError(
                where, "is a map of other scenes, other options or another model; remove it, or name another place"
            )
        if (place / REPORT).exists() and not _is_of(MapReport.read(place / REPORT), classifier, options):
            shutil.rmtree(place)  # left over: the store never received it
        if not place.exists():
            make_map(classifier, name, options, place, tell)
        store.send(tile)
    return MADE


def report_of(store: Store, tile: str) -> MapReport | None:
    """The report of a tile's map in the store; None if there is no map."""
    content = store.read(name := f"{TILES}/{tile}/{REPORT}")
    return None if content is None else MapReport.parse(content, f"{store.address}/{name}")


def _is_of(report: MapReport, classifier: Classifier, options: MapOptions) -> bool:
    """Whether a map was made with this model from these files, and the files still give the same findings."""
    model = classifier.description
    temperature = model.calibration.temperature if model.calibration else None
    made = report.model.weights_sha256, report.temperature, report.filter, report.set_coverage
    if made != (model.weights_sha256, temperature, options.filter, options.set_coverage):
        return False
    with opened_scene(options.scene) as scene:
        return report.scene == scene.findings and report.inputs == hashed(input_files(options.scene, scene))
