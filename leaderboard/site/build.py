"""A board to the files of its site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files as resources
from pathlib import Path

from jinja2 import Environment

from benchmark.errors import UsageError
from leaderboard.board.schema import Leaderboard, SuiteBoard, Threat
from leaderboard.site import addresses, rows
from leaderboard.site.compared import compare_parts, scripts
from leaderboard.site.entry_parts import entry_parts
from leaderboard.site.environment import environment, render
from leaderboard.site.flag_page import flags
from leaderboard.site.folder import replace

DOCS = "docs"
TOP = 5
"""Entries of a suite that the first page shows."""


def build(board: Leaderboard, folder: Path, docs: Path | None = None) -> list[Path]:
    """Write the site of a board into a folder, in the place of an earlier one; the paths.

    Args:
        docs: built pages of the documentation, which the site carries and links to.

    Raises:
        UsageError: an entry is there twice, there are no such pages, or the folder holds something else or cannot be
            written.
    """
    return replace(folder, pages(board, {} if docs is None else carried(docs)))


def pages(board: Leaderboard, docs: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """Every file of the site by its path: a pure function.

    Args:
        docs: the documentation that it carries, by path.
    """
    addresses.refuse_repeats(board)
    return {**dict(_pages(board, bool(docs))), **(docs or {})}


def carried(docs: Path) -> dict[str, bytes]:
    """The files of built documentation, by their path on the site.

    Raises:
        UsageError: it is none.
    """
    if not (docs / "index.html").is_file():
        raise UsageError(f"{docs} has no index.html: build the pages first (make docs), or leave --docs out")
    files = sorted(path for path in docs.rglob("*") if path.is_file())
    return {f"{DOCS}/{path.relative_to(docs).as_posix()}": path.read_bytes() for path in files}


def board_page(made: Environment, board: SuiteBoard) -> bytes:
    """The table of a suite, and what is said of the suite."""
    return render(
        made,
        addresses.suite_page(board.suite),
        "suite.html",
        suite=board.suite,
        rows=rows.rows(board),
        threats=rows.scored_threats(board),
        attempts=rows.attempts(board),
        stability=board.stability,
    )


def static_files() -> dict[str, bytes]:
    """What all pages share."""
    folder = resources("leaderboard.site") / "static"
    return {f"static/{file.name}": file.read_bytes() for file in sorted(folder.iterdir(), key=lambda one: one.name)}


def _pages(board: Leaderboard, documented: bool) -> Iterator[tuple[str, bytes]]:
    made = environment(board)
    made.globals["docs"] = f"{DOCS}/index.html" if documented else None
    yield "index.html", render(made, "index.html", "index.html", suites=[(one, _top(one)) for one in board.suites])
    yield "method.html", render(made, "method.html", "method.html", flags=flags(), threats=_threats(board))
    yield "leaderboard.json", f"{board.model_dump_json(indent=1)}\n".encode()
    for one in board.suites:
        yield addresses.suite_page(one.suite), board_page(made, one)
        yield from _comparison(made, one)
        yield from _entries(made, one)
    yield from static_files().items()


def _comparison(made: Environment, board: SuiteBoard) -> Iterator[tuple[str, bytes]]:
    page = addresses.compare_page(board.suite)
    yield page, render(made, page, "compare.html", **compare_parts(board))
    for entry, script in scripts(board):
        yield addresses.data_script(board.suite, entry), script


def _entries(made: Environment, board: SuiteBoard) -> Iterator[tuple[str, bytes]]:
    for entry in board.entries:
        page = addresses.entry_page(board.suite, entry)
        yield page, render(made, page, "entry.html", **entry_parts(board.suite, entry))


def _top(board: SuiteBoard) -> list[rows.Row]:
    return [row for row in rows.rows(board) if row.status == "ranked"][:TOP]


def _threats(board: Leaderboard) -> dict[str, Threat]:
    return {name: threat for one in board.suites for entry in one.entries for name, threat in entry.threats.items()}
