"""Soft suffix: free embedding vectors after the prompt, with the defense live at every position (METHOD section 4)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from attacks.minimum_norm import MinimumNorm
from attacks.ranges import Number
from benchmark.contracts.attack import Attack, Attempt
from benchmark.registry import register_attack
from benchmark.search.problem import Problem


@register_attack("soft-suffix")
@dataclass(frozen=True)
class SoftSuffix(Attack):
    """The suffix vectors that are enough and closest to copies of the prompt's last token, where they start."""

    threat_model: str = "soft_suffix"
    constraint: Literal["none"] = "none"
    restarts: Number = 2
    penalty: Annotated[float, Field(ge=0)] = 0.0
    """Objective that is given up for each unit of relative drift, and of the monitor's excess (arXiv 2412.09565)."""
    search: MinimumNorm = MinimumNorm()
    """Settings of the search."""

    def harder(self, times: int) -> Attack:
        return replace(self, restarts=self.restarts * times, search=self.search.longer(times))

    def run(self, problem: Problem) -> Attempt:
        return self.search.run(problem.penalised(self.penalty))
