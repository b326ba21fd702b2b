"""The site as `make docs` builds it: every link holds, every command is there, and nothing comes from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from bp_lcz.cli import app
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    # As in the Makefile, of a documentation that another run may be building.
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "docs", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_command_line_is_told_of_whole(site):
    page = (site / "reference" / "commands.html").read_text()
    commands = typer.main.get_command(app).commands
    assert commands
    assert not [name for name in commands if f"bp-lcz {name}" not in page]


def test_every_decision_is_listed(site):
    page = (site / "adr" / "index.html").read_text()
    records = sorted(path.stem for path in (ROOT / "docs" / "adr").glob("0*.md"))
    assert not [record for record in records if f"{record}.html" not in page]


def test_pages_load_nothing_from_elsewhere_and_are_searched_without_a_server(site):
    loads = re.compile(
        r"<(?:script|img|iframe)[^>]+src=\"(?:https?:)?//|<link[^>]+rel=\"stylesheet\"[^>]+href=\"(?:https?:)?//"
    )
    assert not [page.name for page in site.rglob("*.html") if loads.search(page.read_text())]
    assert "Search.setIndex(" in (site / "searchindex.js").read_text()
