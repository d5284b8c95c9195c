"""Control: no defense. Nothing is suppressed, so an evaluation of it must find ``never_suppressed`` everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.contracts import Defense, Example, FittedDefense, Task
from benchmark.model.subject import Subject
from benchmark.registry import register_defense


@register_defense("none")
@dataclass(frozen=True)
class NoDefense(Defense):
    """The undefended model."""

    def fit(self, subject: Subject, task: Task, examples: Sequence[Example]) -> FittedDefense:
        return FittedDefense(edits={}, record={})
