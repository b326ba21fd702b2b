"""What a reader of a map must know first."""

from bp_lcz.errors import UserError
from bp_lcz.records import Checkpoint, DataKind
from bp_lcz.scenes.scene import Scene


def cautions(scene: Scene, model: Checkpoint, other_level: bool) -> tuple[str, ...]:
    """Sentences for every output of a map.

    Args:
        scene: of the map.
        model: likewise.
        other_level: whether scenes of another level than the model takes are accepted.

    Raises:
        UserError: if they are of another level and that is not accepted.
    """
    found = []
    wanted, level = model.level, scene.level
    if level is None and wanted is not None:
        found.append(
            f"Nothing tells the level of the Sentinel-2 files, and the model takes {wanted}: if they are of another, a "
            "third to a half of the zones are others. Say it with --s2-level."
        )
    elif level != wanted and wanted is not None:
        if not other_level:
            raise UserError(
                "--s2",
                f"is {level}, the model takes {wanted}: a third to a half of the zones would be others; give {wanted}, "
                "a model that takes this level, or --other-level to make the map all the same",
            )
        found.append(
            f"Made of {level} with a model that takes {wanted}: with the same ground in the other level a third to a "
            "half of the zones are others."
        )
    if anew := [file.name for file in scene.findings.files if file.resampled and file.quantity == "reflectance"]:
        found.append(
            f"The pixels of {', '.join(anew)} are none of 10 m of {scene.findings.crs} and were made anew, which alone "
            "gave 28 to 50 % of the cells of three sites another zone."
        )
    if model.kind is not None and model.kind is not DataKind.SO2SAT:
        found.append(f"The model was trained on {model.dataset}: {model.kind.heading}. {model.kind.sentence}")
    return tuple(found)
