"""What commands share: results as text or, with ``--json``, only as JSON; and checks of paths before the work."""

import os
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter

from bp_lcz.errors import UserError
from bp_lcz.files import refuse_below_file

AsJson = Annotated[bool, typer.Option("--json", help="Print all details as JSON, for scripts.")]


def show(found: object, text: str, as_json: bool) -> None:
    """Print a record, a dataclass or a collection of them as JSON (NaN becomes null), or else the text."""
    typer.echo(TypeAdapter(object).dump_json(found, indent=1).decode() if as_json else text)


def to_make(target: Path | None) -> Path | None:
    """Callback of an option for a file or folder to make, which refuses an impossible path at once.

    Raises:
        UserError: if it lies below a file.
    """
    if target is not None:
        refuse_below_file(target)
    return target


def refuse_missing(*files: Path) -> None:
    """Refuse a missing file before the slow imports of a command.

    Raises:
        UserError: if one does not exist.
    """
    for file in files:
        if not os.path.exists(file):  # noqa: PTH110 - Path's own fails where a name is too long
            raise UserError(file, "not found")
