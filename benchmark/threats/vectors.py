"""What threat models share whose attacker adds free vectors to the stream: search all budgets at once, measure again.

The harness disposes: it brings what an attack proposes back into the constraint and the budget, and judges it on a
clean pass.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.contracts.attack import Attack, Attempt, Terms
from benchmark.contracts.example import Goal
from benchmark.contracts.row import Cost, Slopes
from benchmark.contracts.threat import Threat
from benchmark.measure.aim import Aim
from benchmark.measure.attribution import replay_parts
from benchmark.measure.group import Group
from benchmark.measure.outcome import Attacked, Found, flags, margins
from benchmark.measure.remeasure import Measured, remeasure
from benchmark.measure.replay import found_under
from benchmark.measure.slopes import Sample, doubts, look_again, sample
from benchmark.measure.visibility import Visibility
from benchmark.model.pack import Pack, part_of
from benchmark.model.passes import Writes
from benchmark.search.batch import attempts
from benchmark.search.champions import by_rank
from benchmark.search.constraint import Constraint, EncoderNullSpace, Free
from benchmark.search.cross_layer import CrossLayer, watch
from benchmark.search.minimal_norm import minimal_norm
from benchmark.search.oracle import State
from benchmark.search.pack_size import PackSize
from benchmark.search.problem import Problem
from benchmark.threats.second_opinions import Case, second_opinions

Where = Sequence[Sequence[tuple[str, ...] | None]]
"""By example and budget, hook names of the sites written to."""
Replayed = list[list[Measured | None]]
"""By example and budget."""
TOLERANCE = 0.03
"""Largest relative drift under the constraint ``jacobian``, as in the study, where the suite's own tau is not less."""
HALVINGS = 7
"""Of the search for the smallest rescaling: it is known to 1 % then."""
GRID = tuple(round(0.02 * 2 ** (i / 3), 4) for i in range(-9, 20))
"""Candidate ceilings: 0.0025 to 1.6, a third of an octave apart."""


