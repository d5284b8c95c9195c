"""One cell: attack every suppressed example of a task under a defense at every budget, re-measure, and make rows.

The attack proposes; the harness disposes. It builds the problem, clips what comes back, picks among restarts, measures
again on a clean pass, and meters what it cost.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmark.aim import Aim, aim, cannot
from benchmark.contracts import Attack
from benchmark.group import Group
from benchmark.pack import Pack, halves
from benchmark.packs import make_packs
from benchmark.passes import FullPass, Pass, TailPass
from benchmark.problem import PackSize, Problem
from benchmark.remeasure import Row, flags, remeasure


def run_cell(
    group: Group, attack: Attack, budgets: Sequence[float], seed: int, pack_size: PackSize
) -> tuple[list[Row], dict[str, Tensor]]:
    """Rows of every example at every budget (eps), and the perturbations of the attacked ones.

    Returns:
        Rows without the columns that name the cell, and example id -> (budgets, sites, perturbed, d_model).
    """
    rows = {e.id: _idle_rows(group, i, budgets) for i, e in enumerate(group.examples)}
    deltas: dict[str, Tensor] = {}
    attacked = [e for e, hit in zip(group.examples, group.suppressed.tolist(), strict=True) if hit]
    size = max(1, 4 * pack_size.rows // (len(budgets) * attack.restarts))
    if why := cannot(group, attack):
        for example in attacked:
            rows[example.id] = [{**row, "outcome": None, "error": why} for row in rows[example.id]]
        attacked = []
    for pack in make_packs(group.subject, group.task, attacked, size, attack.goal):
        found, delta = _attack_pack(group, attack, budgets, seed, pack, pack_size)
        for i, example in enumerate(pack.examples):
            known = rows[example.id]
            rows[example.id] = [{**a, **b} for a, b in zip(known, found[i], strict=True)]
            deltas[example.id] = delta[i]
    ordered = sorted(rows, key=group.place.__getitem__)
    return [row for example_id in ordered for row in rows[example_id]], deltas


def _idle_rows(group: Group, i: int, budgets: Sequence[float]) -> list[Row]:
    """Rows of an example before, or without, an attack."""
    eligible, suppressed = bool(group.eligible[i]), bool(group.suppressed[i])
    base, defended = float(group.base.margin[i]), float(group.defended.margin[i])
    row: Row = {
        "example_id": group.examples[i].id,
        "cluster_id": group.examples[i].cluster,
        "eligible": eligible,
        "suppressed": suppressed,
        "recovered": False if suppressed else None,
        "outcome": ("held" if suppressed else "never_suppressed") if eligible else None,
        "label_base": group.base.labels[i],
        "label_defended": group.defended.labels[i],
        "margin_base": base,
        "margin_defended": defended,
        "flags": [],
        "status": "not_run",
    }
    return [{**row, "budget_eps": float(eps)} for eps in budgets]


def _attack_pack(
    group: Group, attack: Attack, budgets: Sequence[float], seed: int, pack: Pack, pack_size: PackSize
) -> tuple[list[list[Row]], Tensor]:
    """Rows and perturbations by example; a pack whose caches do not fit into memory is taken in halves."""
    try:
        return _attack(group, attack, budgets, seed, pack, pack_size)
    except torch.OutOfMemoryError:
        if len(pack) == 1:
            raise
    parts = [_attack_pack(group, attack, budgets, seed, half, pack_size) for half in halves(pack)]
    return [row for rows, _ in parts for row in rows], torch.cat([delta for _, delta in parts])


def _attack(
    group: Group, attack: Attack, budgets: Sequence[float], seed: int, pack: Pack, pack_size: PackSize
) -> tuple[list[list[Row]], Tensor]:
    started, levels = time.perf_counter(), len(budgets)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    target = aim(group, attack, pack)
    problem = _problem(group, attack, budgets, seed, target, pack_size)
    attempt = attack.run(problem)
    delta = problem.project(attempt.delta.detach().float().nan_to_num())
    state = problem.evaluate(delta)
    best = _champions(problem, state.objective, state.reached)
    rows = remeasure(group, target, delta[best], levels, pack_size)
    seconds = (time.perf_counter() - started) / len(rows)
    for i, (row, champion) in enumerate(zip(rows, best.tolist(), strict=True)):
        row |= _cost(problem, i, seconds) | {"budget_abs": budgets[i % levels] * target.unit, "status": "ok"}
        converged = bool(attempt.converged[champion])
        doubts = {"zero-gradient": bool(problem.blind[champion]), "not-converged": not converged}
        row["flags"] = flags(row, bool(state.reached[champion]), doubts)
    by_example = [rows[i : i + levels] for i in range(0, len(rows), levels)]
    return by_example, delta[best].view(len(pack), levels, *delta.shape[1:]).cpu()


def _cost(problem: Problem, row: int, seconds: float) -> Row:
    """What a row cost over all its restarts, with one more forward for the clean re-measurement."""
    restarts = problem.grid[2]
    own = slice(row * restarts, (row + 1) * restarts)
    backwards = int(problem.backwards[own].sum())
    return {
        "steps": backwards,
        "forwards": int(problem.forwards[own].sum()) + 1,
        "backwards": backwards,
        "seconds": seconds,
        "peak_memory_mb": torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None,
    }


def _problem(
    group: Group, attack: Attack, budgets: Sequence[float], seed: int, target: Aim, pack_size: PackSize
) -> Problem:
    kind = TailPass if group.restart else FullPass
    run: Pass = kind(group.subject, target.pack, group.edits, target.writes)
    return Problem(
        run,
        group.task,
        target.batch,
        budgets=torch.tensor(budgets, dtype=torch.float64) * target.unit,
        restarts=attack.restarts,
        shape=(len(target.writes.boundaries), target.writes.width, group.subject.d_model),
        constraint=target.constraint,
        keys=[f"{seed}|{attack.name}|{e.id}" for e in target.pack.examples],
        pack_size=pack_size,
    )


def _champions(problem: Problem, objective: Tensor, reached: Tensor) -> Tensor:
    """Index of the best restart of every (example, budget): one that reached the goal, then the best objective."""
    examples, levels, restarts = problem.grid
    score = torch.where(reached, torch.finfo(objective.dtype).max, objective).view(-1, restarts)
    return score.argmax(1) + restarts * torch.arange(examples * levels, device=score.device)
