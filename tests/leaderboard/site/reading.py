"""What a browser would make of a page without running anything."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "input", "br", "img", "rect", "path"}


@dataclass
class Cell:
    """A cell of a table."""

    tag: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class Table:
    """A table, row by row."""

    attributes: dict[str, str]
    caption: str = ""
    rows: list[list[Cell]] = field(default_factory=list)
    row_attributes: list[dict[str, str]] = field(default_factory=list)

    @property
    def heads(self) -> list[str]:
        return [cell.text for cell in self.rows[0]]

    def column(self, head: str) -> list[Cell]:
        """The cells below a heading."""
        return [row[self.heads.index(head)] for row in self.rows[1:]]


class Page(HTMLParser):
    """Everything that the tests ask of a page."""

    def __init__(self, path: str, text: str) -> None:
        super().__init__()
        self.path, self.text = path, ""
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.tables: list[Table] = []
        self.figures: list[dict[str, str]] = []
        self.plotted: list[int] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], f"{path} leaves {self._open} open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self._open.append(tag)
        match tag:
            case "table":
                self.tables.append(Table(attributes))
                if "figure" in self._open:
                    self.plotted.append(len(self.tables) - 1)
            case "figure":
                self.figures.append(attributes)
            case "tr":
                self.tables[-1].rows.append([])
                self.tables[-1].row_attributes.append(attributes)
            case "td" | "th":
                self.tables[-1].rows[-1].append(Cell(tag, attributes))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, f"{self.path}: </{tag}> in {self._open}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data
        if "caption" in self._open:
            self.tables[-1].caption += data
        elif self._open and {"td", "th"} & set(self._open):
            self.tables[-1].rows[-1][-1].text += data

    def values(self, attribute: str) -> list[str]:
        """Of an attribute, wherever it stands."""
        return [found[attribute] for _, found in self.tags if attribute in found]

    @property
    def addresses(self) -> list[str]:
        """Of everything that is linked or loaded."""
        return self.values("href") + self.values("src")

    @property
    def ids(self) -> set[str]:
        return set(self.values("id"))

    def target(self, address: str) -> tuple[str, str]:
        """The path in the site and the part of it that a relative address leads to."""
        path, _, part = address.partition("#")
        return posixpath.normpath(posixpath.join(posixpath.dirname(self.path), path)) if path else self.path, part


def read(files: Mapping[str, bytes]) -> dict[str, Page]:
    """The pages of a site by path."""
    return {path: Page(path, content.decode()) for path, content in files.items() if path.endswith(".html")}