class VectorThreat(Threat):
    """Free vectors at some sites and positions, within one total L2 norm; subclasses say where, and in which unit."""

    @abstractmethod
    def access(self, group: Group, pack: Pack) -> tuple[Pack, Writes]: ...

    @abstractmethod
    def norm(self, group: Group, writes: Writes) -> float:
        """L2 norm of a budget of eps = 1."""

    def check(self, budgets: Sequence[float]) -> None:
        if any(not b > 0 for b in budgets) or list(budgets) != sorted(set(budgets)):
            raise ValueError(f"budgets of {self.name} must be shares above 0, ascending, without repetition")

    @property
    def ceilings(self) -> Sequence[float]:
        return GRID

    def _doubted(self, group: Group, attack: Attack) -> bool:
        """Whether the gradients of an attack are looked at again, and others heard where it fails."""
        return False

    def aim(self, group: Group, constraint: str, goal: Goal, pack: Pack) -> Aim:
        """An attack with a constraint and a goal, aimed at a pack."""
        room, writes = self.access(group, pack)
        criteria = group.criteria(pack, goal)
        tolerance = min(TOLERANCE if group.tau is None else group.tau, TOLERANCE) if constraint == "jacobian" else None
        held = _linear(group, constraint)
        return Aim(pack, room, writes, held, self.norm(group, writes), criteria, tolerance)

    def problem(self, group: Group, terms: Terms, budgets: Sequence[float], pack: Pack, pack_size: PackSize) -> Problem:
        return make_problem(group, self.aim(group, terms.constraint, terms.goal, pack), terms, budgets, pack_size)

    def attack(
        self,
        group: Group,
        attack: Attack,
        budgets: Sequence[float],
        seed: int,
        packs: Sequence[Pack],
        pack_size: PackSize,
    ) -> list[Found]:
        started = time.perf_counter()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        terms = attack.terms(seed)
        begun = [self._begun(group, attack, terms, budgets, pack, pack_size) for pack in packs]
        made = attempts(attack, [one.problem for one in begun], together=group.together)
        seconds = (time.perf_counter() - started) / (len(budgets) * sum(map(len, packs)))
        return [
            self._finished(group, attack, terms, budgets, one, attempt, pack_size, seconds)
            for one, attempt in zip(begun, made, strict=True)
        ]

    def _begun(
        self, group: Group, attack: Attack, terms: Terms, budgets: Sequence[float], pack: Pack, pack_size: PackSize
    ) -> _Begun:
        target = self.aim(group, attack.constraint, attack.goal, pack)
        problem = make_problem(group, target, terms, budgets, pack_size)
        keys = [f"{terms.key}|{e.id}" for e in pack.examples]
        sampled = sample(problem, keys) if self._doubted(group, attack) else None
        problem.witness = sampled.path if sampled else None
        return _Begun(target, problem, sampled)

    def _finished(
        self,
        group: Group,
        attack: Attack,
        terms: Terms,
        budgets: Sequence[float],
        begun: _Begun,
        attempt: Attempt,
        pack_size: PackSize,
        seconds: float,
    ) -> Found:
        """What a search came to, measured on the clean pass; ``seconds``: of the search, a row."""
        started, levels = time.perf_counter(), len(budgets)
        target, problem, sampled = begun
        pack = target.plain
        delta = problem.restore(attempt.proposal.detach().float().nan_to_num())
        state = problem.evaluate(delta)
        order = by_rank(problem, state, delta)
        rows = remeasure(group, target, delta[order[:, 0]], levels, pack_size)
        best = self._agreed(group, attack, target, delta, state, order, rows, pack_size)
        chosen, found_by, slopes = delta[best], None, dict[int, Slopes]()
        if sampled:
            slopes = look_again(group, target, problem, sampled.path)
            case = Case(
                group,
                target,
                problem,
                attack,
                pack_size,
                slopes,
                found_under(group, self.reaches_less_than, chosen.shape[1:]),
                terms.key,
                lambda part: self.aim(group, attack.constraint, attack.goal, part),
                lambda other, part: self.problem(other, terms, budgets, part, pack_size),
            )
            chosen, rows, found_by = second_opinions(case, best, chosen, rows)
            slopes = {row: slopes[example] for example, row in sampled.rows.items() if example in slopes}
        smallest = [None] * len(best) if attack.is_control else _smallest(problem, chosen, best, rows)
        problem.settle()
        seconds += (time.perf_counter() - started) / len(rows)
        searched = _Searched(group, target, problem, attempt, state, seconds)
        found = [
            searched.row(i, int(best[i]), budgets[i % levels] * target.unit, row, smallest[i])
            for i, row in enumerate(rows)
        ]
        if found_by is not None:
            found = [_witnessed(row, i, problem, slopes, found_by[i]) for i, row in enumerate(found)]
        if group.attribution and not attack.is_control and self.unit == "residual":
            found = _with_parts(group, target, chosen, found, levels)
        by_example = [found[i : i + levels] for i in range(0, len(found), levels)]
        return Found(by_example, chosen.view(len(pack), levels, *delta.shape[1:]).cpu())

    def _agreed(
        self,
        group: Group,
        attack: Attack,
        target: Aim,
        delta: Tensor,
        state: State,
        order: Tensor,
        rows: list[Measured],
        pack_size: PackSize,
    ) -> Tensor:
        """The row of every (example, budget) that counts: where the clean pass denies the first, the next restart that
        reached the goal and is confirmed; writes into ``rows`` what was measured."""
        best, levels = order[:, 0].clone(), len(order) // len(target.plain)
        for other in order.T[1:]:
            new = state.reached[other] & (delta[other] != delta[order[:, 0]]).flatten(1).any(1)
            lines = [i for i in new.nonzero()[:, 0].tolist() if not rows[i].recovered]
            if not lines:
                continue
            examples = torch.tensor(lines) // levels
            part = self.aim(group, attack.constraint, attack.goal, part_of(target.plain, examples))
            again = remeasure(group, part, delta[other[lines]], 1, pack_size)
            for i, row in zip(lines, again, strict=True):
                if row.recovered:
                    best[i], rows[i] = other[i], row
        return best

    def replay(
        self, group: Group, attack: Attack, pack: Pack, proposals: Tensor, where: Where, pack_size: PackSize
    ) -> Replayed:
        return self._replayed(group, attack, pack, proposals, pack_size)

    def _replayed(
        self, group: Group, attack: Attack, pack: Pack, proposals: Tensor, pack_size: PackSize
    ) -> list[list[Measured | None]]:
        """What perturbations (examples, budgets, sites, perturbed, d_model) do."""
        target, levels = self.aim(group, attack.constraint, attack.goal, pack), proposals.shape[1]
        delta = proposals.flatten(0, 1).to(pack.ids.device)
        rows: list[Measured | None] = [*remeasure(group, target, delta, levels, pack_size)]
        return [rows[i : i + levels] for i in range(0, len(rows), levels)]


def make_problem(group: Group, target: Aim, terms: Terms, budgets: Sequence[float], pack_size: PackSize) -> Problem:
    """The search over a pack at every budget."""
    run = group.run(target.pack, target.writes)
    problem = Problem(
        run,
        group.task,
        target.criteria,
        budgets=torch.tensor(budgets, dtype=torch.float64) * target.unit,
        restarts=terms.restarts,
        shape=(len(target.writes.boundaries), target.writes.width, group.subject.d_model),
        constraint=target.constraint,
        keys=[f"{terms.key}|{e.id}" for e in target.pack.examples],
        pack_size=pack_size,
    )
    problem.visibility = lambda: Visibility(group, target)
    if target.tolerance is not None:  # a set that bends with the model, known only where the search is
        look = watch(run, group.protected_from(min(target.writes.boundaries)), problem.example)
        problem.constraint = CrossLayer(
            look, problem.zeros(), tau=target.tolerance, floor=group.drift_floor, split=pack_size.split
        )
    problem.constraint = group.protocol.constraint(problem.constraint)
    return problem


def _linear(group: Group, constraint: str) -> Constraint:
    if constraint != "encoder":
        return Free()
    return EncoderNullSpace([group.protected_at([b]) for b in group.sites], group.subject.d_model)


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


class _Begun(NamedTuple):
    """A search that is about to be."""

    target: Aim
    problem: Problem
    sampled: Sample | None


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
