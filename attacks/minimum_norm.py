"""The search of every gradient attack here: the smallest perturbation that is enough, of all examples at once.

Projected gradient steps, sign-free and with momentum, whose own norm is adapted: it falls after a success and rises
after a failure, in steps that become finer (arXiv 1811.09600, 2102.12827). It begins with the linear step, margin over
the gradient's norm, which is the optimum where the readout is linear. Where an edit jumps (a clamped latent goes out),
what is enough may lie far before that: the first direction is tried at every budget, and restarts begin at the
smallest one. One search an example and restart serves all budgets: what is found fits every budget that is not smaller,
so the budgets are a reading of its norm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attacks.ranges import Momentum, Number, Rate, Share
from benchmark.contracts.attack import Attempt
from benchmark.search.champions import ROUNDING
from benchmark.search.oracle import State
from benchmark.search.problem import Problem

FINEST = 0.01
"""Least share by which the norm falls or rises."""
GROWTH = 1.5
"""Times the norm at most, from one step to the next."""
AHEAD = 1.05
"""Times the linear step that is tried: exactly that one ends on the boundary, where rounding decides."""


@dataclass(frozen=True)
class MinimumNorm:
    """Settings of the search."""

    steps: Number = 30
    """Of every restart, at most; one stops once it reached the goal within the smallest budget."""
    rate: Rate = 0.5
    """Length of a step as a share of the norm that is tried, at first; falls to 0 as a cosine."""
    momentum: Momentum = 0.7
    """Share of the last direction in the next one."""
    adaptation: Share = 0.3
    """Share by which the norm falls after a success and rises after a failure, at first; becomes finer as a cosine."""

    def longer(self, times: int) -> MinimumNorm:
        """The same with so many times the steps."""
        return replace(self, steps=self.steps * times)

    def run(self, problem: Problem) -> Attempt:
        """Look for the smallest perturbation of each example that reaches the goal, within the largest budget."""
        search = _Search(problem)
        for step in range(self.steps):
            fall = 0.5 * (1 + math.cos(math.pi * step / self.steps))
            search.advance(self.rate * fall, self.momentum, FINEST + self.adaptation * fall)
            if step == 0:
                search.look_ahead()
            if step == int(0.9 * self.steps) - 1:
                search.mark()
        search.close()
        return Attempt(search.proposal(), search.converged())


class _Search:
    """One lane for every example and restart: where it is, the norm that it tries, and the best that it has seen.

    A pass is billed to the row whose budget is the smallest that allows the norm tried.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        examples, levels, restarts = problem.grid
        self.rows = torch.arange(problem.rows, device=problem.budget.device).view(examples, levels, restarts)
        self.rows = self.rows.transpose(1, 2).flatten(0, 1)
        """(lanes, levels): the rows of the problem that belong to each lane, by ascending budget."""
        self.budgets = problem.budget[self.rows]
        self.at = _starts(problem, self.rows[:, 0])
        self.velocity = torch.zeros_like(self.at)
        self.first = problem.restart[self.rows[:, 0]] == 0
        """(lanes,) the lane of the first restart."""
        self.norm = self.budgets[:, 0].masked_fill(self.first, 0.0)
        """(lanes,) the norm that is tried; 0: not known yet."""
        self.best = torch.full_like(self.norm, torch.inf)
        """(lanes,) the smallest norm that reached the goal."""
        self.found = self.at.clone()
        """What reached it ..."""
        self.beyond = torch.zeros_like(self.norm)
        """... and its objective."""
        self.furthest = self.at[:, None].repeat(1, levels, 1, 1, 1)
        """(lanes, levels, ...): what came furthest within each budget, beyond the goal where that was reached ..."""
        self.objective = torch.full_like(self.budgets, -torch.inf)
        """... and its objective."""
        self._late: tuple[Tensor, Tensor] | None = None
        self._last = self.objective

    def advance(self, rate: float, momentum: float, adaptation: float) -> None:
        """One step along the averaged direction, to the norm that the last one asks for."""
        lanes = self._open()
        if not len(lanes):
            return
        problem, rows = self.problem, self._rows(lanes)
        at = self.at[lanes]
        state, gradient = problem.slope(at, rows)
        hit = self._look(lanes, rows, state, at)
        going = self._short(lanes)
        if not going.any():
            return
        lanes, rows, at, hit = lanes[going], rows[going], at[going], hit[going]
        way = problem.constraint.tangent(gradient[going], at, rows)
        missing = (AHEAD * (-state.objective[going]).clamp(min=0) / _norm(way)).nan_to_num()
        self._adapt(lanes, hit, _norm(at) + missing, adaptation)
        self.velocity[lanes] = momentum * self.velocity[lanes] + (1 - momentum) * _unit(way)
        # what was tangent at earlier iterates need not be here
        way = _unit(problem.constraint.tangent(self.velocity[lanes], at, rows))
        norm = self.norm[lanes]
        length = torch.maximum(rate * norm, norm - _norm(at))
        self.at[lanes] = problem.constraint.step(at, way * _column(length), norm, rows)

    def look_ahead(self) -> None:
        """Judge the direction that the first restart begins with, at every budget."""
        lanes = (self.first & self._short(slice(None))).nonzero()[:, 0]
        if len(lanes):
            self._look_along(self.at[lanes], lanes)

    def mark(self) -> None:
        """Remember how far the search is."""
        self._late = (self.best.clone(), self.objective.clone())

    def close(self) -> None:
        """Judge the last iterates; then, at every budget, the best scaled to it."""
        lanes = self._open()
        if len(lanes):
            rows = self._rows(lanes)
            self._look(lanes, rows, self.problem.evaluate(self.at[lanes], rows), self.at[lanes])
        self._last = self.objective.clone()
        best = torch.where(_column(self.best.isfinite()), self.found, self.furthest[:, -1])
        self._look_along(best, torch.arange(len(best), device=best.device))

    def proposal(self) -> Tensor:
        """Of every row, over all restarts, what came furthest within its budget; and in the first restart, at the
        smallest budget that is enough, the smallest that reached the goal. What reaches it by little may miss the
        verdict on free text: then the other restarts count."""
        examples, levels, restarts = self.problem.grid
        every = torch.arange(examples, device=self.best.device)
        best = self.best.view(examples, restarts)
        smallest = best.amin(1)
        as_small = best <= smallest[:, None] * ROUNDING
        lane = torch.where(as_small, self.beyond.view(examples, restarts), -torch.inf).argmax(1)
        found = self.found.view(examples, restarts, *self.found.shape[1:])[every, lane]
        furthest = self.furthest.view(examples, restarts, levels, *self.found.shape[1:])
        strongest = self.objective.view(examples, restarts, levels).argmax(1)
        far = furthest[every[:, None], strongest, torch.arange(levels, device=every.device)]
        proposal = far[:, :, None].repeat(1, 1, restarts, 1, 1, 1)
        example, level = (smallest[:, None] <= self.budgets[::restarts] * ROUNDING).nonzero().T
        first = torch.ones_like(example, dtype=torch.bool)
        first[1:] = example[1:] != example[:-1]
        proposal[example[first], level[first], 0] = found[example[first]]
        return proposal.flatten(0, 2)

    def converged(self) -> Tensor:
        """(rows,): reached, or as many steps again, at the pace of the last tenth of them, would not take the norm, or
        where nothing was found the objective, to where it is."""
        examples, levels, restarts = self.problem.grid
        near = torch.zeros_like(self.budgets, dtype=torch.bool)
        if self._late is not None:
            best, objective = self._late
            norm = self.best * (self.best / best).nan_to_num() ** 10
            gain = (self._last - objective).nan_to_num()
            risen = (gain > 1e-6) & (self._last + 10 * gain > 0)
            near = torch.where(self.best.isfinite()[:, None], norm[:, None] <= self.budgets, risen)
        reached = self.best[:, None] <= self.budgets * ROUNDING
        settled = (reached | ~near).view(examples, restarts, levels).all(1)
        return settled[:, :, None].expand(-1, -1, restarts).flatten()

    def _open(self) -> Tensor:
        return self._short(slice(None)).nonzero()[:, 0]

    def _short(self, lanes: Tensor | slice) -> Tensor:
        """Whether nothing that was found is within the smallest budget."""
        return self.best[lanes] > self.budgets[lanes, 0] * ROUNDING

    def _rows(self, lanes: Tensor) -> Tensor:
        """The row that is billed for what a lane tries now."""
        level = (self.budgets[lanes] * ROUNDING < self.norm[lanes, None]).sum(1)
        return self.rows[lanes, level.clamp(max=self.rows.shape[1] - 1)]

    def _adapt(self, lanes: Tensor, hit: Tensor, linear: Tensor, share: float) -> None:
        """The norm that is tried next; ``linear``: what the slope says is enough."""
        norm, best, budgets = self.norm[lanes], self.best[lanes], self.budgets[lanes]
        grown = norm * (1 + share)
        # before anything reached the goal the slope is followed
        searching = torch.where(norm > 0, torch.maximum(grown, linear.minimum(GROWTH * norm)), linear)
        missed = torch.where(best.isfinite(), grown.minimum(best), searching)
        reached = norm.minimum(_norm(self.at[lanes])) * (1 - share)
        self.norm[lanes] = torch.where(hit, reached, missed).clamp(min=budgets[:, 0], max=budgets[:, -1])

    def _look_along(self, way: Tensor, lanes: Tensor) -> None:
        """Judge a direction of every lane, scaled to each of its budgets."""
        for level in range(self.budgets.shape[1]):
            rows = self.rows[lanes, level]
            at = self.problem.restore(_unit(way) * _column(self.budgets[lanes, level]), rows)
            self._look(lanes, rows, self.problem.evaluate(at, rows), at)

    def _look(self, lanes: Tensor, rows: Tensor, state: State, at: Tensor) -> Tensor:
        """Remember what is better than before, and only what the constraint allows; (lanes,): the goal is reached."""
        feasible, norm = self.problem.constraint.feasible(at, rows), _norm(at)
        hit = state.reached & feasible
        best = self.best[lanes]
        smaller = hit & (norm * ROUNDING < best)
        beyond = hit & (norm <= best * ROUNDING) & (state.objective > self.beyond[lanes])
        for held, new in ((self.best, norm), (self.found, at), (self.beyond, state.objective)):
            held[lanes[smaller | beyond]] = new[smaller | beyond]
        fits = norm[:, None] <= self.budgets[lanes] * ROUNDING
        further = feasible[:, None] & fits & (state.objective[:, None] > self.objective[lanes])
        line, level = further.nonzero().T
        self.objective[lanes[line], level] = state.objective[line]
        self.furthest[lanes[line], level] = at[line]
        return hit


def _starts(problem: Problem, rows: Tensor) -> Tensor:
    """Zero for the first restart, random points of half the norm of ``rows`` for the others."""
    zeros = problem.zeros()[rows]
    if problem.grid[2] == 1:
        return zeros
    noise = problem.constraint.project(problem.noise()[rows], rows)
    start = _unit(noise) * _column(0.5 * problem.budget[rows])
    start = torch.where(_column(problem.restart[rows] > 0), start, zeros)
    return problem.constraint.restore(start, problem.budget[rows], rows)


def _norm(x: Tensor) -> Tensor:
    """(rows,) L2 norm of every row, above 0."""
    return x.flatten(1).norm(dim=1).clamp(min=1e-30)


def _unit(x: Tensor) -> Tensor:
    """Every row scaled to norm 1; a zero row stays zero."""
    return x / _column(_norm(x))


def _column(x: Tensor) -> Tensor:
    """One number a row, for a perturbation of every row."""
    return x[:, None, None, None]
