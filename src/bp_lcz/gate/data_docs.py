"""Data Docs of Great Expectations that open anywhere, also without a network.

As built, the pages load style sheets, scripts and images from eight foreign hosts; without them the index is
empty and the reports are raw text.
"""

import re
import shutil
from collections.abc import Sequence
from html import escape
from pathlib import Path

# Safe on this input: the generator's own templates, without nesting of these elements.
_FOREIGN = re.compile(
    r"<(script|style|footer)\b.*?</\1>|<(link|img)\b[^>]*>|\bdata-toggle=\"\w+\"", re.DOTALL | re.IGNORECASE
)

_STYLE = """
:root { color-scheme: light }
body { margin: 0 auto; max-width: 1040px; padding: 1.5rem; color: #222; background: #fff;
       font: 15px/1.45 system-ui, "Helvetica Neue", Arial, sans-serif }
h1 { font-size: 1.5rem } h4 { font-size: 1.3rem; margin: .5rem 0 } h5 { font-size: 1.05rem; margin: 0 }
h6 { font-size: 1rem; margin: .8rem 0 .2rem } .h6 { font-weight: 600 }
a { color: #0b5cad } ol.breadcrumb { display: flex; gap: .6rem; list-style: none; padding: 0; margin: 0 }
table { border-collapse: collapse; width: 100%; margin: .3rem 0 .8rem }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #ddd }
th { border-bottom: 2px solid #999; white-space: nowrap }
td table { width: auto } td:first-child, td:nth-child(4) { white-space: nowrap }
.alert { background: #eef1f4; padding: .4rem .7rem; margin-top: 1rem; border-radius: 4px }
.text-danger, .failed { color: #b3261e } .text-success, .passed { color: #1b6e3c }
.text-warning, .warning { color: #8a5a00 }
.fa-check-circle::before { content: "\\2713" } .fa-times::before { content: "\\2717" }
.fa-exclamation-triangle::before { content: "!" } .fas { font-style: normal }
.sticky, .collapse, a[aria-controls$="collapse-body"] { display: none }
"""


def make_self_contained(
    site: Path, title: str, header: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]
) -> None:
    """Rewrite a freshly built site in place: one embedded style, a plain index, nothing from elsewhere.

    Args:
        site: folder with the ``index.html`` that Great Expectations built.
        title: heading of the index.
        header: heading of each column of the index's table.
        rows: for each line of that table ``passed``, ``warning`` or ``failed``, and its cells.
    """
    shutil.rmtree(site / "static", ignore_errors=True)
    style = f"<style>{_STYLE}</style>"
    pages = [page for page in sorted(site.rglob("*.html")) if page != site / "index.html"]
    for page in pages:
        text = _FOREIGN.sub("", page.read_text(encoding="utf-8"))
        text = text.replace("</head>", f"{style}</head>", 1)
        page.write_text(text, encoding="utf-8")
    links = "".join(
        f'<li><a href="{escape(page.as_posix())}">{_page_name(page)}</a></li>'
        for page in (page.relative_to(site) for page in pages)
    )
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in ("status", *header))
    lines = "".join(
        f'<tr><td class="{status}">{status}</td>{"".join(f"<td>{escape(cell)}</td>" for cell in row)}</tr>'
        for status, row in rows
    )
    (site / "index.html").write_text(
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title>{style}</head>"
        f"<body><h1>{escape(title)}</h1><table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table>"
        f"<h5>Reports of Great Expectations</h5><ul>{links}</ul></body></html>\n",
        encoding="utf-8",
    )


def _page_name(page: Path) -> str:
    """``validations/patches/...`` is about the table ``patches``, ``expectations/patches.html`` too."""
    kind, table = page.parts[0], Path(page.parts[1]).stem
    return escape(f"{table}: {'results' if kind == 'validations' else kind}")
