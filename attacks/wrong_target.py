"""Control: the same search, for a wrong answer (METHOD section 8: steering is not recovery).

A recovery is ``selective`` where the behavior comes back at a smaller budget than the matched wrong target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attacks.ascent import Ascent
from benchmark.contracts import Attack, Attempt, Goal, ThreatModel
from benchmark.problem import Problem
from benchmark.registry import register_attack


@register_attack("wrong-target")
@dataclass(frozen=True)
class WrongTarget(Attack):
    """Gradient ascent toward the example's wrong target, matched to an attack by threat model and constraint."""

    role = "control"
    threat_model: ThreatModel = ThreatModel.BEFORE_EDIT
    constraint: Literal["none", "encoder"] = "none"
    goal: Goal = "wrong"
    restarts: int = 2
    ascent: Ascent = Ascent()

    def run(self, problem: Problem) -> Attempt:
        return self.ascent.run(problem)
