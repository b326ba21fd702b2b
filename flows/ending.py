"""How the commands of the flows end: with an error in one line, like all commands of this project."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bp_lcz.errors import UserError, limit_of, refusal_of


@contextmanager
def one_line() -> Iterator[None]:
    """End the process with one line for errors of the user or refusals of the system; raise faults again."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.status)
    except Exception as error:
        if (refused := refusal_of(error)) is not None:
            sys.exit(f"error: {refused}")
        if (limit := limit_of(error)) is not None:
            sys.exit(f"error: {Path.cwd()}: {limit}")
        raise
