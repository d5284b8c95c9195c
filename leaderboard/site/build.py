"""A board to the files of its site."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files as resources
from pathlib import Path

from jinja2 import Environment

from leaderboard.board.schema import Leaderboard, SuiteBoard, Threat
from leaderboard.site import addresses, rows
from leaderboard.site.compared import compare_parts, scripts
from leaderboard.site.entry_parts import entry_parts
from leaderboard.site.environment import environment, render
from leaderboard.site.flag_page import flags
from leaderboard.site.folder import replace

TOP = 5
"""Entries of a suite that the first page shows."""


def build(board: Leaderboard, folder: Path) -> list[Path]:
    """Write the site of a board into a folder, in the place of an earlier one; the paths.

    Raises:
        UsageError: an entry is there twice, or the folder holds something else or cannot be written.
    """
    return replace(folder, pages(board))


def pages(board: Leaderboard) -> dict[str, bytes]:
    """Every file of the site by its path: a pure function."""
    addresses.refuse_repeats(board)
    return dict(_pages(board))


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


def _pages(board: Leaderboard) -> Iterator[tuple[str, bytes]]:
    made = environment(board)
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
