"""A run as one page that needs nothing else: the parts of the site's pages, and what only the rows say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from benchmark.errors import UsageError
from benchmark.files import remedy, write_atomically
from leaderboard.board.aggregate import leaderboard, suite_board
from leaderboard.board.schema import Entry, SuiteInfo
from leaderboard.bundle.entry import EntryFile
from leaderboard.bundle.reading import Bundle, is_entry, read_bundle
from leaderboard.rows.run import Run, read_run
from leaderboard.scores.resampling import RESAMPLES, Resampler
from leaderboard.site.checklist import Attacked, checklist
from leaderboard.site.coverage import coverage
from leaderboard.site.entry_parts import entry_parts
from leaderboard.site.environment import environment
from leaderboard.site.example_tables import example_table
from leaderboard.site.flag_page import flags
from leaderboard.site.inline import inlined
from leaderboard.site.rows import Row, rows, scored_threats
from leaderboard.site.searches import searches

NAME = "report.html"
STYLES = ("site.css", "uPlot.min.css")
SCRIPTS = ("uPlot.iife.min.js", "plots.js", "drawn.js", "tables.js")


def write_report(folder: Path, file: Path | None = None) -> Path:
    """Write the report of a run directory or of an entry; its path.

    Args:
        file: null: ``report.html`` in the run directory.

    Raises:
        RunDirectoryError: the folder is no run, or damaged.
        UsageError: the entry is not as it was handed in, or the file cannot be written there.
    """
    target = file or folder / NAME
    if is_entry(target.parent):
        raise UsageError(f"{target.parent} is an entry, which holds what was handed in alone; give --output elsewhere")
    page = _of_entry(read_bundle(folder)) if is_entry(folder) else report(read_run(folder))
    try:
        write_atomically(target, lambda draft: draft.write_bytes(page))
    except OSError as error:
        what, do = remedy(error)
        raise UsageError(f"cannot write {target}: {what}; {do}, or give another --output") from error
    return target


def report(run: Run, entry: EntryFile | None = None, *, resamples: int = RESAMPLES) -> bytes:
    """The page: a pure function of the run.

    Args:
        entry: who handed the run in; null: nobody.
        resamples: of the bootstrap.
    """
    board = suite_board([run], resamples=resamples)
    made, look, listed = environment(leaderboard([board])), inlined(STYLES, SCRIPTS), rows(board)
    resampler = Resampler(0, resamples)
    parts = [_parts(run, row, board.suite, resampler, f"d{place}-") for place, row in enumerate(listed, 1)]
    attacked = [Attacked(one["entry"], one["met"], one["every_search"]) for one in parts if one["attacked"]]
    text = made.get_template("report.html").render(
        **_everywhere(),
        look=look,
        run=run,
        handed_in=entry,
        suite=board.suite,
        rows=listed,
        threats=scored_threats(board),
        all_threats=run.manifest.threats,
        comparisons=board.comparisons,
        stability=board.stability,
        checklist=checklist(run, [row.entry for row in listed], attacked),
        entry=listed[0].entry if listed else None,
        sections=[_section(made, one) for one in parts],
        flags=flags(),
    )
    return text.encode()


def _of_entry(bundle: Bundle) -> bytes:
    return report(bundle.run, bundle.entry)


def _everywhere() -> dict[str, Any]:
    """Links of the shared templates lead to places in the page itself."""
    return {"root": "", "method": ""}


def _parts(run: Run, row: Row, suite: SuiteInfo, resampler: Resampler, at: str) -> dict[str, Any]:
    """What the section of a defense shows."""
    entry: Entry = row.entry
    found = searches(run, entry, resampler)
    return entry_parts(suite, entry) | {
        "at": at,
        "attacked": row.status != "control",
        "met": coverage(run, entry),
        "searches": found,
        "every_search": [one for own in found.values() for one in own],
        "layered": {task: own for task, own in found.items() if any(one.sites for one in own)},
        "table": example_table(run, entry.defense.name),
    }


def _section(made: Environment, parts: dict[str, Any]) -> Markup:
    return Markup(made.get_template("report/defense.html").render(**_everywhere(), **parts))
