"""Recovery: a bounded perturbation of the residual stream that brings the behavior back (arXiv 2606.18322)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from attacks.minimum_norm import MinimumNorm
from attacks.random_direction import RandomDirection
from attacks.ranges import Number
from attacks.zero import Zero
from benchmark.contracts.attack import Attack, Attempt
from benchmark.registry import register_attack
from benchmark.search.problem import Problem


@register_attack("recovery")
@dataclass(frozen=True)
class Recovery(Attack):
    """The smallest perturbation of the stream at the defended site that brings an example back."""

    threat_model: str = "before_edit"
    restarts: Number = 2
    search: MinimumNorm = MinimumNorm()
    """Settings of the search."""

    def harder(self, times: int) -> Attack:
        return replace(self, restarts=self.restarts * times, search=self.search.longer(times))

    def run(self, problem: Problem) -> Attempt:
        return self.search.run(problem)

    def controls(self) -> Sequence[Attack]:
        return RandomDirection(threat_model=self.threat_model, constraint=self.constraint), Zero(self.threat_model)
