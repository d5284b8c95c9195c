"""A recovery problem: many small optimisations side by side, with the model, its hooks and its caches hidden.

Rows are a grid ``(examples, budgets, restarts)`` with the budgets ascending. An attack sees tensors with one entry a
row and never how the rows are split over forward passes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from benchmark.contracts import Batch, Task
from benchmark.errors import UsageError
from benchmark.model.passes import Pass
from benchmark.search.constraint import Constraint


class State(NamedTuple):
    """What is known of some rows at a perturbation; each (rows,)."""

    objective: Tensor
    reached: Tensor
    """The goal is reached, with a margin that rounding cannot undo (bool)."""


class Slope(NamedTuple):
    """A state and the gradient of the objective there."""

    state: State
    gradient: Tensor
    """Like the perturbation, (rows, sites, perturbed, d_model)."""


@dataclass
class PackSize:
    """How many rows go through the model at once; halved whenever the accelerator's memory runs out."""

    rows: int
    on_halved: Callable[[int], None] = field(default=lambda rows: None)

    def split(self, total: int, work: Callable[[slice], None]) -> None:
        """Do ``work`` on consecutive slices of ``total`` rows; a slice that runs out of memory is done again, smaller.

        Raises:
            UsageError: a single row does not fit.
        """
        done = 0
        while done < total:
            part = slice(done, min(done + self.rows, total))
            try:
                work(part)
            except torch.OutOfMemoryError as error:
                self._halve(part.stop - part.start, error)
                continue
            done = part.stop

    def _halve(self, tried: int, error: Exception) -> None:
        if tried == 1:
            raise UsageError(
                "not even one row fits into the device's memory; use a smaller dtype or --device cpu"
            ) from error
        self.rows = tried // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.on_halved(self.rows)


class Shown(Protocol):
    """How much of a perturbation shows."""

    observe: frozenset[int]
    """Boundaries whose stream it looks at."""

    def __call__(self, stream: Mapping[int, Tensor], example: Tensor) -> Tensor:
        """(rows,), differentiable, from the streams of some rows and the index of each row's example."""
        ...


@runtime_checkable
class Metered(Protocol):
    """A constraint that runs the model itself."""

    forwards: Tensor
    backwards: Tensor


class Problem:
    """Maximise the task's objective over a perturbation of every row, within its budget and the constraint."""

    def __init__(
        self,
        run: Pass,
        task: Task,
        batch: Batch,
        *,
        budgets: Tensor,
        restarts: int,
        shape: tuple[int, int, int],
        constraint: Constraint,
        keys: Sequence[str],
        pack_size: PackSize,
    ) -> None:
        """``batch``: one entry an example; ``budgets`` ascending absolute norms; ``shape``: sites, perturbed, d_model;
        ``keys``: one string an example, from which the row's random numbers are seeded."""
        self._run, self._task, self._batch, self._keys, self._pack_size = run, task, batch, keys, pack_size
        self._shape = shape
        self.constraint = constraint
        self.grid = (len(keys), len(budgets), restarts)
        device = batch.answer.device
        examples, levels, _ = self.grid
        self.example = torch.arange(examples, device=device).repeat_interleave(levels * restarts)
        """Index of each row's example (rows,)."""
        self.budget = budgets.to(device).float().repeat_interleave(restarts).repeat(examples)
        """L2 budget of each row (rows,)."""
        self.restart = torch.arange(restarts, device=device).repeat(examples * levels)
        """Index of each row's restart (rows,)."""
        self.forwards = torch.zeros(self.rows, dtype=torch.long, device=device)
        self.backwards = torch.zeros(self.rows, dtype=torch.long, device=device)
        self.slopes = torch.zeros(self.rows, dtype=torch.long, device=device)
        """Gradients of the objective taken, which is what counts as a step."""
        self.blind = torch.zeros(self.rows, dtype=torch.bool, device=device)
        """Rows that met a zero or non-finite gradient: the attack could not see there."""

        self.shown: Callable[[], Shown] = _nothing_shown
        """Makes what says how much of a perturbation shows."""
        self._penalty: tuple[float, Shown] | None = None

    @property
    def rows(self) -> int:
        examples, levels, restarts = self.grid
        return examples * levels * restarts

    def penalised(self, weight: float) -> Problem:
        """The same rows and the same meter, with ``weight`` times what shows taken off the objective."""
        made = copy(self)
        made._penalty = (weight, self.shown()) if weight else None
        return made

    def zeros(self) -> Tensor:
        """The perturbation that changes nothing, (rows, sites, perturbed, d_model)."""
        return torch.zeros(self.rows, *self._shape, device=self.budget.device)

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
        index = self._all(rows)
        objective, reached = torch.empty_like(self.budget[index]), torch.empty_like(index, dtype=torch.bool)

        def work(part: slice) -> None:
            with torch.no_grad():
                objective[part], reached[part] = self._judge(delta[part], index[part])

        self._pack_size.split(len(index), work)
        self.forwards[index] += 1
        return State(objective, reached)

    def slope(self, delta: Tensor, rows: Tensor | None = None) -> Slope:
        """Objective, success and gradient. Losses are per row and summed: a gradient never depends on the pack."""
        index = self._all(rows)
        objective, reached = torch.empty_like(self.budget[index]), torch.empty_like(index, dtype=torch.bool)
        gradient = torch.empty_like(delta)

        def work(part: slice) -> None:
            at = delta[part].detach().requires_grad_()
            value, hit = self._judge(at, index[part])
            gradient[part] = torch.autograd.grad(value.sum(), at)[0]
            objective[part], reached[part] = value.detach(), hit

        self._pack_size.split(len(index), work)
        self.forwards[index] += 1
        self.backwards[index] += 1
        self.slopes[index] += 1
        size = gradient.flatten(1).norm(dim=1)
        # a saturated objective is flat because the goal is reached, not because the attack is blind
        self.blind[index] |= ((size == 0) | ~size.isfinite()) & ~reached
        return Slope(State(objective, reached), gradient.nan_to_num(posinf=0.0, neginf=0.0))

    def _all(self, rows: Tensor | None) -> Tensor:
        return torch.arange(self.rows, device=self.budget.device) if rows is None else rows

    def _judge(self, delta: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        example = self.example[rows]
        batch = select(self._batch, example)
        weight, shown = self._penalty or (0.0, None)
        seen = self._run(delta, example, shown.observe if shown else frozenset())
        with torch.no_grad():
            reached = self._task.reached(seen.read, batch)
        objective = self._task.objective(seen.read, batch)
        return objective - weight * shown(seen.stream, example) if shown else objective, reached


def _nothing_shown() -> Shown:
    raise UsageError("this problem does not say what a perturbation shows")


def select(batch: Batch, index: Tensor) -> Batch:
    """The entries ``index`` of a batch."""
    rows = index.tolist()
    reference = tuple(batch.reference[i] for i in rows) if batch.reference else ()
    return replace(
        batch, answer=batch.answer[index], wrong=batch.wrong[index], ceiling=batch.ceiling[index], reference=reference
    )


def normal(key: str, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers that depend on ``key`` alone."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
