"""Tasks and judges of free text: data and pure judgements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from benchmark.contracts.example import Example, Split
from benchmark.contracts.paired import Paired
from benchmark.contracts.readout import Criteria, Readout, Verdict


class Readings(NamedTuple):
    """What was read of some examples."""

    examples: Sequence[Example]
    reads: Sequence[Any]
    """Of each example: a tensor (choices,) or (classes,), or a text."""


class Task(ABC):
    """Data and a pure judge; a kind of task over any data. Subclasses may be frozen dataclasses of settings."""

    name: str = ""
    """The kind's registered name; in a run, the name that the suite gives it, which is free."""
    version: ClassVar[int] = 1
    """Goes up when scores stop being comparable."""
    readout: Readout

    @abstractmethod
    def examples(self, split: Split) -> Sequence[Example]:
        """The examples of a split; splits are disjoint by cluster."""

    @abstractmethod
    def verdict(self, read: Any, criteria: Criteria) -> Verdict:
        """Judge what the readout gives (``(rows, choices)``, ``(rows, classes)`` or texts), blind to its origin."""

    def retain(self, split: Split) -> Sequence[Example]:
        """Examples of other behaviors that a selective defense leaves alone."""
        return ()

    def fresh(self, key: str, count: int) -> Sequence[Example]:
        """At most ``count`` new examples of the kind of ``test``, made from ``key`` and in no split; none: it cannot.

        What a defense does on them is compared with what it does on ``test``, which anybody may have read.
        """
        return ()

    def prerequisites(self, example: Example) -> Sequence[Example]:
        """Further examples that the undefended model must get right for this one to count."""
        return ()

    def summary(self, base: Readings, defended: Readings) -> Mapping[str, Any]:
        """Further figures of a defense on the ``test`` and ``retain`` examples, for its card; plain JSON values."""
        return {}

    def side_effects(self, base: Readings, defended: Readings) -> Sequence[Paired]:
        """What a defense does to the ``retain`` examples that is worth a name of its own, example by example."""
        return ()


class Judge(ABC):
    """Labels free text, the same for every arm; registered, so that a suite can name another one."""

    name: ClassVar[str]
    LABELS: ClassVar[tuple[str, ...]] = ("refusal", "degenerate", "off_target", "complies")

    @abstractmethod
    def labels(self, texts: Sequence[str], criteria: Criteria) -> list[str]:
        """One of ``LABELS`` for each text; ``criteria.reference`` may be empty (the undefended model's own answers)."""
