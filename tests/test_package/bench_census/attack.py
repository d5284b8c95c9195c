"""An attack that knows one direction only."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmark.contracts.attack import Attack, Attempt
from benchmark.search.problem import Problem


@dataclass(frozen=True)
class FirstAxis(Attack):
    """The whole budget along the first coordinate of the stream."""

    name = "first-axis"
    threat_model: str = "after_edit"

    def run(self, problem: Problem) -> Attempt:
        delta = problem.nothing()
        delta[:, 0, 0, 0] = problem.budget
        return Attempt(delta, torch.ones_like(problem.budget, dtype=torch.bool))
