"""How Sphinx makes the site of these pages: `make docs`."""

import subprocess
import sys
from pathlib import Path

import bp_lcz

HERE = Path(__file__).parent

project, author, release = "BP-LCZ", "the authors of BP-LCZ", bp_lcz.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
html_theme, html_title, html_static_path, html_css_files = "furo", "BP-LCZ", ["static"], ["site.css"]
html_show_copyright = False
exclude_patterns = ["static"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
copybutton_prompt_text = "$ "


def _commands() -> str:
    """What `bp-lcz --help` says of every command."""
    command = [
        sys.executable,
        "-m",
        "typer",
        "bp_lcz.cli",
        "utils",
        "docs",
        "--name",
        "bp-lcz",
        "--title",
        "Command line",
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _decisions() -> str:
    """The list of decision records."""
    pages = sorted(path.stem for path in (HERE / "adr").glob("0*.md"))
    head = "# Decisions\n\nEach page holds the context of a decision, the decision, and what follows from it.\n\n"
    return head + "```{toctree}\n:maxdepth: 1\n\n" + "\n".join(pages) + "\n```\n"


# Made anew each time, and not committed.
(HERE / "reference" / "commands.md").write_text(_commands(), "utf-8")
(HERE / "adr" / "index.md").write_text(_decisions(), "utf-8")
