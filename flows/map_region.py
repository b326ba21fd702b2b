"""The flow ``map-region``: maps each tile of a folder, then makes one virtual raster, table of areas and page of all.

Each tile is a run of ``map-tile/tiles`` that any worker of the pool ``bp-lcz-trials`` takes. Without workers the tiles
are mapped here, one after the other. Finished maps of the same scenes and model are kept, so it is safe to run again.

    prefect deployment run map-region/default --param tiles=/data/tiles --param model=models:/name@champion --watch
    python -m flows.map_region --tiles /data/tiles --model models/sen2lcz-mf --out /data/region
"""

import argparse
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import State
from prefect.context import get_run_context
from prefect.states import Completed, Failed
from pydantic import BaseModel, PositiveInt

from bp_lcz.errors import UserError, limit_of
from bp_lcz.regions.tiles import Tile, find_tiles
from bp_lcz.workspace import git
from flows.artifacts import show_lines
from flows.here import keep_interrupts, result_of
from flows.screen import screen
from flows.stages import CHECKOUT, SERVER_TASK, failed, failure
from flows.workers import Errand, run_on_workers

TILE_DEPLOYMENT = "map-tile/tiles"
_SCRATCH = CHECKOUT / ".scratch/regions"


class Region(BaseModel):
    """The settings that all tiles share.

    Attributes:
        out: folder or ``s3://bucket/prefix``.
        model: a checkpoint's folder, or a version of a registered model (no alias, since an alias may move meanwhile).
        weights_sha256: digest of its weights.
        s2_level: ``L1C`` or ``L2A``; None finds it from the files.
        other_level: whether scenes of another level than the model takes are accepted.
        filter: filter of the zones.
    """

    out: str
    model: str
    weights_sha256: str
    s2_level: str | None
    other_level: bool
    filter: str


@flow(name="map-region")
def map_region(
    tiles: Path,
    model: str,
    out: str | None = None,
    workers: bool = False,
    s2_level: str | None = None,
    other_level: bool = False,
    filter: str = "none",
    tries: PositiveInt = 3,
) -> State[Any]:
    """Map each tile, then join the maps.

    Args:
        tiles: folder of scenes, see `find_tiles`; relative to the checkout. With workers, all reach it at this path.
        model: folder of a checkpoint, ``models:/<name>@<alias>``, or a name of published weights.
        out: folder that all workers reach, or ``s3://bucket/prefix``; None is ``<tiles>-lcz`` beside the tiles.
        workers: give the tiles to the workers of the pool ``bp-lcz-trials`` instead of mapping them here.
        s2_level: level of all scenes, ``L1C`` or ``L2A``; None finds it for each.
        other_level: map scenes of another level than the model takes.
        filter: ``none``, ``majority`` or ``wudapt``.
        tries: number of runs of a tile before a crash, such as the end of its machine, counts as final.

    Returns:
        Completed, or a failed state that names each tile that has no map.
    """
    from bp_lcz.regions.join import join_tiles, write_waiting
    from bp_lcz.regions.store import store_of

    keep_interrupts()
    logger, folder = get_run_logger(), (CHECKOUT / tiles).absolute()
    try:
        found, others = find_tiles(folder)
        logger.info("%d tiles in %s%s", len(found), folder, f"; no scenes: {', '.join(others)}" if others else "")
        address = out or str(folder.with_name(f"{folder.name}-lcz"))
        address = address if "://" in address else str((CHECKOUT / address).absolute())
        store = store_of(address, _SCRATCH)
        pinned, sha256 = _pinned(model)
        region = Region(
            out=address,
            model=pinned,
            weights_sha256=sha256,
            s2_level=s2_level,
            other_level=other_level,
            filter=filter,
        )
        title = address.rstrip("/").rsplit("/", 1)[-1]
        write_waiting(store, title, [tile.name for tile in found])
        states = _on_workers(region, found, tries) if workers else _here(region, found)
        made = {tile: str(state.message) for tile, state in states.items() if state.is_completed()}
        failures = {tile: str(state.message) for tile, state in states.items() if tile not in made}
        lines = join_tiles(store, title, made, failures)
    except Exception as error:
        return _told(error)
    logger.info("\n%s", "\n".join(lines))
    show_lines(folder, "region", lines, f"areas of {title}")
    if failures:
        return Failed(message="; ".join(f"{tile}: {line}" for tile, line in sorted(failures.items())))
    return Completed(message=lines[-1], data=lines)


