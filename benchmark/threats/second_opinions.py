"""Whoever is asked where a search of the stream failed, in this order: the search without the edits' own backward where
its gradients turned out false, what other threat models found, and members that need no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.contracts.attack import Attack
from benchmark.contracts.row import Slopes
from benchmark.measure.aim import Aim
from benchmark.measure.error_subspace import error_subspace
from benchmark.measure.group import Group
from benchmark.measure.remeasure import Measured, remeasure
from benchmark.measure.replay import replay
from benchmark.measure.slopes import mistrusted
from benchmark.measure.way_back import way_back
from benchmark.model.pack import Pack, part_of
from benchmark.search.ballot import SEARCH, Ballot
from benchmark.search.champions import champions
from benchmark.search.pack_size import PackSize
from benchmark.search.problem import Problem
from benchmark.search.random_search import random_search
from benchmark.search.straight_through import straight_through

STRAIGHT_THROUGH = "straight-through"


class Case(NamedTuple):
    """A search that is over, and how another one would be begun."""

    group: Group
    target: Aim
    problem: Problem
    attack: Attack
    pack_size: PackSize
    slopes: Mapping[int, Slopes]
    """By example of the pack, of those that were looked at again."""
    elsewhere: Mapping[str, Tensor]
    """Example id -> perturbations (k, sites, perturbed, d_model) that other threat models found."""
    key: str
    """What random numbers are seeded from, beside the example."""
    aim: Callable[[Pack], Aim]
    reopen: Callable[[Group, Pack], Problem]


def second_opinions(
    case: Case, best: Tensor, delta: Tensor, rows: list[Measured]
) -> tuple[Tensor, list[Measured], list[str]]:
    """The perturbations, what they do and who found them, once everybody was heard; what the search recovered stays.

    Args:
        best: (lines,): the problem's row of every (example, budget).
        delta: (lines, sites, perturbed, d_model).
        rows: what ``delta`` was measured to do.
    """
    failed = torch.tensor([not row.recovered for row in rows], device=delta.device)
    ballot = Ballot(case.problem, best, delta, failed)
    if mistrusted(case.slopes):
        _without_backward(case, ballot)
    replay(case.elsewhere, case.target, ballot)
    way_back(case.group, case.target, ballot)
    if len(ballot.left):
        lines = ballot.largest()
        keys = [f"{case.key}|{case.target.plain.examples[e].id}" for e in (lines // ballot.levels).tolist()]
        start = error_subspace(case.group, case.target, ballot, lines, keys)
        random_search(ballot, lines, start, keys)
    return _measured_again(case, ballot, delta, rows, failed)


def _without_backward(case: Case, ballot: Ballot) -> None:
    """The same attack on the examples that are left, with the identity's gradient in the place of the edits'."""
    if not len(ballot.left):
        return
    blunt = replace(case.group, edits=straight_through(case.group.edits))
    problem = case.reopen(blunt, part_of(case.target.plain, ballot.left.cpu()))
    delta = problem.restore(case.attack.run(problem).proposal.detach().float().nan_to_num())
    found = delta[champions(problem, problem.evaluate(delta), delta)]
    problem.settle()
    _bill(case.problem, problem, ballot.left)
    lines = (ballot.left[:, None] * ballot.levels + torch.arange(ballot.levels, device=delta.device)).flatten()
    open_ = ballot.open[lines]
    ballot.offer(lines[open_], found[open_], STRAIGHT_THROUGH)


def _bill(problem: Problem, other: Problem, examples: Tensor) -> None:
    """Add what another search over some of the examples cost."""
    each = problem.grid[1] * problem.grid[2]
    rows = (examples[:, None] * each + torch.arange(each, device=examples.device)).flatten()
    problem.forwards[rows] += other.forwards
    problem.backwards[rows] += other.backwards
    problem.slopes[rows] += other.slopes


def _measured_again(
    case: Case, ballot: Ballot, delta: Tensor, rows: list[Measured], failed: Tensor
) -> tuple[Tensor, list[Measured], list[str]]:
    """What was taken counts where the clean pass agrees; else the search's own stays."""
    taken = (failed & ~ballot.open).nonzero()[:, 0]
    found_by = [SEARCH] * len(rows)
    if len(taken):
        target = case.aim(part_of(case.target.plain, (taken // ballot.levels).cpu()))
        again = remeasure(case.group, target, ballot.delta[taken], 1, case.pack_size)
        delta, rows = delta.clone(), list(rows)
        for line, row in zip(taken.tolist(), again, strict=True):
            if row.recovered:
                delta[line], rows[line], found_by[line] = ballot.delta[line], row, ballot.found_by[line]
    return delta, rows, found_by
