"""The documentation as data: its fenced blocks, links and headings, and the commands in it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import typer

from benchmark.cli import app

ROOT = Path(__file__).parents[1]
PAGES = {
    str(file.relative_to(ROOT)): file.read_text("utf-8")
    for file in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}
LANGUAGES = {"sh", "python", "yaml", "json", "text"}
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    language: str
    text: str


def blocks(pages: Mapping[str, str] = PAGES) -> list[Block]:
    """All of them, in order."""
    return [
        Block(page, found[1], found[2])
        for page, text in pages.items()
        for found in re.finditer(r"^```(.*)\n((?:.*\n)*?)^```$", text, re.M)
    ]


def block(language: str, containing: str) -> str:
    """The text of the first block with something in it."""
    return next(b.text for b in blocks() if b.language == language and containing in b.text)


def commands(text: str) -> list[str]:
    """The commands of a shell block, continued lines joined, comments left out."""
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines) if line]


def written(text: str) -> list[str]:
    """The calls of ``bench`` in shell lines or a Makefile."""
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    calls = [re.match(r"(?:\t\$\(BIN\)/|\.venv/bin/)?bench (.*)", line) for line in lines]
    return [call[1].split("#")[0].strip() for call in calls if call]


def parse(call: str) -> None:
    """Read a command line as ``bench`` would, without doing what it says."""
    command: Any = typer.main.get_command(app)
    arguments = shlex.split(call)
    context: Any = None
    while hasattr(command, "get_command"):
        _, command, arguments = command.resolve_command(context, arguments)
    command.make_context("bench", arguments)


def check(command: str) -> None:
    """A command of a page is one of ``bench``, a target of the Makefile, or the two lines that begin.

    Raises:
        AssertionError: it is none of them; what ``bench`` says of it is raised as it is.
    """
    words = shlex.split(command)
    if words[0] == "bench":
        parse(command.removeprefix("bench"))
    elif words[0] == "make":
        lacking = [target for target in words[1:] if not re.search(rf"^{re.escape(target)}:", MAKEFILE, re.M)]
        assert not lacking, f"no target {lacking}"
    else:
        assert command in (". .venv/bin/activate",), f"nobody knows whether this works: {command}"


def links(text: str) -> list[str]:
    """Targets of a page's links and pictures, those on the web left out."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in target]


def is_there(page: str, target: str) -> bool:
    """Whether a link of a page leads to a file, and to a heading of it."""
    name, _, heading = target.partition("#")
    file = (ROOT / page).parent / name if name else ROOT / page
    return file.is_file() and (not heading or heading in headings(file.read_text("utf-8")))


def headings(text: str) -> list[str]:
    """As GitHub calls them in links."""
    return [re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.+)$", text, re.M)]


PLACES = re.compile(r"(?<![\w.:/<-])/(?:home|root|tmp|work|usr|opt|mnt|data|Users|var)\b|[A-Za-z]:\\\\")


def places(text: str) -> Iterator[str]:
    """Absolute places of a machine in a text."""
    return (found[0] for found in PLACES.finditer(text))
