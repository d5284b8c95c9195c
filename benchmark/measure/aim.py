"""Where an attacker writes into a pack, what constrains it, and what a budget of eps = 1 is there."""

from __future__ import annotations

from typing import NamedTuple

from benchmark.contracts.readout import Criteria
from benchmark.model.pack import Pack
from benchmark.model.passes import Writes
from benchmark.search.constraint import Constraint


class Aim(NamedTuple):
    """An attack aimed at a pack."""

    plain: Pack
    """The prompts as they are."""
    pack: Pack
    """The same, with room for a suffix where there is one."""
    writes: Writes
    constraint: Constraint
    unit: float
    """L2 norm of eps = 1."""
    criteria: Criteria
    """What the task judges by, with the attack's goal."""
    tolerance: float | None = None
    """Largest relative drift of the protected activations that a perturbation may cause; None: ``constraint`` says it
    all."""

    @property
    def common(self) -> int:
        """How many last positions the attacked and the unperturbed text share: those after an inserted suffix, or,
        where the suffix ends the text, the two readouts."""
        behind = self.plain.length - self.writes.start
        return behind if self.pack is self.plain else max(behind, 1)
