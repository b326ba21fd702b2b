"""`data.dvc` and the files that it pins. `.dvcignore` hides it, since DVC would report 59 GB missing in every clone."""

import os
from pathlib import Path
from typing import Any

import yaml

from bp_lcz.dvc_internals import have_md5, remember_md5
from bp_lcz.errors import UserError
from bp_lcz.so2sat.releases import Release

PINS = "data.dvc"


def check_pins(release: Release, folder: Path) -> None:
    """Refuse to download a release into a folder that `data.dvc` reserves for other files.

    Raises:
        UserError: if a file of the release has another md5 than `data.dvc` pins under its name.
    """
    checkout, pins = _pins_in(folder)
    promised = {file.name: file.md5 for file in release.files}
    for name, md5 in pins.items():
        if name in promised and promised[name] != md5:
            raise UserError(
                folder,
                f"{checkout / PINS} pins another {name} (md5 {md5}) than that of {release.name}; "
                "choose another folder with --out",
            )


def verify_pins(folder: Path) -> None:
    """Refuse a folder whose files are not those that `data.dvc` pins. Files that DVC hashed before are not read again.

    Raises:
        UserError: if a file differs; the text names it.
    """
    checkout, pins = _pins_in(folder)
    for name, md5 in pins.items():
        file = _absolute(folder) / name
        if file.is_file() and not have_md5(checkout, {file: md5}):
            raise UserError(
                folder / name,
                f"not the file that {checkout / PINS} pins (md5 {md5}): `bp-lcz download --replace` brings that one; "
                "other data go into another folder",
            )


def remember_pins(release: Release, folder: Path) -> None:
    """Tell DVC the md5 of pinned files that were verified, so that 59 GB are not read again."""
    checkout, pins = _pins_in(folder)
    verified = {file.name: file.md5 for file in release.files if (folder / file.name).is_file()}
    if pins and pins.items() <= verified.items():
        remember_md5(checkout, {_absolute(folder) / name: md5 for name, md5 in pins.items()})


def _pins_in(folder: Path) -> tuple[Path, dict[str, str]]:
    """The checkout whose `data.dvc` pins files of a folder, and their md5 by name; no md5 if there is none."""
    absolute = _absolute(folder)
    for checkout in absolute.parents:
        if (checkout / ".dvc").is_dir() and (checkout / PINS).is_file():
            break
    else:
        return absolute, {}
    try:
        outs: list[dict[str, Any]] = yaml.safe_load((checkout / PINS).read_text(encoding="utf-8"))["outs"]
        paths = {checkout / out["path"]: str(out["md5"]) for out in outs}
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        raise UserError(checkout / PINS, "not a DVC file") from None
    if all(path.parent == absolute for path in paths):
        return checkout, {path.name: md5 for path, md5 in paths.items()}
    return absolute, {}


def _absolute(folder: Path) -> Path:
    # Not resolve(): a link must be seen as one.
    return Path(os.path.abspath(folder))  # noqa: PTH100
