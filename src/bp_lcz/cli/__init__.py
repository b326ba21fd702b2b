"""``bp-lcz``: one command for each stage of the pipeline, and others. Each family of commands has a file.

Imports of libraries happen inside the commands: ``bp-lcz --help`` must not load torch.
"""

import contextlib
import ctypes
import io
import os
import re
import signal
import sys
import traceback
from itertools import pairwise
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import bp_lcz
from bp_lcz.addresses import keep_loopback_direct
from bp_lcz.cli import checkout, datasets, maps, models, results, stages
from bp_lcz.errors import (
    FAULT_STATUS,
    DeviceError,
    Ending,
    UsageError,
    UserError,
    limit_of,
    lost_device,
    one_line,
    refusal_of,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Local climate zones from Sentinel-1 and Sentinel-2 with band group prompting. "
    "Stages read params.yaml in the current folder; `dvc repro` runs those that are out of date.",
)

for _family in (maps, datasets, results, checkout, stages, models):
    app.add_typer(_family.commands)


def _print_version(asked: bool) -> bool:
    if asked:
        typer.echo(f"bp-lcz {bp_lcz.__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options that stand before a command."""


def _die_with_parent() -> None:
    """Let the kernel end a stage when the `dvc repro` that started it ends.

    DVC removes the lock of a killed `dvc repro` and would start a second trainer beside an orphan.
    """
    if sys.platform == "linux" and "DVC_ROOT" in os.environ:
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def _refuse_empty(arguments: list[str]) -> None:
    """Refuse empty arguments, since an empty path would mean the current folder."""
    for before, argument in pairwise(arguments):
        option = re.fullmatch("(--[a-z0-9-]+)=", argument)
        if option or not argument:
            raise UsageError(option[1] if option else before, "its value is empty; is a variable of the shell unset?")


def main() -> None:
    """Entry point of the console script: an error becomes one line and the exit status of its type."""
    _die_with_parent()
    keep_loopback_direct()
    # As an exception, so that half-written outputs are removed on the way out.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    settings = sorted(name for name in os.environ if name.startswith("TQDM_"))
    if not sys.stderr.isatty():
        # A progress bar in a log: a line every ten seconds.
        os.environ.setdefault("TQDM_MININTERVAL", "10")
    Ending.write(None)
    try:
        if settings:
            _check_progress_bars(", ".join(settings))
        _refuse_empty(sys.argv)
        app()
    except UserError as error:
        _end(str(error), error.status)
    except SystemExit as end:
        if end.code == 128 + signal.SIGINT:  # typer turns a KeyboardInterrupt into this status without a message
            typer.echo("interrupted", err=True)
        Ending.write(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
    except Exception as error:
        if (refused := refusal_of(error)) is not None:
            _end(refused)
        if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("bp_lcz"):
            _end(f"{error.name}: not installed; stages and the registry need the extra: pip install 'bp-lcz[train]'")
        if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
            _end(f"{error.object[:200]}: a name with bytes that are not UTF-8, which a library here refuses; rename it")
        limit, lost = limit_of(error), lost_device(error)
        if lost is not None:
            _tell(f"GPU: lost ({lost}); run again, training goes on from its last epoch", DeviceError.status)
            sys.stdout.flush()
            os._exit(DeviceError.status)  # freeing memory on a lost device may hang
        if limit is None:
            traceback.print_exc()
            Ending.write(
                FAULT_STATUS, f"{type(error).__name__}: {one_line(error)} (a fault of the program, see the log)"
            )
            sys.exit(FAULT_STATUS)
        _tell(f"{Path.cwd()}: {limit}", UserError.status)
        # HDF5 never closes a file that it could not finish, and would crash the process at its exit.
        sys.stdout.flush()
        os._exit(UserError.status)


def _check_progress_bars(settings: str) -> None:
    """Refuse wrong settings of tqdm in the environment, at which it would fail at import or at its first bar."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            from tqdm import tqdm

            with tqdm(total=2, desc="bar", unit="unit") as bar:
                bar.update(2)
    except Exception as error:
        raise UserError(settings, f"not valid settings of progress bars ({one_line(error)}); unset them") from None


def _end(line: str, status: int = UserError.status) -> NoReturn:
    _tell(line, status)
    sys.exit(status)


def _tell(line: str, status: int) -> None:
    Ending.write(status, line)
    typer.echo(f"error: {line}", err=True)
