"""How a command prints its results: as text for people or, with ``--json``, only as JSON on standard output."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter

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
