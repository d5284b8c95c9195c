"""The verb ``audit``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from benchmark.run.requesting import Json, requesting

if TYPE_CHECKING:
    from benchmark.run.request import Request


@requesting("suite", "device")
def audit(
    request: Request,
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Where audit.json and the figure go.")] = Path(
        "runs/audit"
    ),
    limit: Annotated[
        int, typer.Option(min=4, help="Examples that are attacked; half as many where texts are written.")
    ] = 24,
    only: Annotated[list[str] | None, typer.Option(help="Switch to show. Repeatable; default: all.")] = None,
    figure: Annotated[bool, typer.Option(help="Draw audit.svg and audit.png, too.")] = True,
    as_json: Json = False,
) -> None:
    """Show each defect of the published protocol beside the same measurement without it."""
    from benchmark.published.audit.figure import draw, pyplot
    from benchmark.published.audit.run import audit as run
    from benchmark.published.audit.run import write
    from benchmark.published.audit.table import table

    if figure:
        pyplot()  # what is missing is told before any work
    console = Console(stderr=True)
    with console.status("loading the model") as status:
        found = run(request.suite, limit=limit, switches=only, device=request.device, begun=status.update)
    write(found, output_dir)
    if figure:
        draw(found, output_dir)
    if as_json:
        print(json.dumps(found.describe(), indent=1))
    else:
        Console().print(table(found))
    console.print(f"audit.json{' and figure' if figure else ''}: {output_dir}", soft_wrap=True, highlight=False)
