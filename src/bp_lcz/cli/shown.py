"""How a command gives what it found: as text for people or, with ``--json``, as JSON alone on standard output."""

from typing import Annotated

import typer
from pydantic import TypeAdapter

AsJson = Annotated[bool, typer.Option("--json", help="As JSON, with all that is known, for scripts.")]


def show(found: object, text: str, as_json: bool) -> None:
    """Print a record, a dataclass or what is made of such; NaN is null. Without ``as_json`` its text."""
    typer.echo(TypeAdapter(object).dump_json(found, indent=1).decode() if as_json else text)
