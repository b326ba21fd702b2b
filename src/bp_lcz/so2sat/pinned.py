"""`data.dvc` and the files that it pins, from the side of `bp-lcz download`.

DVC takes a file for "not in cache" until it is committed, even where its md5 is the pinned one.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from bp_lcz.dvc_internals import remember_md5
from bp_lcz.errors import UserError
from bp_lcz.so2sat.releases import Release

PINS = "data.dvc"


def check_pins(release: Release, folder: Path) -> None:
    """Stop before a release goes into a folder that `data.dvc` reserves for other files.

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


def commit_pins(release: Release, folder: Path) -> str | None:
    """Tell DVC of the pinned files after those of a release were verified in a folder.

    With a cache on the same disk they are linked into it, not copied (`cache.type` in .dvc/config), and become
    read-only.

    Returns:
        What was done or why nothing could be, for people; None where no `data.dvc` pins files of the folder, or
        others than those of the release.

    Raises:
        UserError: if `dvc commit` fails.
    """
    checkout, pins = _pins_in(folder)
    verified = {file.name: file.md5 for file in release.files if (folder / file.name).is_file()}
    if not pins or not pins.items() <= verified.items():
        return None
    if folder.resolve() != checkout.resolve() / _absolute(folder).relative_to(checkout):
        return f"{folder} is a link, which DVC cannot commit: {PINS} stays without its files"
    remember_md5(checkout, {_absolute(folder) / name: md5 for name, md5 in pins.items()})
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "commit", "--force", "--quiet", PINS],
        cwd=checkout,
        check=False,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise UserError(PINS, f"the files are verified, but `dvc commit -f {PINS}` fails: {lines[-1]}")
    return f"{PINS}: committed to the DVC cache"


def _pins_in(folder: Path) -> tuple[Path, dict[str, str]]:
    """The checkout whose `data.dvc` pins files of a folder, and their md5 by name; without any if there is none."""
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
