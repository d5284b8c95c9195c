"""The study's search for a recovery, for the protocol ``paper`` and the audit (arXiv 2606.18322)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from benchmark.contracts.attack import Attack, Attempt
from benchmark.registry import register_attack
from benchmark.search.problem import Problem
from benchmark.threats.after_edit import AfterEdit

BETAS = (0.9, 0.999)


@register_attack("paper-recovery")
@dataclass(frozen=True)
class PaperRecovery(Attack):
    """Adam from zero, clipped to the budget; no early stop, no checkpoint: the last iterate is the result."""

    threat_model: str = AfterEdit.name
    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """All of them are taken."""
    rate: Annotated[float, Field(gt=0, le=1_000)] = 0.14
    """Length of the first step as a share of the budget; the study's 0.1 a coordinate, on 768 of them within 20."""

    def run(self, problem: Problem) -> Attempt:
        delta = problem.zeros()
        adam = _Adam(delta, self.rate * problem.budget / delta[0].numel() ** 0.5)
        reached = torch.zeros_like(problem.budget, dtype=torch.bool)
        for _ in range(self.steps):
            state, gradient = problem.slope(delta)
            way = adam(problem.constraint.tangent(gradient, delta))
            delta = problem.constraint.step(delta, way, problem.budget)
            reached = state.reached
        return Attempt(delta, reached)


class _Adam:
    """Adam with a rate a row (rows,); coordinates rescaled one by one, which is what leaves a null space."""

    def __init__(self, like: Tensor, rate: Tensor) -> None:
        self.mean, self.square, self.rate = torch.zeros_like(like), torch.zeros_like(like), rate
        self.steps = 0

    def __call__(self, gradient: Tensor) -> Tensor:
        """The step uphill."""
        self.steps += 1
        slow, slower = BETAS
        self.mean = slow * self.mean + (1 - slow) * gradient
        self.square = slower * self.square + (1 - slower) * gradient.square()
        mean, square = self.mean / (1 - slow**self.steps), self.square / (1 - slower**self.steps)
        return self.rate[:, None, None, None] * mean / (square.sqrt() + 1e-8)
