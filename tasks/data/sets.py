"""The two sets of examples that a task has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmark.contracts.example import Example, Split

Examples = Mapping[Split, Sequence[Example]]
NOTHING: Examples = {"fit": (), "dev": (), "test": ()}


class Sets(NamedTuple):
    """By split; both are read at once, so that a mistake in either is told before any work starts."""

    examples: Examples
    retain: Examples
    """What a selective defense leaves alone."""
