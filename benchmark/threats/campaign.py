"""One attack on one defense: searched on packs together, then of every pack measured on the clean pass, heard about by
others where it failed, and rescaled to what is just enough.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from benchmark.contracts.attack import Attack, Attempt, Terms
from benchmark.contracts.example import Goal
from benchmark.contracts.row import Cost, Slopes
from benchmark.contracts.threat import Unit
from benchmark.measure.aim import Aim
from benchmark.measure.attribution import replay_parts
from benchmark.measure.group import Group
from benchmark.measure.outcome import Attacked, Found, flags, margins
from benchmark.measure.remeasure import Measured, remeasure
from benchmark.measure.replay import found_under
from benchmark.measure.slopes import Sample, doubts, look_again, sample
from benchmark.model.pack import Pack, part_of
from benchmark.search.batch import attempts
from benchmark.search.champions import by_rank
from benchmark.search.minimal_norm import minimal_norm
from benchmark.search.oracle import State
from benchmark.search.pack_size import PackSize
from benchmark.search.problem import Problem
from benchmark.threats.problems import make_problem
from benchmark.threats.second_opinions import Case, second_opinions

HALVINGS = 7
"""Of the search for the smallest rescaling: it is known to 1 % then."""


class Access(Protocol):
    """What a threat model of free vectors says of itself."""

    unit: ClassVar[Unit]
    reaches_less_than: ClassVar[str | None]

    def aim(self, group: Group, constraint: str, goal: Goal, pack: Pack) -> Aim: ...
    def problem(
        self, group: Group, terms: Terms, budgets: Sequence[float], pack: Pack, pack_size: PackSize
    ) -> Problem: ...


class Campaign(NamedTuple):
    """An attack under a threat model on a defense, at all its budgets."""

    threat: Access
    group: Group
    attack: Attack
    terms: Terms
    budgets: Sequence[float]
    pack_size: PackSize
    doubted: bool
    """Whether its gradients are looked at again, and others heard where it fails."""

    def on(self, packs: Sequence[Pack]) -> list[Found]:
        """What becomes of every pack."""
        started = time.perf_counter()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        begun = [self._begun(pack) for pack in packs]
        made = attempts(self.attack, [one.problem for one in begun], together=self.group.together)
        seconds = (time.perf_counter() - started) / (len(self.budgets) * sum(map(len, packs)))
        return [self._finished(one, attempt, seconds) for one, attempt in zip(begun, made, strict=True)]

    def _aim(self, pack: Pack) -> Aim:
        return self.threat.aim(self.group, self.attack.constraint, self.attack.goal, pack)

    def _begun(self, pack: Pack) -> _Begun:
        target = self._aim(pack)
        problem = make_problem(self.group, target, self.terms, self.budgets, self.pack_size)
        sampled = sample(problem, [f"{self.terms.key}|{e.id}" for e in pack.examples]) if self.doubted else None
        problem.witness = sampled.path if sampled else None
        return _Begun(target, problem, sampled)

    def _finished(self, begun: _Begun, attempt: Attempt, seconds: float) -> Found:
        """What a search came to, measured on the clean pass; ``seconds``: of the search, a row."""
        started, levels, group = time.perf_counter(), len(self.budgets), self.group
        target, problem, sampled = begun
        delta = problem.restore(attempt.proposal.detach().float().nan_to_num())
        state = problem.evaluate(delta)
        order = by_rank(problem, state, delta)
        rows = remeasure(group, target, delta[order[:, 0]], levels, self.pack_size)
        best = self._agreed(target, delta, state, order, rows)
        chosen, found_by, slopes = delta[best], None, dict[int, Slopes]()
        if sampled:
            slopes = look_again(group, target, problem, sampled.path)
            chosen, rows, found_by = second_opinions(self._case(begun, slopes, chosen), best, chosen, rows)
            slopes = {row: slopes[example] for example, row in sampled.rows.items() if example in slopes}
        smallest = [None] * len(best) if self.attack.is_control else _smallest(problem, chosen, best, rows)
        problem.settle()
        seconds += (time.perf_counter() - started) / len(rows)
        searched = _Searched(group, target, problem, attempt, state, seconds)
        found = [
            searched.row(i, int(best[i]), self.budgets[i % levels] * target.unit, row, smallest[i])
            for i, row in enumerate(rows)
        ]
        if found_by is not None:
            found = [_witnessed(row, i, problem, slopes, found_by[i]) for i, row in enumerate(found)]
        if group.attribution and not self.attack.is_control and self.threat.unit == "residual":
            found = _with_parts(group, target, chosen, found, levels)
        by_example = [found[i : i + levels] for i in range(0, len(found), levels)]
        return Found(by_example, chosen.view(len(by_example), levels, *delta.shape[1:]).cpu())

    def _case(self, begun: _Begun, slopes: Mapping[int, Slopes], chosen: Tensor) -> Case:
        return Case(
            self.group,
            begun.target,
            begun.problem,
            self.attack,
            self.pack_size,
            slopes,
            found_under(self.group, self.threat.reaches_less_than, chosen.shape[1:]),
            self.terms.key,
            self._aim,
            lambda other, part: self.threat.problem(other, self.terms, self.budgets, part, self.pack_size),
        )

    def _agreed(self, target: Aim, delta: Tensor, state: State, order: Tensor, rows: list[Measured]) -> Tensor:
        """The row of every (example, budget) that counts: where the clean pass denies the first, the next restart that
        reached the goal and is confirmed; writes into ``rows`` what was measured."""
        best, levels = order[:, 0].clone(), len(self.budgets)
        for other in order.T[1:]:
            new = state.reached[other] & (delta[other] != delta[order[:, 0]]).flatten(1).any(1)
            lines = [i for i in new.nonzero()[:, 0].tolist() if not rows[i].recovered]
            if not lines:
                continue
            part = self._aim(part_of(target.plain, torch.tensor(lines) // levels))
            again = remeasure(self.group, part, delta[other[lines]], 1, self.pack_size)
            for i, row in zip(lines, again, strict=True):
                if row.recovered:
                    best[i], rows[i] = other[i], row
        return best


class _Begun(NamedTuple):
    """A search that is about to be."""

    target: Aim
    problem: Problem
    sampled: Sample | None


def _smallest(problem: Problem, delta: Tensor, best: Tensor, rows: Sequence[Measured]) -> list[float | None]:
    """Of every example, at the smallest budget that was enough, the L2 norm of the smallest rescaling of ``delta`` that
    reaches the goal, as seen in the row ``best``; null elsewhere."""
    levels, found = problem.grid[1], list[float | None]([None]) * len(rows)
    reached = problem.evaluate(delta, best).reached.tolist()  # which is more than to recover, by a search's slack
    enough = [row.recovered and hit for row, hit in zip(rows, reached, strict=True)]
    lines = [i for e in range(0, len(rows), levels) for i in range(e, e + levels) if enough[i] and not any(enough[e:i])]

    def reaches(scaled: Tensor, which: Tensor) -> Tensor:
        index = own[which]
        return problem.evaluate(scaled, index).reached & problem.constraint.feasible(scaled, index)

    if lines:
        own = best[lines]
        smallest = minimal_norm(delta[lines], reaches, HALVINGS)
        norms = smallest.delta.flatten(1).norm(dim=1).tolist()
        for i, norm, hit in zip(lines, norms, smallest.reached.tolist(), strict=True):
            found[i] = norm if hit else None
    return found


def _witnessed(row: Attacked, i: int, problem: Problem, slopes: Mapping[int, Slopes], found_by: str) -> Attacked:
    """The row of an (example, budget) with what became of its gradients, and who found it."""
    restarts = problem.grid[2]
    own = next((slopes[r] for r in range(i * restarts, (i + 1) * restarts) if r in slopes), None)
    return row._replace(slopes=own, flags=(*row.flags, *doubts(own)), found_by=found_by)


class _Searched(NamedTuple):
    """A search that is over."""

    group: Group
    target: Aim
    problem: Problem
    attempt: Attempt
    state: State
    seconds: float
    """A row."""

    def row(self, row: int, champion: int, budget: float, measured: Measured, smallest: float | None) -> Attacked:
        """What became of an (example, budget), whose best restart is the problem's row ``champion``."""
        example, restarts = self.target.plain.examples[int(self.problem.example[champion])], self.problem.grid[2]
        blind, settled = bool(self.problem.blind[champion]), bool(self.attempt.converged[champion])
        doubts = {"zero-gradient": blind, "not-converged": not settled}
        shown = margins(self.group, self.group.place[example.id], measured.margin, self.target.criteria.goal)
        return Attacked(
            measured,
            budget,
            _cost(self.problem, slice(row * restarts, (row + 1) * restarts), self.seconds),
            flags(measured, shown, budget, bool(self.state.reached[champion]), doubts),
            min_eps=None if smallest is None else smallest / self.target.unit,
        )


def _cost(problem: Problem, own: slice, seconds: float) -> Cost:
    """What a row cost over all its restarts, with one more forward for the clean re-measurement."""
    peak = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
    return Cost(
        steps=int(problem.slopes[own].sum()),
        forwards=int(problem.forwards[own].sum()) + 1,
        backwards=int(problem.backwards[own].sum()),
        seconds=seconds,
        peak_memory_mb=peak,
    )


def _with_parts(group: Group, target: Aim, delta: Tensor, rows: list[Attacked], levels: int) -> list[Attacked]:
    """The rows, with the parts of each example's first recovery replayed."""
    hits = [
        next((i for i in range(s, s + levels) if rows[i].measured.recovered), None) for s in range(0, len(rows), levels)
    ]
    first = [i for i in hits if i is not None]
    if not first:
        return rows
    index = torch.tensor(first)
    parts = dict(zip(first, replay_parts(group, target, delta[index], index // levels), strict=True))
    return [row._replace(attribution=parts.get(i)) for i, row in enumerate(rows)]
