"""Protocols: how a run measures. The engine's own is strict; others change what these methods give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from benchmark.contracts.attack import Attack
from benchmark.contracts.readout import Judging
from benchmark.contracts.row import Record, Row
from benchmark.contracts.task import Task

Arm = Literal["base", "defended", "attacked"]
"""Which runs of a model a verdict is about: undefended, defended, defended and attacked."""


class Protocol:
    """The strict protocol, and the seams of every other one (METHOD section 11)."""

    name: ClassVar[str] = "strict"
    ranked: ClassVar[bool] = True
    """Its scores compare with those of other runs."""
    extra: ClassVar[type[Record] | None] = None
    """What it measures beside everything else."""

    def attacks(self, attacks: Sequence[Attack]) -> Sequence[Attack]:
        """The attacks that are run in the place of a suite's."""
        return attacks

    def constraint(self, constraint: Any) -> Any:
        """What a search respects in the place of an exact constraint (``benchmark.search.constraint``)."""
        return constraint

    def verdict(self, task: Task, arm: Arm) -> Judging:
        """Who judges an arm: the task, blind to it."""
        return task.verdict

    def counts(self, feasible: bool) -> bool:
        """Whether a goal that was reached counts, by whether the constraint held on the re-measurement."""
        return feasible

    def measure(self, group: Any, held: Sequence[Any], width: int) -> Sequence[Record | None]:
        """The ``extra`` record of every row of a pass, from the protected latents (``benchmark.measure.drift``)."""
        return ()

    def finish(self, group: Any, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows of a cell, once all are there."""
        return rows
