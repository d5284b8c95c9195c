"""Verbs that take a request: their flags are made of its fields, when they are called and not to list them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated

import typer

from benchmark.verb import Verb

Json = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output; everything else goes to standard error.")
]


def requesting(*fields: str) -> Callable[[Callable[..., None]], Verb]:
    """Decorator of a verb ``(request, ...)``: its flags are ``fields`` of the request (all by default), ``--config``,
    and what else it takes."""

    def decorate(verb: Callable[..., None]) -> Verb:
        def made() -> Callable[..., None]:
            from benchmark.run.flags import with_flags  # pydantic's models take longer than all the rest of `--help`

            return with_flags(verb, fields)

        return Verb(inspect.getdoc(verb) or "", made)

    return decorate
