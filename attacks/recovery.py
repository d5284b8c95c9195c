"""Recovery: a bounded perturbation of the residual stream that brings the behavior back (arXiv 2606.18322)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attacks.ascent import Ascent
from benchmark.contracts import Attack, Attempt
from benchmark.registry import register_attack
from benchmark.search.problem import Problem


@register_attack("recovery")
@dataclass(frozen=True)
class Recovery(Attack):
    """Gradient ascent on the stream at the defended site, one perturbation an example."""

    published = "paper-recovery"

    constraint: Literal["none", "encoder", "jacobian"] = "none"
    restarts: int = 2
    ascent: Ascent = Ascent()
    """Settings of the optimiser."""

    def run(self, problem: Problem) -> Attempt:
        return self.ascent.run(problem)
