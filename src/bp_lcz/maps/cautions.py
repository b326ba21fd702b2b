"""Warnings that every output of a map begins with."""

from bp_lcz.errors import UserError
from bp_lcz.records import Checkpoint, DataKind
from bp_lcz.scenes.scene import Scene


def cautions(scene: Scene, model: Checkpoint, other_level: bool) -> tuple[str, ...]:
    """The warnings of a map, in sentences.

    Args:
        scene: scene of the map.
        model: model of the map.
        other_level: whether a scene may have another level than the model takes.

    Raises:
        UserError: if the scene has another level and `other_level` is False.
    """
    found = []
    wanted, level, (path, _) = model.level, scene.level, scene.first
    if level is None and wanted is not None:
        found.append(
            f"Nothing tells the level of {path.name}, and the model takes {wanted}. If it has another level, a third "
            "to more than half of the zones are wrong. Say the level with --s2-level."
        )
    elif level != wanted and wanted is not None:
        if not other_level:
            raise UserError(
                path,
                f"is {level}, but the model takes {wanted}, and a third to more than half of the zones would be wrong; "
                f"give {wanted}, or a model that takes {level}, or --other-level to make the map all the same",
            )
        found.append(
            f"The scene is {level}, but the model takes {wanted}. In {wanted} a third to more than half of the zones "
            "would be others."
        )
    if anew := [file.name for file in scene.findings.files if file.resampled and file.quantity == "reflectance"]:
        found.append(
            f"The pixels of {', '.join(anew)} do not lie on the 10 m grid of {scene.findings.crs} and were made anew. "
            "That alone gave 28 to 50 % of the cells of three sites another zone."
        )
    if model.kind is not None and model.kind is not DataKind.SO2SAT:
        found.append(f"The model was trained on {model.dataset}: {model.kind.heading}. {model.kind.sentence}")
    return tuple(found)
