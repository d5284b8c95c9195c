"""The two sets of examples that a task has."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmark.contracts.example import Example, Split
from benchmark.contracts.task import Task
from benchmark.sealed import refuse_while_learning

Examples = Mapping[Split, Sequence[Example]]
NOTHING: Examples = {"fit": (), "dev": (), "test": ()}


class Sets(NamedTuple):
    """By split; both are read at once, so that a mistake in either is told before any work starts."""

    examples: Examples
    retain: Examples
    """What a selective defense leaves alone."""


class DataTask(Task):
    """A kind of task over data."""

    @property
    @abstractmethod
    def _sets(self) -> Sets: ...

    def examples(self, split: Split) -> Sequence[Example]:
        _allow(split)
        return self._sets.examples[split]

    def retain(self, split: Split) -> Sequence[Example]:
        _allow(split)
        return self._sets.retain[split]


def _allow(split: Split) -> None:
    if split != "fit":
        refuse_while_learning(repr(split))
