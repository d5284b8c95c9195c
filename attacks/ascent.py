"""Projected gradient ascent over all rows of a problem at once: the optimiser of every gradient attack here.

Sign-free, with momentum; the perturbation itself is brought back into the feasible set after every step, and only
feasible ones are remembered. Small budgets warm-start larger ones: a perturbation that fits a budget fits every larger
one, so a larger budget never does worse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attacks.ranges import Momentum, Number, Rate
from benchmark.contracts.attack import Attempt
from benchmark.search.oracle import State
from benchmark.search.problem import Problem


@dataclass(frozen=True)
class Ascent:
    """Settings of the optimiser."""

    steps: Number = 20
    """Taken at most; a row stops when it reached the goal."""
    rate: Rate = 0.5
    """Length of the first step as a share of the row's budget; falls to 0 as a cosine."""
    momentum: Momentum = 0.7
    """Share of the last direction in the next one."""
    exchanges: Number = 4
    """How often rows look whether a smaller budget, or another restart, of their example is further."""

    def longer(self, times: int) -> Ascent:
        """The same with so many times the steps."""
        return replace(self, steps=self.steps * times)

    def run(self, problem: Problem) -> Attempt:
        """Maximise the objective; a row stops when it, or a smaller budget of its example, reached the goal."""
        search = _Search(problem)
        late: Tensor | None = None
        for step in range(self.steps):
            rows = search.open_rows()
            if len(rows) == 0:
                break
            search.ascend(rows, self._length(step), self.momentum)
            if (step + 1) % max(self.steps // self.exchanges, 1) == 0:
                search.share()
            if step == int(0.9 * self.steps) - 1:
                late = search.best.clone()
        search.close()
        return Attempt(search.best_delta, search.converged(late))

    def _length(self, step: int) -> float:
        return self.rate * 0.5 * (1 + math.cos(math.pi * step / self.steps))


class _Search:
    """State of all rows: where they are, the best they have seen, and which have reached the goal."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.delta = _starts(problem)
        self.velocity = torch.zeros_like(self.delta)
        self.best_delta = self.delta.clone()
        self.best = torch.full_like(problem.budget, -torch.inf)
        self.first: Tensor | None = None
        self.done = torch.zeros_like(problem.budget, dtype=torch.bool)

    def open_rows(self) -> Tensor:
        return (~self.done).nonzero()[:, 0]

    def ascend(self, rows: Tensor, length: float, momentum: float) -> None:
        """One step of ``length`` budgets along the averaged direction, back into the feasible set."""
        state, gradient = self.problem.slope(self.delta[rows], rows)
        self._remember(rows, state)
        moving = ~self.done[rows]
        rows, gradient = rows[moving], gradient[moving]
        if len(rows) == 0:
            return
        at, budget, constraint = self.delta[rows], self.problem.budget[rows], self.problem.constraint
        way = constraint.tangent(gradient, at, rows)
        self.velocity[rows] = momentum * self.velocity[rows] + (1 - momentum) * _unit(way)
        # what was tangent at earlier iterates need not be here
        way = _unit(constraint.tangent(self.velocity[rows], at, rows))
        self.delta[rows] = constraint.step(at, way * (length * budget)[:, None, None, None], budget, rows)

    def close(self) -> None:
        """Judge the last iterates, and let every row have the best that its budget allows."""
        rows = self.open_rows()
        if len(rows):
            self._remember(rows, self.problem.evaluate(self.delta[rows], rows))
        self.share()

    def share(self, *, reached_only: bool = False) -> None:
        """Rows take over the best perturbation of their example at this budget or a smaller one.

        Where that one reached the goal, the rows of this and of every larger budget have reached it too, and stop;
        ``reached_only``: nothing else is taken over.
        """
        source = self._champions()
        late = self.done[source] & ~self.done
        better = (self.best[source] > self.best) & (not reached_only)
        takes = late | better
        self.best_delta[takes] = self.best_delta[source[takes]]
        self.best[takes] = self.best[source[takes]]
        self.delta[takes] = self.best_delta[takes]
        self.velocity[takes] = 0
        self.done |= late

    def converged(self, late: Tensor | None) -> Tensor:
        """(rows,): reached, or gained at most 1 % of its whole gain in the last tenth of the steps."""
        if late is None or self.first is None:
            return self.done
        return self.done | (self.best - late <= 0.01 * (self.best - self.first) + 1e-6)

    def _champions(self) -> Tensor:
        """For every row, the best row of its example among all restarts of its own and smaller budgets."""
        examples, levels, restarts = self.problem.grid
        # a reached goal outranks every objective that has not
        score = torch.where(self.done, torch.finfo(self.best.dtype).max, self.best).view(examples, levels, restarts)
        index = torch.arange(self.problem.rows, device=score.device).view(examples, levels, restarts)
        own, place = score.max(2)
        champion = index.gather(2, place[..., None])[..., 0]
        for level in range(1, levels):
            smaller = own[:, level - 1] >= own[:, level]
            own[:, level] = torch.where(smaller, own[:, level - 1], own[:, level])
            champion[:, level] = torch.where(smaller, champion[:, level - 1], champion[:, level])
        return champion[..., None].expand(-1, -1, restarts).reshape(-1)

    def _remember(self, rows: Tensor, state: State) -> None:
        if self.first is None:
            self.first = state.objective.clone()
        # success first, then the objective; and only what the constraint allows
        reached = state.reached & ~self.done[rows]
        better = ((state.objective > self.best[rows]) | reached) & self._feasible(rows)
        self.best_delta[rows[better]] = self.delta[rows[better]]
        self.best[rows[better]] = state.objective[better]
        reached &= better
        if reached.any():
            self.done[rows[reached]] = True
            self.share(reached_only=True)

    def _feasible(self, rows: Tensor) -> Tensor:
        return self.problem.constraint.feasible(self.delta[rows], rows)


def _starts(problem: Problem) -> Tensor:
    """Zero for the first restart, random points of the feasible ball for the others."""
    noise = problem.constraint.project(problem.noise()) if problem.grid[2] > 1 else problem.zeros()
    inside = (
        noise
        * 0.5
        * problem.budget[:, None, None, None]
        / noise.flatten(1).norm(dim=1).clamp(min=1e-30)[:, None, None, None]
    )
    start = torch.where((problem.restart > 0)[:, None, None, None], inside, torch.zeros_like(inside))
    return problem.constraint.restore(start, problem.budget)


def _unit(x: Tensor) -> Tensor:
    """Every row scaled to norm 1; a zero row stays zero."""
    return x / x.flatten(1).norm(dim=1).clamp(min=1e-30)[:, None, None, None]
