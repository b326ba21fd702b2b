"""What a run shows: a live line for each running stage, and a line for each that has ended. The log goes to a file."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LOG = Path(".scratch/run.log")
"""Path of the log in the workspace; each run appends to it."""
SHOW_CURSOR = b"\x1b[?25h"
_DVC = ("dvc", "dvc_objects", "dvc_data")
_FORM = "%(asctime)s | %(levelname)-7s | %(message)s"


class Screen:
    """The terminal of a run. It shows nothing before `opened`, nor in flows on workers, which log to Prefect."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._lines = dict[str, TaskID]()

    def begin(self, stage: str, epochs: int | None) -> None:
        """A stage has started. The number of epochs is known for a training."""
        if self._progress is not None:
            self._lines[stage] = self._progress.add_task(stage, total=epochs)

    def reach(self, stage: str, epoch: int) -> None:
        """A training has reached the end of an epoch."""
        if self._progress is not None and stage in self._lines:
            self._progress.update(self._lines[stage], completed=epoch)

    def end(self, stage: str) -> None:
        """A stage has ended."""
        if self._progress is not None and stage in self._lines:
            self._progress.remove_task(self._lines.pop(stage))

    def tell(self, *lines: str) -> None:
        """Print lines that stay on the terminal."""
        if self._progress is not None:
            self._progress.console.print(*lines, sep="\n", markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def opened(self, log: Path) -> Iterator[None]:
        """Show stages, and write the log of Prefect, DVC and the stages to a file; warnings are shown, too."""
        import dvc.logger  # noqa: F401 - its handlers would print every warning of DVC a second time

        for name in _DVC:
            logging.getLogger(name).handlers.clear()
        log.parent.mkdir(parents=True, exist_ok=True)
        root, file = logging.getLogger(), logging.FileHandler(log, encoding="utf-8")
        file.setFormatter(logging.Formatter(_FORM))
        before, root.handlers = root.handlers, [file, _Warnings(self)]
        console = Console(stderr=True)
        columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()]
        left = [TextColumn("left"), TimeRemainingColumn(compact=True)]
        with Progress(*columns, *left, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
            self._progress = progress
            try:
                yield
            finally:
                self._progress, root.handlers = None, before
                file.close()


class _Warnings(logging.Handler):
    """Shows warnings as lines. Whatever ends with an error reports it itself."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.WARNING)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record."""
        if record.levelno == logging.WARNING:
            self._screen.tell(f"warning: {record.getMessage()}")


screen = Screen()
