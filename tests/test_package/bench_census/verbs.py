"""A verb: how much of a kind is registered."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmark.run.request import Request
from benchmark.run.requesting import requesting


@requesting("suite")
def census(request: Request, loud: Annotated[bool, typer.Option(help="Say it loudly.")] = False) -> None:
    """Count the tasks of a suite."""
    from benchmark.suite_file import load_suite

    print(f"{len(load_suite(request.suite).tasks)} tasks{'!' if loud else ''}")
