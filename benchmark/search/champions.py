"""Which restart of an (example, budget) counts."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.search.oracle import State
from benchmark.search.problem import Problem


def by_rank(problem: Problem, state: State, delta: Tensor) -> Tensor:
    """Rows of every (example, budget), best first, (lines, restarts): those that reached the goal by their norm, then
    the others by their objective."""
    restarts = problem.grid[2]
    norm = delta.flatten(1).norm(dim=1)
    worth = torch.where(state.reached, -norm, state.objective).view(-1, restarts)
    order = worth.argsort(dim=1, descending=True, stable=True)
    reached = state.reached.view(-1, restarts).gather(1, order)
    order = order.gather(1, reached.int().argsort(dim=1, descending=True, stable=True))
    return order + restarts * torch.arange(len(order), device=order.device)[:, None]


def champions(problem: Problem, state: State, delta: Tensor) -> Tensor:
    """The best row of every (example, budget), (lines,)."""
    return by_rank(problem, state, delta)[:, 0]
