"""The verb ``submit``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def submit(
    run: Annotated[
        str, typer.Argument(help="A finished run directory, or RUN_DIR::DEFENSE where it attacked several.")
    ],
    title: Annotated[str | None, typer.Option(help="What the defense is called on the board.")] = None,
    organisation: Annotated[str | None, typer.Option(help="Who hands it in. Entries are counted by it.")] = None,
    contact: Annotated[str | None, typer.Option(help="A mail address or a web page for questions.")] = None,
    licence: Annotated[str | None, typer.Option(help="Of entry and defense, as SPDX has it: MIT, Apache-2.0.")] = None,
    paper: Annotated[str | None, typer.Option(help="Address of the paper, if there is one.")] = None,
    code: Annotated[str | None, typer.Option(help="Address of the code, if there is one.")] = None,
    with_perturbations: Annotated[
        bool,
        typer.Option("--with-perturbations", help="Share what each recovery wrote, so that anybody can replay it."),
    ] = False,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="Folder of entries. Default: leaderboard/entries.")
    ] = None,
) -> None:
    """Make an entry of a run, for a pull request. What is not given is asked, and all of it is published."""
    from leaderboard.board.side import OF, side
    from leaderboard.bundle.form import Form
    from leaderboard.submission.submit import ENTRIES
    from leaderboard.submission.submit import submit as make

    chosen = side(run)
    given = {
        "title": title,
        "organisation": organisation,
        "contact": contact,
        "licence": licence,
        "paper": paper,
        "code": code,
    }
    form = Form.make(_asked(given) if sys.stdin.isatty() else given)
    root = Path(run.partition(OF)[0])
    entry = make(root, chosen, form, output_dir or ENTRIES, perturbations=with_perturbations)
    print(entry)
    print(f"check it (bench verify {entry}), commit this folder, and open a pull request", file=sys.stderr)


def _asked(given: dict[str, str | None]) -> dict[str, str | None]:
    """The answers, those that were not given asked on the terminal."""
    from leaderboard.bundle.form import questions

    answers = dict(given)
    for name, question, needed in questions():
        if answers[name] is None:
            default = None if needed else ""
            answers[name] = typer.prompt(f"{name}: {question}\n>", default=default, show_default=False) or None
    return answers
