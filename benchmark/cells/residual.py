"""A cell of perturbations of the stream: search all budgets at once, pick among restarts, measure again.

The harness disposes: it brings what an attack proposes back into the constraint and the budget, and judges it on a
clean pass.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmark.cells.aim import Aim, aim
from benchmark.cells.group import Group
from benchmark.cells.remeasure import Row, drift_floor, flags, remeasure
from benchmark.cells.replay import replay_columns
from benchmark.cells.shown import Shown
from benchmark.contracts import Attack, ThreatModel
from benchmark.model.pack import Pack
from benchmark.model.passes import FullPass, Pass, TailPass
from benchmark.paper.leaky import as_published
from benchmark.search.cross_layer import CrossLayer, watch
from benchmark.search.minimal_norm import minimal_norm
from benchmark.search.pack_size import PackSize
from benchmark.search.problem import Problem

HALVINGS = 7
"""Of the search for the smallest rescaling: it is known to 1 % then."""


def attack_residual(
    group: Group, attack: Attack, budgets: Sequence[float], seed: int, pack: Pack, pack_size: PackSize
) -> tuple[list[list[Row]], Tensor]:
    """Rows by example and budget, and the perturbations (examples, budgets, sites, perturbed, d_model)."""
    started, levels = time.perf_counter(), len(budgets)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    target = aim(group, attack, pack)
    problem = make_problem(group, attack, budgets, seed, target, pack_size)
    attempt = attack.run(problem)
    delta = problem.restore(attempt.delta.detach().float().nan_to_num())
    state = problem.evaluate(delta)
    best = _champions(problem, state.objective, state.reached)
    smallest = _smallest(problem, attack, delta, best)
    problem.settle()
    rows = remeasure(group, target, delta[best], levels, pack_size)
    seconds = (time.perf_counter() - started) / len(rows)
    for i, (row, champion) in enumerate(zip(rows, best.tolist(), strict=True)):
        row |= _cost(problem, i, seconds) | {"budget_abs": budgets[i % levels] * target.unit, "status": "ok"}
        if row["recovered"]:
            row["min_eps"] = smallest[i] / target.unit if smallest[i] is not None else None  # pyright: ignore
        converged = bool(attempt.converged[champion])
        doubts = {"zero-gradient": bool(problem.blind[champion]), "not-converged": not converged}
        row["flags"] = flags(row, bool(state.reached[champion]), doubts)
    embeds = attack.threat_model == ThreatModel.SOFT_SUFFIX  # what it writes is no part of a stream that an SAE knows
    if group.attribution and not attack.is_control and not embeds:
        replay_columns(group, target, delta[best], rows, levels)
    by_example = [rows[i : i + levels] for i in range(0, len(rows), levels)]
    return by_example, delta[best].view(len(pack), levels, *delta.shape[1:]).cpu()


def make_problem(
    group: Group, attack: Attack, budgets: Sequence[float], seed: int, target: Aim, pack_size: PackSize
) -> Problem:
    """The search over a pack at every budget."""
    kind = TailPass if group.restart else FullPass
    run: Pass = kind(group.subject, target.pack, group.edits, target.writes)
    problem = Problem(
        run,
        group.task,
        target.batch,
        budgets=torch.tensor(budgets, dtype=torch.float64) * target.unit,
        restarts=attack.restarts,
        shape=(len(target.writes.boundaries), target.writes.width, group.subject.d_model),
        constraint=target.constraint,
        keys=[f"{seed}|{attack.title}|{e.id}" for e in target.pack.examples],
        pack_size=pack_size,
    )
    problem.shown = lambda: Shown(group, target)
    if target.tolerance is not None:  # a set that bends with the model, known only where the search is
        sets = group.protected_from(min(target.writes.boundaries))
        look = watch(run, sets, problem.example)
        floor = drift_floor(group)
        problem.constraint = CrossLayer(look, problem.zeros(), tau=target.tolerance, floor=floor, split=pack_size.split)
    problem.constraint = as_published(problem.constraint, group.protocol)
    return problem


def _champions(problem: Problem, objective: Tensor, reached: Tensor) -> Tensor:
    """Index of the best restart of every (example, budget): one that reached the goal, then the best objective."""
    examples, levels, restarts = problem.grid
    score = torch.where(reached, torch.finfo(objective.dtype).max, objective).view(-1, restarts)
    return score.argmax(1) + restarts * torch.arange(examples * levels, device=score.device)


def _smallest(problem: Problem, attack: Attack, delta: Tensor, best: Tensor) -> list[float | None]:
    """L2 norm of the smallest rescaling of each champion that reaches the goal, as the search sees it."""
    if attack.is_control:
        return [None] * len(best)

    def reaches(scaled: Tensor, rows: Tensor) -> Tensor:
        index = best[rows]
        return problem.evaluate(scaled, index).reached & problem.constraint.feasible(scaled, index)

    found = minimal_norm(delta[best], reaches, HALVINGS)
    norms = found.delta.flatten(1).norm(dim=1).tolist()
    return [norm if hit else None for norm, hit in zip(norms, found.reached.tolist(), strict=True)]


def _cost(problem: Problem, row: int, seconds: float) -> Row:
    """What a row cost over all its restarts, with one more forward for the clean re-measurement."""
    restarts = problem.grid[2]
    own = slice(row * restarts, (row + 1) * restarts)
    backwards = int(problem.backwards[own].sum())
    return {
        "steps": int(problem.slopes[own].sum()),
        "forwards": int(problem.forwards[own].sum()) + 1,
        "backwards": backwards,
        "seconds": seconds,
        "peak_memory_mb": torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None,
    }
