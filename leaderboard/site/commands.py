"""The verb ``report``; what is printed after an evaluation is ``leaderboard.commands.report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="A run directory, finished or not, or the folder of an entry.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file. Default: report.html in the run directory.")
    ] = None,
) -> None:
    """Write everything that a run says as one HTML file that opens anywhere, without a network."""
    from leaderboard.site.report import write_report

    print(write_report(run, output))
