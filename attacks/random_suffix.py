"""Control: random tokens typed behind the prompt; what the gradient adds is what GCG has over this."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from attacks.ranges import Number
from benchmark.contracts.attack import Attack, Attempt
from benchmark.registry import register_attack
from benchmark.search.token_problem import TokenProblem


@register_attack("random-suffix")
@dataclass(frozen=True)
class RandomSuffix(Attack):
    """The best of ``restarts`` random suffixes of each length."""

    role = "control"
    searches = False
    threat_model: str = "token_suffix"
    restarts: Number = 8
    """Draws an example and length, the best of which counts."""

    def run(self, problem: TokenProblem) -> Attempt:
        return Attempt(problem.draw(), torch.ones_like(problem.example, dtype=torch.bool))
