"""The code blocks of the documentation, and the commands in them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from tests.conftest import ROOT

SHELLS = ("console", "sh", "bash")

MADE = Path("docs/reference/commands.md")
"""From the command line itself, by docs/conf.py."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: relative to the checkout.
        line: of its first line of text, from 1.
        language: the word after the fence; empty where there is none.
    """

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command, in order; variables that are set for one are left out."""
        return [words for line in self.typed for words in simple_commands(line)]

    @property
    def typed(self) -> list[str]:
        """What is typed at the prompts, with the lines on which it goes on; a script has no prompts."""
        found: list[str] = []
        if self.language != "console":
            return found
        for line in self.text.splitlines():
            if found and goes_on(found[-1]):
                found[-1] += f"\n{line}"
            elif line.startswith(("$ ", "# ")):
                found.append(line[2:])
        return found

    @property
    def printed(self) -> list[str]:
        """The lines that are neither typed nor empty."""
        typed = {line for command in self.typed for line in command.splitlines()}
        lines = self.text.splitlines()
        return [line for line in lines if line.strip() and line not in typed and line[2:] not in typed]


def pages() -> list[str]:
    found = [path.relative_to(ROOT) for path in sorted((ROOT / "docs").rglob("*.md"))]
    written = [path for path in found if "adr" not in path.parts and path != MADE]
    return ["README.md", "CONTRIBUTING.md", *map(str, written)]


def blocks() -> list[Block]:
    """Every fenced block of every page but the decision records."""
    return [
        Block(page, token.map[0] + 2, token.info.strip().split(" ")[0], token.content)
        for page in pages()
        for token in MarkdownIt().parse((ROOT / page).read_text())
        if token.type == "fence" and token.map is not None
    ]


def inline_commands(program: str) -> list[tuple[str, list[str]]]:
    """Page and words of each command of a program within a sentence."""
    found = []
    for page in pages():
        for token in MarkdownIt().parse((ROOT / page).read_text()):
            codes = [child.content for child in token.children or [] if child.type == "code_inline"]
            found += [(page, words) for code in codes for words in simple_commands(code) if words[:1] == [program]]
    return found


def goes_on(command: str) -> bool:
    """Whether a command needs another line: after a backslash, or within quotation marks."""
    if command.endswith("\\"):
        return True
    try:
        _words(command)
    except ValueError:
        return True
    return False


def simple_commands(line: str) -> list[list[str]]:
    """The commands that a shell would start, without redirections; nothing where a sentence has one mark of a pair."""
    found: list[list[str]] = [[]]
    try:
        words = _words(line)
    except ValueError:
        return []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if set(word) <= set("();|&\n"):
            found.append([])
        elif set(word) <= set("<>") or (found[-1] and found[-1][-1] == ">"):
            found[-1].append(">")
        elif found[-1] or not (re.match(r"\w+=", word) or following == "="):
            found[-1].append(word)
    return [[word for word in words if word != ">"] for words in found if words]


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line.replace("\\\n", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


def shape(line: str) -> str:
    """A printed line without its numbers and its width."""
    return re.sub(r"\s+", " ", re.sub(r"[-+]?(\d[\d,]*)?\.?\d+", "0", line)).strip()


def block_at(page: str, *parts: str) -> Block:
    """The one block of a page that holds these texts."""
    (found,) = [block for block in blocks() if block.page == page and all(part in block.text for part in parts)]
    return found


def exists(test: str) -> bool:
    """Whether there is a test ``path::name``."""
    path, _, name = test.partition("::")
    file: Path = ROOT / path
    return file.is_file() and re.search(rf"^(async )?def {name}\(", file.read_text(), re.MULTILINE) is not None
