"""Runs a flow in the process of a command: its server, its display, its interruption, and its error in one line."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
from prefect import get_client
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL

from bp_lcz.errors import TemporaryError
from bp_lcz.files import locked
from bp_lcz.workspace import main_checkout
from flows.ending import one_line
from flows.screen import LOG, SHOW_CURSOR, screen
from flows.stages import end_live_runs, server_failure, stop_running


def result_of(run: Callable[[], State[Any]], folder: Path, verbose: bool) -> Any:
    """Result of a flow. Its log goes to a file in a folder. A failure ends the process with one line.

    Args:
        run: the flow.
        folder: checkout or workspace.
        verbose: show the whole log instead.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    with one_line():
        try:
            _await_server(folder)
            log = folder / LOG
            with nullcontext() if verbose else screen.opened(log):
                screen.tell(f"the whole log: {os.path.relpath(log)} (or --verbose)")
                state = run()
        except httpx.HTTPError as error:
            sys.exit(f"error: {server_failure(str(PREFECT_API_URL.value()), error)}")
    if not state.is_completed():
        sys.exit(f"error: {state.message}")
    return state.result()


def keep_interrupts() -> None:
    """Take SIGTERM back from Prefect, in a flow that `result_of` runs.

    A batch system sends the signal to a whole group of processes, so it ends the flow's server too. Prefect's own
    handler would then ask that server for minutes.
    """
    if signal.getsignal(signal.SIGINT) is _interrupted:
        signal.signal(signal.SIGTERM, _interrupted)


def _interrupted(number: int, _: object) -> None:
    """Ctrl-C or SIGTERM: end everything that this process has started, and this process as soon as MLflow knows.

    A terminal sends the signal to the flow's own server as well, and Prefect would ask that server for a minute before
    it gives up. Logging stops, since a stopped stage is not a failure.
    """
    logging.disable()
    stop_running()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            process.terminate()
    end_live_runs(5)
    if sys.stderr.isatty():
        os.write(2, SHOW_CURSOR)
    os.write(2, b"interrupted; run again to go on from here\n")
    os._exit(128 + number)


def _await_server(workspace: Path) -> None:
    """Start the flow's server, one process at a time, since two would collide when they make its database."""
    print("starting Prefect ...", file=sys.stderr)
    logging.getLogger("prefect").addFilter(lambda record: "temporary server" not in record.getMessage())
    with locked(main_checkout(workspace) / ".prefect/start.lock"):
        try:
            with get_client(sync_client=True) as client:
                client.hello()
        except RuntimeError as error:  # by Prefect, when its own server did not answer in time
            raise TemporaryError("Prefect", f"{error} The machine may be too busy: run again later") from None
