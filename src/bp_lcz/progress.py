"""Progress of a training for the flow that started it: a line of JSON for each epoch, in a file."""

import json
import os
from pathlib import Path
from typing import Any

PROGRESS_FILE = "BP_LCZ_PROGRESS_FILE"
"""Environment variable with the file that the flow reads. Without it nothing is written."""


def tell(**record: Any) -> None:
    """Append a record as one line."""
    if file := os.environ.get(PROGRESS_FILE):
        with Path(file).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(record) + "\n")


def read_from(file: Path, position: int) -> tuple[list[dict[str, Any]], int]:
    """The records after a position of the file, and the position after them."""
    try:
        with file.open(encoding="utf-8") as lines:
            lines.seek(position)
            return [json.loads(line) for line in lines.readlines()], lines.tell()
    except FileNotFoundError:
        return [], position
