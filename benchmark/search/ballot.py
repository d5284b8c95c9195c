"""The best perturbation that is known of every (example, budget), and which member of an attack found it.

The search speaks first. Others are heard only where it failed, so that what it recovers stays as it is; what they find
counts from the smallest budget on that it fits into.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.search.minimal_norm import minimal_norm
from benchmark.search.problem import Problem

SEARCH = "search"
HALVINGS = 5
"""Of the way from a success to the least that is enough."""
ROUNDING = 1 + 1e-6


class Ballot:
    """One line for each (example, budget), in the order of a problem's grid without its restarts."""

    def __init__(self, problem: Problem, champions: Tensor, delta: Tensor, open_: Tensor) -> None:
        """
        Args:
            champions: (lines,): the row of the problem that each line is judged as.
            delta: (lines, sites, perturbed, d_model), what the search found.
            open_: (lines,) bool: it failed there.
        """
        self.problem, self.champions = problem, champions
        self.delta, self.open = delta.clone(), open_.clone()
        self.found_by = [SEARCH] * len(champions)

    @property
    def levels(self) -> int:
        return self.problem.grid[1]

    @property
    def left(self) -> Tensor:
        """(examples,): those with an open line."""
        return self.open.view(-1, self.levels).any(1).nonzero()[:, 0]

    def lines(self) -> Tensor:
        """The open lines."""
        return self.open.nonzero()[:, 0]

    def largest(self) -> Tensor:
        """The open line with the largest budget of every example that has one."""
        last = [int(self.open[e * self.levels : (e + 1) * self.levels].nonzero()[-1]) for e in self.left.tolist()]
        return self.left * self.levels + torch.tensor(last, dtype=torch.long, device=self.open.device)

    def evaluate(self, lines: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        """The objective, and whether the goal is reached within the constraint, each (k,)."""
        rows = self.champions[lines]
        state = self.problem.evaluate(delta, rows)
        return state.objective, state.reached & self.problem.constraint.feasible(delta, rows)

    def offer(self, lines: Tensor, delta: Tensor, member: str) -> Tensor:
        """Perturbations (k, ...) for different lines, brought into the constraint and the budget, and taken where they
        reach the goal and nothing before them did; the objective (k,) is given back."""
        given = self.problem.restore(delta, self.champions[lines])
        objective, reached = self.evaluate(lines, given)
        hits = (reached & self.open[lines]).nonzero()[:, 0]
        if len(hits):
            self._take(lines[hits], given[hits], member)
        return objective

    def _take(self, lines: Tensor, delta: Tensor, member: str) -> None:
        least = minimal_norm(delta, lambda scaled, rows: self.evaluate(lines[rows], scaled)[1], HALVINGS).delta
        norms = least.flatten(1).norm(dim=1).tolist()
        for line, own, small, norm in zip(lines.tolist(), delta, least, norms, strict=True):
            self._give(line, own, member)
            start = line - line % self.levels
            for other in range(start, start + self.levels):
                if self.open[other] and norm <= float(self.problem.budget[self.champions[other]]) * ROUNDING:
                    self._give(other, own if other > line else small, member)

    def _give(self, line: int, delta: Tensor, member: str) -> None:
        if self.open[line]:
            self.delta[line], self.found_by[line] = delta, member
            self.open[line] = False
