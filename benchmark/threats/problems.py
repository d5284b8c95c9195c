"""The problem that a search gets of an attack that is aimed at a pack."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmark.contracts.attack import Terms
from benchmark.measure.aim import Aim
from benchmark.measure.group import Group
from benchmark.measure.visibility import Visibility
from benchmark.search.cross_layer import CrossLayer, watch
from benchmark.search.pack_size import PackSize
from benchmark.search.problem import Problem


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
