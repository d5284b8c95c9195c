"""A verb of `bench` whose flags take long to make: it is listed by its help alone, and made when it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Verb(NamedTuple):
    """A verb before its flags are made."""

    help: str
    made: Callable[[], Callable[..., None]]
    """Makes the function with typer's annotations."""
