"""The verbs ``compare``, ``figures`` and ``leaderboard``, and the report after an evaluation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmark.errors import RunDirectoryError, UsageError
from benchmark.files import remedy


def figures(
    runs: Annotated[list[Path], typer.Argument(help="Finished run directories.")],
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "-o", help="Folder of the figures. Default: figures/ in the first run."),
    ] = None,
) -> None:
    """Draw recovery over budgets, drift against recovery, and replayed parts from finished runs."""
    from leaderboard.figures.draw import draw
    from leaderboard.rows.run import read_run

    for path in draw([read_run(run) for run in runs], output_dir or runs[0] / "figures"):
        print(path)


def compare(
    first: Annotated[str, typer.Argument(help="A run directory, or RUN_DIR::DEFENSE where it attacked several.")],
    second: Annotated[str | None, typer.Argument(help="Another, of the same suite, model and examples.")] = None,
    against: Annotated[
        str | None,
        typer.Option(help="In the place of the second: a threat model or attack of the first, soft-suffix for one."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    figure: Annotated[
        Path | None, typer.Option(help="Draw it too, into this file: .png, .svg or .pdf. Needs the extra plots.")
    ] = None,
) -> None:
    """Compare two defenses, example by example, or recovery against a baseline attack.

    Exit code 1: the second defense holds significantly worse than the first.
    """
    from leaderboard.board.against import against as ways
    from leaderboard.board.compare import compare as defenses
    from leaderboard.board.side import side
    from leaderboard.figures import compare as drawn
    from leaderboard.tables.compare import render, render_against

    if figure is not None:
        drawn.check(figure)
    if second is None and against is not None:
        held = ways(side(first), against)
        if figure is not None:
            drawn.save(drawn.of_ways(held), figure)
        print(held.model_dump_json(indent=2)) if as_json else render_against(held, Console())
    elif second is not None and against is None:
        found = defenses(side(first), side(second))
        if figure is not None:
            drawn.save(drawn.of_defenses(found), figure)
        print(found.model_dump_json(indent=2)) if as_json else render(found, Console())
        raise typer.Exit(int(bool(found.lost)))
    else:
        raise UsageError("give a second run directory, or --against with a threat model or attack of the first")


def report(directory: Path, console: Console, as_json: bool) -> None:
    """Score a run, write its ``leaderboard.json`` and print it.

    Args:
        console: for tables and messages.
        as_json: print the file on standard output in the place of tables.

    Raises:
        RunDirectoryError: the directory is no run, damaged, or not writable.
    """
    from leaderboard.board.aggregate import leaderboard, suite_board, write
    from leaderboard.rows.run import read_run
    from leaderboard.tables.board import render

    scored = suite_board([read_run(directory)])
    board = leaderboard([scored])
    try:
        write(board, directory / "leaderboard.json")
    except OSError as error:
        what, do = remedy(error)
        raise RunDirectoryError(
            f"cannot write {directory / 'leaderboard.json'}: {what}. All rows are safe; {do} and repeat the command"
        ) from error
    if as_json:
        print(board.model_dump_json(indent=2))
    else:
        render(scored, console)
    console.print(f"rows, plan and leaderboard.json: {directory}", soft_wrap=True, highlight=False, markup=False)


app = typer.Typer(
    help="Make the board of all entries, or withdraw one.", no_args_is_help=True, pretty_exceptions_enable=False
)


@app.command()
def build(
    entries: Annotated[Path | None, typer.Argument(help="Folder of entries. Default: leaderboard/entries.")] = None,
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "-o", help="Folder of the site: empty, or one that holds a site.")
    ] = Path("board"),
    docs: Annotated[
        Path | None, typer.Option(help="Built documentation (make docs), which the site then carries and links to.")
    ] = None,
) -> None:
    """Score all entries of all suites: leaderboard.json, and the site. Exit code 1: an entry cannot be read."""
    from leaderboard.board.aggregate import leaderboard
    from leaderboard.site.build import build as made
    from leaderboard.submission.collected import collected
    from leaderboard.submission.submit import ENTRIES

    found = collected(entries or ENTRIES)
    made(leaderboard(found.boards), output_dir, docs)
    print(output_dir / "leaderboard.json")
    print(output_dir / "index.html")
    for line in found.waiting:
        print(f"not counted yet: {line}", file=sys.stderr)
    for line in found.left_out:
        print(f"left out: {line}", file=sys.stderr)
    raise typer.Exit(int(bool(found.left_out)))


@app.command()
def withdraw(
    entry: Annotated[Path, typer.Argument(help="Folder of an entry.")],
    why: Annotated[str, typer.Option(help="The reason, which is published.")],
) -> None:
    """Withdraw an entry: it stays on the board, greyed, and is ranked no more."""
    from leaderboard.submission.submit import withdraw as mark

    mark(entry, why)
    print(entry)
