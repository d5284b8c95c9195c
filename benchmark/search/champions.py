"""Which restart of an (example, budget) counts."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.search.oracle import State
from benchmark.search.problem import Problem


def champions(problem: Problem, state: State) -> Tensor:
    """Index of the best restart of every (example, budget): one that reached the goal, then the best objective."""
    examples, levels, restarts = problem.grid
    score = torch.where(state.reached, torch.finfo(state.objective.dtype).max, state.objective).view(-1, restarts)
    return score.argmax(1) + restarts * torch.arange(examples * levels, device=score.device)
