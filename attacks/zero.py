"""Control: the perturbation that changes nothing. It recovers nothing, or the harness is wrong (METHOD section 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from benchmark.contracts import Attack, Attempt, Goal, ThreatModel
from benchmark.problem import Problem
from benchmark.registry import register_attack


@register_attack("zero")
@dataclass(frozen=True)
class Zero(Attack):
    """No perturbation at all, measured and judged like any other."""

    role = "control"
    threat_model: ThreatModel = ThreatModel.BEFORE_EDIT
    constraint: Literal["none", "encoder"] = "none"
    goal: Goal = "behavior"
    restarts: int = 1

    def run(self, problem: Problem) -> Attempt:
        return Attempt(problem.zeros(), torch.ones_like(problem.budget, dtype=torch.bool))
