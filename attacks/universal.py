"""Universal: one perturbation for all examples, learned on ``fit`` (METHOD section 6: a shared delta is an option).

It needs no search at attack time: whoever has it once has it for every prompt. Attacks that search for each example
can only do better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from attacks.random_direction import RandomDirection
from attacks.ranges import Momentum, Number, Rate
from attacks.zero import Zero
from benchmark.contracts.attack import Attack, Attempt
from benchmark.errors import UsageError
from benchmark.registry import register_attack
from benchmark.search.problem import Problem


@register_attack("universal")
@dataclass(frozen=True)
class Universal(Attack):
    """Projected ascent on the mean objective of the examples that have not reached the goal yet, at each budget."""

    learns = True
    threat_model: str = "before_edit"
    constraint: Literal["none", "encoder"] = "none"
    steps: Number = 30
    """Of the ascent, at each budget."""
    rate: Rate = 0.5
    """Length of the first step as a share of the budget; falls to 0 as a cosine."""
    momentum: Momentum = 0.7
    """Share of the last direction in the next one."""

    def harder(self, times: int) -> Attack:
        return replace(self, restarts=self.restarts * times, steps=self.steps * times)

    def run(self, problem: Problem) -> Attempt:
        raise UsageError("a universal perturbation has to be learned before it is tried: run what `trained` returns")

    def trained(self, problems: Sequence[Problem]) -> Attack:
        search = _Search(problems)
        for step in range(self.steps):
            search.ascend(self.rate * 0.5 * (1 + math.cos(math.pi * step / self.steps)), self.momentum)
        search.close()
        return Learned(self.threat_model, self.constraint, self.goal, self.restarts, search.best_delta)

    def controls(self) -> Sequence[Attack]:
        return RandomDirection(threat_model=self.threat_model, constraint=self.constraint), Zero(self.threat_model)


@dataclass(frozen=True, eq=False)
class Learned(Attack):
    """What was learned, tried on every example alike: where it stands there is no search, of which a second opinion
    could be asked."""

    name = "universal"
    searches = False
    delta: Tensor = torch.zeros(0)
    """(budgets, sites, perturbed, d_model)."""

    def run(self, problem: Problem) -> Attempt:
        return Attempt(_everywhere(problem, self.delta), torch.ones_like(problem.example, dtype=torch.bool))


class _Progress(NamedTuple):
    """How far all examples are at one perturbation for each budget; (budgets,) each but the gradient."""

    reached: Tensor
    objective: Tensor
    gradient: Tensor
    """(budgets, sites, perturbed, d_model), of the rows that have not reached the goal."""


class _Search:
    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems, first = problems, problems[0]
        _, levels, restarts = first.grid
        self.budget = first.budget[: levels * restarts : restarts]
        self.delta = first.zeros()[: levels * restarts : restarts]
        self.velocity = torch.zeros_like(self.delta)
        self.best_delta = self.delta.clone()
        self.best_reached = torch.full_like(self.budget, -1.0)
        self.best_objective = torch.full_like(self.budget, -torch.inf)

    def ascend(self, length: float, momentum: float) -> None:
        """One step of ``length`` budgets, back into the feasible set."""
        now = self._look()
        self._remember(now)
        self.velocity = momentum * self.velocity + (1 - momentum) * _unit(now.gradient)
        move = _unit(self.velocity) * (length * self.budget)[:, None, None, None]
        self.delta = self.problems[0].constraint.step(self.delta, move, self.budget)

    def close(self) -> None:
        """Judge the last iterate; a larger budget takes a smaller one's perturbation where that did better."""
        self._remember(self._look())
        for level in range(1, len(self.budget)):
            if self._key(level - 1) > self._key(level):
                for best in (self.best_delta, self.best_reached, self.best_objective):
                    best[level] = best[level - 1]

    def _key(self, level: int) -> tuple[float, float]:
        return float(self.best_reached[level]), float(self.best_objective[level])

    def _remember(self, now: _Progress) -> None:
        further = (now.reached == self.best_reached) & (now.objective > self.best_objective)
        better = (now.reached > self.best_reached) | further
        self.best_delta[better] = self.delta[better]
        self.best_reached[better] = now.reached[better]
        self.best_objective[better] = now.objective[better]

    def _look(self) -> _Progress:
        reached, objective = torch.zeros_like(self.budget), torch.zeros_like(self.budget)
        gradient = torch.zeros_like(self.delta)
        for problem in self.problems:
            state, slope = problem.slope(_everywhere(problem, self.delta))
            reached += _per_budget(problem, state.reached.float())
            objective += _per_budget(problem, state.objective)
            gradient += _per_budget(problem, slope * ~state.reached[:, None, None, None])
        return _Progress(reached, objective, gradient)


def _everywhere(problem: Problem, delta: Tensor) -> Tensor:
    """One perturbation for each budget (budgets, ...) given to every row."""
    examples, _, restarts = problem.grid
    return delta.repeat_interleave(restarts, 0).repeat(examples, 1, 1, 1)


def _per_budget(problem: Problem, values: Tensor) -> Tensor:
    """Sum over examples and restarts: (rows, ...) -> (budgets, ...)."""
    return values.view(*problem.grid, *values.shape[1:]).sum((0, 2))


def _unit(x: Tensor) -> Tensor:
    """Every budget's part scaled to norm 1; zero stays zero."""
    return x / x.flatten(1).norm(dim=1).clamp(min=1e-30)[:, None, None, None]
