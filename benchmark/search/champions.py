"""Which restart of an (example, budget) counts."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.search.oracle import State
from benchmark.search.problem import Problem

ROUNDING = 1 + 1e-5
"""Norms that differ by less are one: what rounding decides would depend on the pack."""


def by_rank(problem: Problem, state: State, delta: Tensor) -> Tensor:
    """Rows of every (example, budget), best first, (lines, restarts): those that reached the goal by their norm, of
    one norm in the attack's own order, then the others by their objective."""
    restarts = problem.grid[2]
    norm = torch.where(state.reached, delta.flatten(1).norm(dim=1), torch.inf).view(-1, restarts)
    least = norm.amin(1, keepdim=True)
    norm = torch.where(norm <= least * ROUNDING, least, norm)
    worth = torch.where(state.reached, 0.0, state.objective).view(-1, restarts)
    order = worth.argsort(dim=1, descending=True, stable=True)
    order = order.gather(1, norm.gather(1, order).argsort(dim=1, stable=True))
    return order + restarts * torch.arange(len(order), device=order.device)[:, None]


def champions(problem: Problem, state: State, delta: Tensor) -> Tensor:
    """The best row of every (example, budget), (lines,)."""
    return by_rank(problem, state, delta)[:, 0]