@flow(name="map-tile", flow_run_name="{tile.name}")
def map_tile(tile: Tile, region: Region) -> State[Any]:
    """Map one tile, unless the store has its map."""
    state: State[Any] = make(tile, region, return_state=True)
    return Failed(message=state.message) if not state.is_completed() else Completed(message=state.message)


@task(task_run_name="{tile.name}", **SERVER_TASK)
def make(tile: Tile, region: Region) -> State[None]:
    """Map one tile, and log what is found and made."""
    from bp_lcz.maps.map import MapOptions
    from bp_lcz.regions.make import make_tile
    from bp_lcz.regions.store import store_of
    from bp_lcz.scenes.scene import SceneOptions
    from bp_lcz.serving.predict import load_model

    logger = get_run_logger()
    try:
        classifier, name = load_model(CHECKOUT, region.model)
        if classifier.description.weights_sha256 != region.weights_sha256:
            raise UserError(region.model, "has other weights here than on the machine that started the region")
        scene = SceneOptions(tile.s2, tile.s1, s2_level=region.s2_level)
        options = MapOptions(scene, region.filter, other_level=region.other_level)
        store = store_of(region.out, _SCRATCH)
        outcome = make_tile(store, tile.name, classifier, name, options, lambda line: logger.info("%s", line))
    except Exception as error:
        return _told(error)
    return Completed(message=outcome)


def _pinned(model: str) -> tuple[str, str]:
    """A name under which every tile gets the same model, and the sha256 of its weights."""
    from bp_lcz.serving.predict import load_model

    if (CHECKOUT / model).is_dir():
        model = str((CHECKOUT / model).absolute())
    classifier, name = load_model(CHECKOUT, model)
    return f"models:/{name}" if model.startswith("models:") else model, classifier.description.weights_sha256


def _told(error: Exception) -> State[Any]:
    """The failed state for an error that a user can fix; faults are raised again."""
    if limit := limit_of(error):
        return failed(UserError.status, limit)
    return failure(error)


def _here(region: Region, tiles: list[Tile]) -> dict[str, State[Any]]:
    """Map one tile after the other, since each takes all cores."""
    states = dict[str, State[Any]]()
    for tile in tiles:
        states[tile.name] = map_tile(tile, region, return_state=True)
        line = f"{tile.name}: {states[tile.name].message}; {len(tiles) - len(states)} to go"
        get_run_logger().info("%s", line)
        screen.tell(line)
    return states


def _on_workers(region: Region, tiles: list[Tile], tries: int) -> dict[str, State[Any]]:
    # Maps of an earlier run may be gone, so only runs of tiles that belong to this run are taken over.
    run = get_run_context().flow_run.id  # type: ignore[union-attr]
    errand = Errand(TILE_DEPLOYMENT, git(CHECKOUT, "rev-parse", "HEAD"), str(run), tries)
    job = region.model_dump()
    return run_on_workers(errand, {tile.name: {"tile": tile.model_dump(mode="json"), "region": job} for tile in tiles})


def main() -> None:
    """Run the flow here and print the areas."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.map_region",
        description="Map each tile of a folder, then join the maps: virtual rasters, a table of areas, a page.",
        epilog="Example: python -m flows.map_region --tiles /data/tiles --model models/sen2lcz-mf --out /data/region",
    )
    parser.add_argument("--tiles", type=Path, required=True, help="folder of scenes; each entry is one tile")
    parser.add_argument("--model", required=True, help="folder of a checkpoint, or models:/<name>@<alias>")
    parser.add_argument(
        "--out", help="folder or s3://bucket/prefix for the maps (default: <tiles>-lcz beside the tiles)"
    )
    parser.add_argument("--workers", action="store_true", help="give the tiles to the workers of bp-lcz-trials")
    parser.add_argument("--s2-level", choices=["L1C", "L2A"], help="level of all scenes, if the files do not tell it")
    parser.add_argument("--other-level", action="store_true", help="map scenes of another level than the model takes")
    parser.add_argument(
        "--filter", default="none", help="filter of the maps: none, majority (3 x 3 cells) or wudapt (Gaussian)"
    )
    parser.add_argument("--verbose", action="store_true", help="show the whole log instead of a line for each tile")
    options = vars(parser.parse_args())
    verbose = options.pop("verbose")
    # Paths are relative to the checkout for the flow, and to the current folder for the command.
    options["tiles"] = options["tiles"].absolute()
    for key in ("model", "out"):
        if options[key] and ":/" not in options[key] and (key == "out" or Path(options[key]).is_dir()):
            options[key] = str(Path(options[key]).absolute())
    print(*result_of(lambda: map_region(**options, return_state=True), CHECKOUT, verbose), sep="\n")


if __name__ == "__main__":
    main()
