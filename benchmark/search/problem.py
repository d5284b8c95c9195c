"""A recovery problem: many small optimisations side by side, with the model, its hooks and its caches hidden.

Rows are a grid ``(examples, budgets, restarts)`` with the budgets ascending. An attack sees tensors with one entry a
row and never how the rows are split over forward passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from benchmark.contracts.readout import Criteria
from benchmark.contracts.task import Task
from benchmark.errors import UsageError
from benchmark.model.passes import Pass
from benchmark.model.tail import TailPass
from benchmark.search.constraint import Constraint, EncoderNullSpace, Free
from benchmark.search.draws import normal
from benchmark.search.oracle import Oracle, Slope, State, Visibility
from benchmark.search.pack_size import PackSize


@runtime_checkable
class Metered(Protocol):
    """A constraint that runs the model itself."""

    forwards: Tensor
    backwards: Tensor


class Problem(Oracle):
    """Maximise the task's objective over a perturbation of every row, within its budget and the constraint."""

    def __init__(
        self,
        run: Pass,
        task: Task,
        criteria: Criteria,
        *,
        budgets: Tensor,
        restarts: int,
        shape: tuple[int, int, int],
        constraint: Constraint,
        keys: Sequence[str],
        pack_size: PackSize,
    ) -> None:
        """``criteria``: one entry an example; ``budgets``: ascending norms; ``shape``: (sites, perturbed, d_model);
        ``keys``: one string an example, from which the row's random numbers are seeded."""
        device = criteria.answer.device
        examples, levels = len(keys), len(budgets)
        example = torch.arange(examples, device=device).repeat_interleave(levels * restarts)
        super().__init__(run, task, criteria, example, pack_size)
        self.grid = (examples, levels, restarts)
        self.constraint = constraint
        self._keys, self._shape = keys, shape
        self.budget = budgets.to(device).float().repeat_interleave(restarts).repeat(examples)
        """L2 budget of each row (rows,)."""
        self.restart = torch.arange(restarts, device=device).repeat(examples * levels)
        """Index of each row's restart (rows,)."""
        self.visibility: Callable[[], Visibility] = _unknown
        """Makes what says how much of a perturbation shows."""

    @property
    def form(self) -> Any:
        """What problems agree in that can be searched as one (``benchmark.search.batch``); None: this one cannot."""
        linear = isinstance(self.constraint, Free | EncoderNullSpace)  # another set is not the same for every row
        return self._run.form if linear and isinstance(self._run, TailPass) else None

    def penalised(self, weight: float) -> Problem:
        """The same rows and the same meter, with ``weight`` times what shows taken off the objective."""
        made = copy(self)
        made._penalty = (weight, self.visibility()) if weight else None
        made.witness = None if weight else self.witness
        return made

    def zeros(self) -> Tensor:
        """The perturbation that changes nothing, (rows, sites, perturbed, d_model)."""
        return torch.zeros(self.rows, *self._shape, device=self.budget.device)

    def nothing(self) -> Tensor:
        """The proposal that changes nothing, as every kind of problem has one."""
        return self.zeros()

    def noise(self) -> Tensor:
        """Standard normal numbers shaped like a perturbation; a row's depend on its key only, not on the pack."""
        parts = [normal(f"{key}|{level}|{r}", self._shape) for key in self._keys for level, r in self._levels()]
        return torch.stack(parts).to(self.budget.device)

    def _levels(self) -> list[tuple[int, int]]:
        return [(level, r) for level in range(self.grid[1]) for r in range(self.grid[2])]

    def restore(self, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        """``delta`` brought into the constraint and the budget."""
        budget = self.budget if rows is None else self.budget[rows]
        return self.constraint.restore(delta, budget, rows)

    def settle(self) -> None:
        """Add what the constraint spent to the bill; once, when the search is over."""
        if isinstance(self.constraint, Metered):
            self.forwards += self.constraint.forwards
            self.backwards += self.constraint.backwards

    def evaluate(self, delta: Tensor, rows: Tensor | None = None) -> State:
        """Objective and success of ``delta`` at the rows ``rows`` (all by default)."""
        return self._judge(lambda part: delta[part], self._every(rows))

    def slope(self, delta: Tensor, rows: Tensor | None = None) -> Slope:
        """Objective, success and gradient."""
        index = self._every(rows)
        found = self._climb(lambda part: delta[part], index)
        if self.witness is not None:
            self.witness(index, delta, found)
        return found

    def objective(self, delta: Tensor, rows: Tensor | None = None) -> Tensor:
        """The objective (rows,) in one pass, differentiable by whatever it depends on: by the edits' parameters too,
        for who trains a defense. It is not metered."""
        return self._read(delta, self._every(rows))[0]


def _unknown() -> Visibility:
    raise UsageError("this problem does not say what a perturbation shows; leave the penalty out")
