"""How a command gives what it found: as text for people or, with ``--json``, as JSON alone on standard output."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter

from bp_lcz.files import refuse_below_file

AsJson = Annotated[bool, typer.Option("--json", help="As JSON, with all that is known, for scripts.")]


def show(found: object, text: str, as_json: bool) -> None:
    """Print a record, a dataclass or what is made of such; NaN is null. Without ``as_json`` its text."""
    typer.echo(TypeAdapter(object).dump_json(found, indent=1).decode() if as_json else text)


def to_make(target: Path | None) -> Path | None:
    """Callback of an option that names a file or folder to make: refuses at once what can be no such thing.

    Raises:
        UserError: if it lies below a file.
    """
    if target is not None:
        refuse_below_file(target)
    return target
