"""The leaderboard's part of the command line: the verb ``figures``, and the report after an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def figures(
    runs: Annotated[list[Path], typer.Argument(help="Finished run directories.")],
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Folder of the figures.")] = Path("figures"),
) -> None:
    """Draw recovery over budgets, drift against recovery, and replayed parts from finished runs."""
    from leaderboard.figures.draw import draw
    from leaderboard.rows.run import read_run

    for path in draw([read_run(run) for run in runs], output_dir):
        print(path)


def report(directory: Path, console: Console, as_json: bool) -> None:
    """Score a run, write its ``leaderboard.json`` and print it.

    Args:
        console: for tables and messages.
        as_json: print the file on standard output in the place of tables.

    Raises:
        RunDirectoryError: the directory is no run, or damaged.
    """
    from leaderboard.board.aggregate import leaderboard, write
    from leaderboard.rows.run import read_run
    from leaderboard.tables.board import render

    board = leaderboard([read_run(directory)])
    write(board, directory / "leaderboard.json")
    if as_json:
        print(board.model_dump_json(indent=2))
    else:
        render(board, console)
    console.print(f"rows, plan and leaderboard.json: {directory}", soft_wrap=True, highlight=False)
