"""Control: random directions of the same norm in the same feasible set (METHOD section 8)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from attacks.ranges import Number
from benchmark.contracts.attack import Attack, Attempt
from benchmark.registry import register_attack
from benchmark.search.problem import Problem


@register_attack("random-direction")
@dataclass(frozen=True)
class RandomDirection(Attack):
    """The best of ``restarts`` random draws at the full budget: conservative, since one gradient attack has fewer."""

    role = "control"
    searches = False
    threat_model: str = "before_edit"
    restarts: Number = 8
    """Draws an example and budget, the best of which counts."""

    def run(self, problem: Problem) -> Attempt:
        noise = problem.constraint.project(problem.noise())
        norm = noise.flatten(1).norm(dim=1).clamp(min=1e-30)
        delta = noise * (problem.budget / norm)[:, None, None, None]
        return Attempt(delta, torch.ones_like(problem.budget, dtype=torch.bool))
