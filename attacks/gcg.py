"""GCG: greedy coordinate gradient search over the tokens of a suffix (Zou et al. 2023, arXiv 2307.15043)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attacks.random_suffix import RandomSuffix
from attacks.ranges import Number
from attacks.zero import Zero
from benchmark.contracts.attack import Attack, Attempt
from benchmark.registry import register_attack
from benchmark.search.oracle import State
from benchmark.search.token_problem import TokenProblem

ROUNDING = 1e-5
"""Relative to 1 or the objective: less than this is no gain, since packs of other sizes round differently."""


@register_attack("gcg")
@dataclass(frozen=True)
class Gcg(Attack):
    """Each step tries a batch of single-token substitutions that the gradient suggests, and takes the best of them."""

    threat_model: str = "token_suffix"
    steps: Number = 8
    """Substitutions taken, one a step."""
    top: Number = 64
    """Substitutes considered at each place, those with the largest first-order gain."""
    candidates: Number = 32
    """Substitutions tried in a step, drawn from all places; all different."""

    def harder(self, times: int) -> Attack:
        return replace(self, restarts=self.restarts * times, steps=self.steps * times)

    def run(self, problem: TokenProblem) -> Attempt:
        search = _Search(problem)
        late: Tensor | None = None
        for step in range(self.steps):
            rows = (~search.done).nonzero()[:, 0]
            if len(rows) == 0:
                break
            search.step(rows, self.top, self.candidates)
            if step == self.steps - 2:
                late = search.best.clone()
        settled = search.done if late is None else search.done | (search.best <= late)
        return Attempt(search.best_tokens, settled)

    def controls(self) -> Sequence[Attack]:
        return RandomSuffix(self.threat_model), Zero(self.threat_model)


class _Search:
    """State of all rows: where they are, the best they have seen, and which have reached the goal."""

    def __init__(self, problem: TokenProblem) -> None:
        self.problem = problem
        first = (problem.restart == 0)[:, None]
        self.tokens = torch.where(first, problem.start, problem.draw())
        self.best_tokens = self.tokens.clone()
        self.sound = problem.faithful(self.tokens)
        self.best = torch.full(self.tokens.shape[:1], -torch.inf, device=self.tokens.device)
        self.done = torch.zeros_like(self.best, dtype=torch.bool)

    def step(self, rows: Tensor, top: int, candidates: int) -> None:
        """One step of the rows ``rows``."""
        state, gradient = self.problem.slope(self.tokens[rows], rows)
        self._remember(rows, state)
        moving = ~self.done[rows]
        rows, gradient = rows[moving], gradient[moving]
        if len(rows) == 0:
            return
        tried = self._candidates(rows, self.problem.substitutes(gradient, top), candidates)
        each = tried.shape[1]
        state = self.problem.evaluate(tried.flatten(0, 1), rows.repeat_interleave(each))
        self._move(rows, tried, State(*(value.view(-1, each) for value in state)))

    def _candidates(self, rows: Tensor, substitutes: Tensor, count: int) -> Tensor:
        """Different substitutions of one token each, (rows, candidates, n), drawn from every place alike."""
        n, top = substitutes.shape[1:]
        drawn = self.problem.random(n * top, rows).argsort(1)[:, :count]
        tried = self.tokens[rows][:, None].repeat(1, drawn.shape[1], 1)
        return tried.scatter(2, (drawn // top)[..., None], substitutes.flatten(1).gather(1, drawn)[..., None])

    def _move(self, rows: Tensor, tried: Tensor, state: State) -> None:
        """Take the best candidate of each row that survives being typed; better or not, as in the paper."""
        score = torch.where(state.reached, torch.finfo(state.objective.dtype).max, state.objective)
        line = torch.arange(len(rows), device=rows.device)
        unsure = line
        while len(unsure):
            chosen = score[unsure].argmax(1)
            wrong = ~self.problem.faithful(tried[unsure, chosen], rows[unsure])
            score[unsure[wrong], chosen[wrong]] = -torch.inf
            unsure = unsure[wrong & score[unsure].isfinite().any(1)]
        best = score.argmax(1)
        sound = score[line, best].isfinite()
        rows, line, best = rows[sound], line[sound], best[sound]
        self.tokens[rows], self.sound[rows] = tried[line, best], True
        self._remember(rows, State(state.objective[line, best], state.reached[line, best]))

    def _remember(self, rows: Tensor, state: State) -> None:
        reached = state.reached & self.sound[rows]
        ahead = state.objective - self.best[rows] > ROUNDING * (1 + state.objective.abs())
        better = (ahead & self.sound[rows]) | (reached & ~self.done[rows])
        self.best_tokens[rows[better]] = self.tokens[rows[better]]
        self.best[rows[better]] = state.objective[better]
        self.done[rows] |= reached
