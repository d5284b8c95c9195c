"""What a search may ask of its rows: objective, success and gradient of what is written; and what that costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import copy
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

from benchmark.contracts.readout import SLACK, Criteria
from benchmark.contracts.task import Task
from benchmark.model.passes import Pass, Seen
from benchmark.search.pack_size import PackSize


class State(NamedTuple):
    """What is known of some rows at a perturbation; each (rows,)."""

    objective: Tensor
    reached: Tensor
    """The goal is reached, with a margin that rounding cannot undo (bool)."""


class Slope(NamedTuple):
    """A state and the gradient of the objective there."""

    state: State
    gradient: Tensor
    """With respect to what is written, and of its shape."""


class Visibility(Protocol):
    """How much of a perturbation shows."""

    observe: frozenset[int]
    """Boundaries whose stream it looks at."""

    def __call__(self, stream: Mapping[int, Tensor], example: Tensor) -> Tensor:
        """(rows,), differentiable, from the streams of some rows and the index of each row's example."""
        ...


class Oracle:
    """Answers about many rows, split over forward passes, metered row by row."""

    def __init__(self, run: Pass, task: Task, criteria: Criteria, example: Tensor, pack_size: PackSize) -> None:
        """``criteria``: one entry an example; ``example`` (rows,): index of each row's."""
        self._run, self._task, self._criteria, self._pack_size = run, task, criteria, pack_size
        self.example = example
        """Index of each row's example (rows,)."""
        self.forwards: Tensor = torch.zeros_like(example)
        self.backwards: Tensor = torch.zeros_like(example)
        self.slopes = torch.zeros_like(example)
        """Gradients of the objective taken, which is what counts as a step."""
        self.blind = torch.zeros_like(example, dtype=torch.bool)
        """Rows that met a zero or non-finite gradient: the attack could not see there."""
        self._penalty: tuple[float, Visibility] | None = None
        self._rehearsed = False
        self.witness: Callable[[Tensor, Tensor, Slope], None] | None = None
        """Is shown every gradient taken: the rows, what was written, what was answered."""

    @property
    def rows(self) -> int:
        return len(self.example)

    def unbilled(self) -> Self:
        """The same rows, with a meter of its own and no witness: for checks, which are no part of a search."""
        made = copy(self)
        made.forwards, made.backwards, made.slopes = (torch.zeros_like(self.example) for _ in range(3))
        made.blind, made.witness = self.blind.clone(), None
        return made

    def rehearsed(self) -> Self:
        """The same rows with the model taken out: what is written is worth its mean, and no goal is ever reached. What
        a search asks of it is what it asks at most of the model."""
        made = self.unbilled()
        made._rehearsed = True
        return made

    def _every(self, rows: Tensor | None) -> Tensor:
        """``rows``, or the index of all of them."""
        return torch.arange(self.rows, device=self.example.device) if rows is None else rows

    def _judge(self, write: Callable[[slice], Tensor], index: Tensor) -> State:
        """Objective and success of what ``write`` makes of each part of the rows ``index``, which may repeat."""
        found = self._blank(index)

        def work(part: slice) -> None:
            with torch.no_grad():
                found.objective[part], found.reached[part] = self._read(write(part), index[part])

        self._pack_size.split(len(index), work)
        self.forwards += torch.bincount(index, minlength=self.rows)
        return found

    def _climb(self, write: Callable[[slice], Tensor], index: Tensor) -> Slope:
        """The same for different rows, with the gradient. Losses are per row and summed: no gradient depends on the
        pack."""
        found, parts = self._blank(index), list[Tensor]()

        def work(part: slice) -> None:
            at = write(part).detach().requires_grad_()
            value, hit = self._read(at, index[part])
            (gradient,) = torch.autograd.grad(value.sum(), at)
            found.objective[part], found.reached[part] = value.detach(), hit
            parts.append(gradient)

        self._pack_size.split(len(index), work)
        gradient = torch.cat(parts)
        self.forwards[index] += 1
        self.backwards[index] += 1
        self.slopes[index] += 1
        size = gradient.flatten(1).norm(dim=1)
        # a saturated objective is flat because the goal is reached, not because the attack is blind
        self.blind[index] |= ((size == 0) | ~size.isfinite()) & ~found.reached
        return Slope(found, gradient.nan_to_num(posinf=0.0, neginf=0.0))

    def _blank(self, index: Tensor) -> State:
        objective = torch.empty(len(index), device=index.device)
        return State(objective, torch.empty_like(index, dtype=torch.bool))

    def _read(self, delta: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        if self._rehearsed:
            return delta.flatten(1).mean(1), torch.zeros_like(rows, dtype=torch.bool)
        example = self.example[rows]
        return self.judged(self._run(delta, example, self.observe), example)

    @property
    def observe(self) -> frozenset[int]:
        """Boundaries whose stream it looks at beside what is read."""
        return self._penalty[1].observe if self._penalty else frozenset()

    def judged(self, seen: Seen, example: Tensor) -> tuple[Tensor, Tensor]:
        """Objective, differentiable, and success of what a pass saw of some examples, one a row; each (rows,)."""
        objective, reached = aimed_at(self._task, seen, self._criteria.rows(example))
        if not self._penalty:
            return objective, reached
        weight, visibility = self._penalty
        return objective - weight * visibility(seen.stream, example), reached


def aimed_at(task: Task, seen: Seen, criteria: Criteria) -> tuple[Tensor, Tensor]:
    """What a search maximises of a pass (rows,), differentiable, and where the goal is reached (rows,) bool.

    Where the model can be broken, the lesser of the readout's objective and of how far the choices' log-probability is
    above the floor, both in nats: it is above 0 exactly where the verdict says so and the model is not broken.
    """
    readout, verdict = task.readout, task.verdict
    with torch.no_grad():
        reached = readout.reached(verdict, seen.read, criteria)
    objective = readout.objective(verdict, seen.read, criteria)
    if seen.log_mass is None or criteria.floor is None:
        return objective, reached
    floor = math.log(criteria.floor)
    above = seen.log_mass - floor
    reached = reached & (above > SLACK)
    low = (above < objective.detach()).nonzero()[:, 0]
    if torch.is_grad_enabled() and len(low) and seen.weigh is not None:
        return objective.index_copy(0, low, seen.weigh(low) - floor), reached
    return objective.minimum(above), reached
