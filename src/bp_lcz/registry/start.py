"""Copies the checkpoint with which a training begins, so that the training needs no registry and no network."""

import shutil
from pathlib import Path

from bp_lcz.errors import UserError
from bp_lcz.model.checkpoint import DESCRIPTION, WEIGHTS, load_classifier
from bp_lcz.model.pretrained import PRETRAINED, write_pretrained
from bp_lcz.params import Start
from bp_lcz.registry.connection import open_store
from bp_lcz.registry.fetch import fetch_classifier
from bp_lcz.registry.versions import find_version


def bring_start(checkout: Path, model: str, folder: Path) -> Start:
    """Copy a checkpoint to a folder, and return its name and digest.

    Args:
        checkout: checkout whose store holds a registered model.
        model: folder of a checkpoint, ``models:/<name>@<alias>`` or ``models:/<name>/<version>``, or a name of
            `PRETRAINED`, which is downloaded.
        folder: new folder for the copy.

    Raises:
        UserError: if there is no such model, or its files are missing, damaged, or not those that were registered.
    """
    if model.startswith("models:"):
        with open_store(checkout) as client:
            version = find_version(client, model)
            name = f"models:/{version.name}/{version.version}"
            found = fetch_classifier(client, version, keep=folder)
    else:
        source = Path(model)
        name = source.resolve().name
        if not source.exists() and model in PRETRAINED:
            source = write_pretrained(model, folder)
        elif not (source / DESCRIPTION).is_file():
            raise UserError(
                model,
                f"not a folder with a {DESCRIPTION}; expected the folder of a checkpoint, models:/<name>@<alias>, "
                f"or {', '.join(PRETRAINED)}, which is downloaded",
            )
        found = load_classifier(source)
        if source != folder:
            folder.mkdir()
            for file in (DESCRIPTION, WEIGHTS):
                shutil.copyfile(source / file, folder / file)
    return Start(name=name, sha256=found.description.weights_sha256)
