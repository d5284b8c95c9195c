"""Control: the proposal that changes nothing. It recovers nothing, or the harness is wrong (METHOD section 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmark.contracts.attack import Attack, Attempt
from benchmark.registry import register_attack
from benchmark.search.problem import Problem
from benchmark.search.token_problem import TokenProblem


@register_attack("zero")
@dataclass(frozen=True)
class Zero(Attack):
    """No perturbation, or no suffix, measured and judged like any other."""

    role = "control"
    searches = False
    threat_model: str = "before_edit"

    def run(self, problem: Problem | TokenProblem) -> Attempt:
        return Attempt(problem.nothing(), torch.ones_like(problem.example, dtype=torch.bool))

    def budgets(self, grid: Sequence[float]) -> Sequence[float]:
        return (0.0,)
