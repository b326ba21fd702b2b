"""Whether the programs that the documentation calls have the sub-commands and options that it gives them."""

import argparse
import importlib
import re
import sys

import pytest
import typer

from bp_lcz.cli import app
from tests.conftest import ROOT
from tests.test_makefile import TARGETS

OTHERS = frozenset(
    [
        ".",
        "apt-get",
        "cat",
        "cd",
        "cp",
        "curl",
        "docker",
        "export",
        "git",
        "pg_dump",
        "psql",
        "python3",
        "rsync",
        "set",
        "source",
        "su",
        "w2w",
        "xdg-open",
    ]
)
"""Programs of the system and builtins of the shell, of which nothing is checked."""


def check(words: list[str]) -> None:
    """Raise what the program itself raises for a command that it does not know; run nothing."""
    program, *arguments = words
    if program in OTHERS:
        return
    {"bp-lcz": bp_lcz, "make": make, "dvc": dvc, "prefect": prefect, "python": python}[program](arguments)


def bp_lcz(arguments: list[str]) -> None:
    group = typer.main.get_command(app)
    if not arguments[0].startswith("-"):
        group.commands[arguments[0]].make_context(arguments[0], arguments[1:])


def make(arguments: list[str]) -> None:
    assert {word for word in arguments if "=" not in word} <= TARGETS
    known = (ROOT / "Makefile").read_text()
    assert not [word for word in arguments if "=" in word and f"$({word.partition('=')[0]})" not in known]


def dvc(arguments: list[str]) -> None:
    from dvc.cli import parse_args

    parse_args(arguments)


def prefect(arguments: list[str]) -> None:
    from prefect.cli._app import _app

    _app.parse_args(arguments, exit_on_error=False, print_error=False)


class Parsed(Exception):  # noqa: N818  no error
    """A program has read its command line."""


def python(arguments: list[str]) -> None:
    flag, what, *rest = arguments
    if flag == "-c":
        compile(what, "-c", "exec")
        return
    assert flag == "-m"
    parse = argparse.ArgumentParser.parse_args

    def only_parse(parser: argparse.ArgumentParser) -> None:
        parse(parser, rest)
        raise Parsed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Parsed):  # noqa: PT012
        patch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
        patch.setattr(sys, "argv", [what, *rest])
        importlib.import_module(what).main()


def check_mentioned(words: list[str]) -> None:
    """A command within a sentence, whose arguments may be left out."""
    program, *arguments = words
    if program == "make":
        make([word for word in arguments if re.fullmatch("[a-z-]+", word)] or ["help"])
    elif arguments and re.match("[a-z]", arguments[0]):
        command = typer.main.get_command(app).commands[arguments[0]]
        options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert not [word for word in arguments if word.startswith("--") and word.partition("=")[0] not in options]
