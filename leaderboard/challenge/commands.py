"""The verb ``challenge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.errors import UsageError
from benchmark.terminal import terminal


def challenge(
    entry: Annotated[Path, typer.Argument(help="Folder of the entry that is attacked.")],
    attack: Annotated[str, typer.Option("--attack", "-a", help="A registered attack, or file.py:Class.")],
    settings: Annotated[
        list[str] | None, typer.Option("-A", help="Setting of the attack, key=value; search.steps=80. Repeatable.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option("--task", "-t", help="Task of the suite. Default: all.")] = None,
    organisation: Annotated[str | None, typer.Option(help="Who attacks; credited on the board.")] = None,
    contact: Annotated[str | None, typer.Option(help="A mail address or a web page.")] = None,
    licence: Annotated[str | None, typer.Option(help="Of the rows: MIT, CC-BY-4.0.")] = None,
    paper: Annotated[str | None, typer.Option(help="Address of the paper, if there is one.")] = None,
    code: Annotated[str | None, typer.Option(help="Address of the code, if there is one.")] = None,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Run a defense that is a Python file. Read it before.")
    ] = False,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="Run directory; repeat to resume. Default: under runs/.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<index>.")] = "auto",
) -> None:
    """Attack an entry with something stronger; what comes back is recorded, credited and ranks the entry anew."""
    from benchmark.run.display import Live
    from benchmark.run.flags import WRITTEN
    from leaderboard.bundle.form import Form
    from leaderboard.bundle.reading import needs_code, read_bundle
    from leaderboard.challenge.record import challenge as made

    answers = {"organisation": organisation, "contact": contact, "licence": licence, "paper": paper, "code": code}
    form = Form.make({"title": attack, **answers})
    bundle = read_bundle(entry)
    if needs_code(entry) and not allow_code:
        raise UsageError(f"{entry} is a Python file of somebody's: read it, and repeat the command with --allow-code")
    given, console = WRITTEN["attack_settings"](settings or []), terminal()
    with Live(console) as live:
        found = made(
            bundle, attack, given, form, tasks=task or None, directory=output_dir, device=device, listener=live
        )
    for fall in found.falls:
        console.print(
            f"{fall.task}, {fall.threat_model}: {fall.fell} rows that held fell; {fall.gave_way} of {fall.held} "
            "examples that held at the largest budget came back"
        )
    if found.folder is None:
        console.print("nothing that held came back: nothing is recorded")
    else:
        console.print(f"{found.folder}", soft_wrap=True)
        told = f"commit this folder, and open a pull request; it counts after bench verify --replay {found.folder}"
        console.print(told, soft_wrap=True)
