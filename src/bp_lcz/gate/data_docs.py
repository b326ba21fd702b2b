"""Makes the Data Docs of Great Expectations work without a network.

The original pages load style sheets, scripts and images from eight other hosts. Without these, the index is empty and
the reports are raw text.
"""

import re
import shutil
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Literal, NamedTuple, get_args

# This is safe here: the generator's templates do not nest these elements.
_FOREIGN = re.compile(
    r"<(script|style|footer)\b.*?</\1>|<(link|img)\b[^>]*>|\bdata-toggle=\"\w+\"", re.DOTALL | re.IGNORECASE
)

_STYLE = """
:root { color-scheme: light }
body { margin: 0 auto; max-width: 1040px; padding: 1.5rem; color: #222; background: #fff;
       font: 15px/1.45 system-ui, "Helvetica Neue", Arial, sans-serif }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin: 1.6rem 0 .3rem }
h4 { font-size: 1.3rem; margin: .5rem 0 } h5 { font-size: 1.05rem; margin: 0 }
h6 { font-size: 1rem; margin: .8rem 0 .2rem } .h6 { font-weight: 600 }
a { color: #0b5cad } ol.breadcrumb { display: flex; gap: .6rem; list-style: none; padding: 0; margin: 0 }
table { border-collapse: collapse; width: 100%; margin: .3rem 0 .8rem }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #ddd }
th { border-bottom: 2px solid #999; white-space: nowrap }
td table { width: auto } td { overflow-wrap: anywhere }
.index td:first-child { white-space: nowrap } .index td:nth-child(2) { max-width: 22rem }
.verdict { padding: .7rem 1rem; border-left: 5px solid; background: #eef1f4; font-size: 1.1rem }
.alert { background: #eef1f4; padding: .4rem .7rem; margin-top: 1rem; border-radius: 4px }
.text-danger, .failed { color: #b3261e } .text-success, .passed { color: #1b6e3c }
.text-warning, .warning { color: #8a5a00 }
.fa-check-circle::before { content: "\\2713" } .fa-times::before { content: "\\2717" }
.fa-exclamation-triangle::before { content: "!" } .fas { font-style: normal }
.sticky, .collapse, a[aria-controls$="collapse-body"] { display: none }
@media (max-width: 40rem) { body { padding: .8rem } th, td { padding: .3rem .3rem .3rem 0 } th { white-space: normal }
  .index tr { display: block; border-bottom: 1px solid #ddd; padding: .3rem 0 } .index thead { display: none }
  .index td { display: inline; border: 0 } .index td:nth-child(2)::after { content: ":" }
  .index td:nth-child(n+4) { display: block; padding: 0; color: #59636e } }
"""


Status = Literal["passed", "warning", "failed", "not checked"]


class Line(NamedTuple):
    """A line of the index: expectations of one kind with one outcome.

    Attributes:
        status: their outcome.
        checks: number of expectations.
        about: channels, splits or arrays.
        expectation: what is expected of each.
        found: number of violating rows and of all rows, or what the data set lacks for the check.
        offenders: the first violating rows.
    """

    status: Status
    checks: int
    about: str
    expectation: str
    found: str
    offenders: str


def make_self_contained(site: Path, title: str, lines: Sequence[Line]) -> None:
    """Rewrite a newly built site in place, with one embedded style, a plain index, and nothing from other hosts.

    Args:
        site: folder with the ``index.html`` that Great Expectations built.
        title: heading of the index.
        lines: lines of the index.
    """
    shutil.rmtree(site / "static", ignore_errors=True)
    style = f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style>'
    pages = [page for page in sorted(site.rglob("*.html")) if page != site / "index.html"]
    for page in pages:
        text = _FOREIGN.sub("", page.read_text(encoding="utf-8"))
        text = text.replace("Data asset: None", f"Table: {escape(_table(page.relative_to(site)))}")
        text = text.replace("</head>", f"{style}</head>", 1)
        page.write_text(text, encoding="utf-8")
    links = "".join(
        f'<li><a href="{escape(page.as_posix())}">{_page_name(page)}</a></li>'
        for page in (page.relative_to(site) for page in pages)
    )
    checked = sorted(
        (line for line in lines if line.status != "not checked"),
        key=lambda line: ("failed", "warning", "passed").index(line.status),
    )
    (site / "index.html").write_text(
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title>{style}</head><body><h1>{escape(title)}</h1>{_verdict(lines)}"
        f"{_table_of(checked, ('about', 'expectation', 'violated by', 'first offenders'))}<h2>Not checked</h2>"
        f"{_table_of([line for line in lines if line not in checked], ('about', 'expectation', 'why', ''))}"
        f"<h2>Reports of Great Expectations</h2><ul>{links}</ul></body></html>\n",
        encoding="utf-8",
    )


def _verdict(lines: Sequence[Line]) -> str:
    """Whether the data set may be used, and the number of expectations by outcome."""
    counts = {status: sum(line.checks for line in lines if line.status == status) for status in get_args(Status)}
    status = "failed" if counts["failed"] else "warning" if counts["warning"] else "passed"
    words = {"failed": "Failed: later stages do not run", "warning": "Passed with warnings", "passed": "Passed"}[status]
    met, judged = counts["passed"], sum(counts.values()) - counts["not checked"]
    return (
        f'<p class="verdict {status}"><strong>{words}.</strong> {met} of {judged} expectations met, '
        f"{counts['failed']} failed, {counts['warning']} with warnings, {counts['not checked']} not checked.</p>"
    )


def _table_of(lines: Sequence[Line], header: Sequence[str]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in ("status", *header))
    rows = "".join(
        f'<tr><td class="{line.status}">{line.status}</td>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in (line.about, line.expectation, line.found, line.offenders))
        + "</tr>"
        for line in lines
    )
    return f'<table class="index"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _table(page: Path) -> str:
    """Name of the table of a page: ``patches`` for ``validations/patches/...`` and ``expectations/patches.html``."""
    return Path(page.parts[1]).stem


def _page_name(page: Path) -> str:
    kind = "results" if page.parts[0] == "validations" else page.parts[0]
    return escape(f"{_table(page)}: {kind}")
