"""Control: the perturbation that changes nothing. It recovers nothing, or the harness is wrong (METHOD section 8)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmark.contracts import Attack, Attempt, TokenAttempt
from benchmark.registry import register_attack
from benchmark.search.problem import Problem
from benchmark.search.token_problem import TokenProblem


@register_attack("zero")
@dataclass(frozen=True)
class Zero(Attack):
    """No perturbation, or no suffix, measured and judged like any other."""

    role = "control"

    def run(self, problem: Problem | TokenProblem) -> Attempt | TokenAttempt:
        done = torch.ones_like(problem.example, dtype=torch.bool)
        if isinstance(problem, TokenProblem):
            return TokenAttempt(problem.start, done)
        return Attempt(problem.zeros(), done)
