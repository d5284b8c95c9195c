"""One cell: attack every suppressed example of a task under a defense at every budget, re-measure, and make rows.

The attack proposes; this file disposes. It builds the problem, clips what comes back, picks among restarts, measures
on a clean pass of the live defended model from its tokens, and meters what it cost.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.constraint import Constraint, EncoderNullSpace, Free
from benchmark.contracts import Attack, Batch, Example, FittedDefense, Task, ThreatModel
from benchmark.edits import Edit
from benchmark.features import FeatureSet
from benchmark.measure import Held, behavior, drift
from benchmark.packs import Pack, make_packs
from benchmark.passes import FullPass, Pass, TailPass, Writes
from benchmark.problem import PackSize, Problem, select
from benchmark.reference import ROWS, Judged
from benchmark.subject import Subject

Row = dict[str, object]

VIOLATION = 1e-5
"""Largest relative leak into the protected directions (METHOD section 5)."""


@dataclass(frozen=True)
class Scale:
    """What a budget of eps = 1 is."""

    norms: Mapping[int, float]
    """Boundary -> median residual norm of a readout position."""
    embedding: float

    def unit(self, writes: Writes) -> float:
        """L2 norm of eps = 1: over all sites and positions together."""
        square = sum(self.norms[b] ** 2 for b in writes.boundaries)
        return (square * writes.width) ** 0.5

    def suffix_unit(self, tokens: int) -> float:
        """The same for a suffix of free embeddings."""
        return self.embedding * tokens**0.5


@dataclass(frozen=True, eq=False)
class Group:
    """What all cells of a (task, defense) share."""

    subject: Subject
    task: Task
    fitted: FittedDefense
    edits: Mapping[int, Edit]
    sites: tuple[int, ...]
    """Boundaries that a residual attacker writes to."""
    examples: Sequence[Example]
    base: Judged
    defended: Judged
    eligible: Tensor
    scale: Scale
    perturbed: int
    suffix_tokens: int
    restart: bool
    """The restarted pass equals the full one, so it may be used."""

    @cached_property
    def place(self) -> dict[str, int]:
        """Example id -> index."""
        return {e.id: i for i, e in enumerate(self.examples)}

    @cached_property
    def wrong(self) -> Tensor:
        """(examples,): index of each example's wrong target, one that the defended model does not show already."""
        tops = [int(read.argmax()) for read in self.defended.read]
        chosen = [
            next((w for w in e.wrong if w != top), e.wrong[0]) for e, top in zip(self.examples, tops, strict=True)
        ]
        return torch.tensor(chosen)

    @property
    def suppressed(self) -> Tensor:
        """(examples,) bool: eligible, and the defended model does not show the behavior."""
        return self.eligible & ~self.defended.shown


class Aim(NamedTuple):
    """Where and how a cell's attacker writes into a pack."""

    pack: Pack
    writes: Writes
    constraint: Constraint
    unit: float


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
    if why := _cannot(group, attack):
        for example in attacked:
            rows[example.id] = [{**row, "outcome": None, "error": why} for row in rows[example.id]]
        attacked = []
    for pack in make_packs(group.subject, group.task, attacked, size):
        found, delta = _attack_pack(group, attack, budgets, seed, pack, pack_size)
        for i, example in enumerate(pack.examples):
            known = rows[example.id]
            rows[example.id] = [{**a, **b} for a, b in zip(known, found[i], strict=True)]
            deltas[example.id] = delta[i]
    ordered = sorted(rows, key=group.place.__getitem__)
    return [row for example_id in ordered for row in rows[example_id]], deltas


def _cannot(group: Group, attack: Attack) -> str | None:
    """Why the attack does not apply to this defense, if it does not."""
    if attack.constraint == "encoder" and not _protected_at(group, group.sites):
        return "the defense protects no features at the attacked site: there is nothing for the constraint to hold"
    return None


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


def aim(group: Group, attack: Attack, pack: Pack) -> Aim:
    """Where the attack writes: the defended sites at the last prompt positions, or a suffix's embeddings."""
    if attack.threat_model == ThreatModel.SOFT_SUFFIX:
        tokens = group.suffix_tokens
        writes = Writes((0,), pack.suffix_at, tokens, after=False)
        return Aim(pack.with_suffix(tokens), writes, Free(), group.scale.suffix_unit(tokens))
    width = min(group.perturbed, pack.readout + 1)
    after = attack.threat_model == ThreatModel.AFTER_EDIT
    writes = Writes(group.sites, pack.readout + 1 - width, width, after)
    constraint: Constraint = Free()
    if attack.constraint == "encoder":
        sets = [[s for s in group.fitted.protected if s.site.boundary == b] for b in group.sites]
        constraint = EncoderNullSpace(sets, group.subject.d_model)
    return Aim(pack, writes, constraint, group.scale.unit(writes))


def _attack_pack(
    group: Group, attack: Attack, budgets: Sequence[float], seed: int, pack: Pack, pack_size: PackSize
) -> tuple[list[list[Row]], Tensor]:
    started = time.perf_counter()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    target = aim(group, attack, pack)
    problem = _problem(group, attack, budgets, seed, target, pack_size)
    attempt = attack.run(problem)
    delta = problem.project(attempt.delta.detach().float().nan_to_num())
    state = problem.evaluate(delta)
    best = _champions(problem, state.objective, state.reached)
    steps = problem.backwards.view(len(pack), len(budgets), -1).sum(2)
    forwards = problem.forwards.view(len(pack), len(budgets), -1).sum(2)
    chosen = delta[best]
    rows = _measure(group, attack, target, pack, chosen, len(budgets), pack_size)
    seconds = (time.perf_counter() - started) / len(rows)
    for i, row in enumerate(rows):
        e, b = divmod(i, len(budgets))
        # one forward for the clean re-measurement
        row |= {"steps": int(steps[e, b]), "forwards": int(forwards[e, b]) + 1, "backwards": int(steps[e, b])}
        row |= {
            "seconds": seconds,
            "peak_memory_mb": _peak_memory(),
            "status": "ok",
            "budget_abs": budgets[b] * target.unit,
        }
        champion = int(best[i])
        doubts = {
            "zero-gradient": bool(problem.blind[champion]),
            "not-converged": not bool(attempt.converged[champion]),
        }
        row["flags"] = _flags(row, bool(state.reached[champion]), doubts)
    grouped = [rows[i : i + len(budgets)] for i in range(0, len(rows), len(budgets))]
    return grouped, chosen.view(len(pack), len(budgets), *chosen.shape[1:]).cpu()


def _problem(
    group: Group, attack: Attack, budgets: Sequence[float], seed: int, target: Aim, pack_size: PackSize
) -> Problem:
    pass_type = TailPass if group.restart else FullPass
    run: Pass = pass_type(group.subject, target.pack, group.edits, target.writes)
    return Problem(
        run,
        group.task,
        _batch(group, attack, target.pack),
        budgets=torch.tensor(budgets, dtype=torch.float64) * target.unit,
        restarts=attack.restarts,
        shape=(len(target.writes.boundaries), target.writes.width, group.subject.d_model),
        constraint=target.constraint,
        keys=[f"{seed}|{attack.name}|{e.id}" for e in target.pack.examples],
        pack_size=pack_size,
    )


def _batch(group: Group, attack: Attack, pack: Pack) -> Batch:
    index = [group.place[e.id] for e in pack.examples]
    return pack.judged_by(group.base.margin[index], attack.goal, group.wrong[index])


def _champions(problem: Problem, objective: Tensor, reached: Tensor) -> Tensor:
    """Index of the best restart of every (example, budget): one that reached the goal, then the best objective."""
    examples, levels, restarts = problem.grid
    score = torch.where(reached, torch.finfo(objective.dtype).max, objective).view(-1, restarts)
    return score.argmax(1) + restarts * torch.arange(examples * levels, device=score.device)


def _protected_at(group: Group, boundaries: Sequence[int]) -> list[FeatureSet]:
    return [s for s in group.fitted.protected if s.site.boundary in boundaries]


@torch.no_grad()
def _measure(
    group: Group, attack: Attack, target: Aim, pack: Pack, delta: Tensor, levels: int, pack_size: PackSize
) -> list[Row]:
    """Clean passes of the live defended model with ``delta`` (examples x budgets rows) written in."""
    sets = [s for s in group.fitted.protected if s.site.boundary >= min(target.writes.boundaries)]
    observe = frozenset(s.site.boundary for s in sets)
    # positions that both the attacked and the unperturbed text have: after an inserted suffix, or its readout
    common = pack.length - target.writes.start
    columns = common if target.pack is pack else max(common, 1)
    quiet = Writes((), pack.length - columns, 0, after=False)
    example = torch.arange(len(pack), device=delta.device)
    base = FullPass(group.subject, pack, {}, quiet)(None, example, observe).stream
    defended = FullPass(group.subject, pack, group.edits, quiet)(None, example, observe).stream
    run = FullPass(group.subject, target.pack, group.edits, target.writes)
    owner = example.repeat_interleave(levels)
    batch = _batch(group, attack, target.pack)
    floor = 1e-3 * max(group.scale.norms.values())
    rows: list[Row] = []

    def work(part: slice) -> None:
        index = owner[part]
        seen = run(delta[part], index, observe)
        verdict = group.task.verdict(seen.read, select(batch, index))
        held = [_held(s, base, defended, seen.stream, index, columns) for s in sets]
        moved = drift(held, floor) or [{} for _ in index]
        norms = delta[part].flatten(2).norm(dim=2).tolist()
        leak = target.constraint.violation(delta[part]).tolist()
        for i, example_index in enumerate(index.tolist()):
            row = _row(group, pack.examples[example_index], verdict.labels[i], float(verdict.margin[i]), attack)
            rows.append({**row, **moved[i], **_norm_columns(norms[i], target.unit), "violation": leak[i]})

    PackSize(max(pack_size.rows, ROWS) if not torch.cuda.is_available() else pack_size.rows).split(len(owner), work)
    return [_at_success(row) for row in rows]


def _held(
    features: FeatureSet,
    base: Mapping[int, Tensor],
    defended: Mapping[int, Tensor],
    attacked: Mapping[int, Tensor],
    index: Tensor,
    columns: int,
) -> Held:
    b = features.site.boundary
    streams = (base[b][index], defended[b][index], attacked[b][:, -columns:])
    return Held(features, *(features.encode(stream) for stream in streams))


def _row(group: Group, example: Example, label: str, margin: float, attack: Attack) -> Row:
    i = group.place[example.id]
    base, defended = float(group.base.margin[i]), float(group.defended.margin[i])
    reached = margin > 0
    row: Row = {"label_attacked": label, "margin_attacked": margin, "recovered": reached}
    row["outcome"] = "recovered" if reached else "held"
    return row | (behavior(base, defended, margin) if attack.goal == "behavior" else {})


def _norm_columns(norms: list[float], unit: float) -> Row:
    total = sum(n * n for n in norms) ** 0.5
    return {"delta_norm": total, "delta_eps": total / unit, "delta_site_norms": norms}


def _at_success(row: Row) -> Row:
    """Rows stop at their first success, so a recovered row's perturbation is that of its first success."""
    if row["recovered"]:
        row |= {"first_success_eps": row["delta_eps"], "first_success_drift": row.get("drift_abs")}
    return row


def _flags(row: Row, reached: bool, doubts: Mapping[str, bool]) -> list[str]:
    raised = {
        **{code: on and not row["recovered"] for code, on in doubts.items()},
        "constraint-violated": float(row.pop("violation")) > VIOLATION,  # type: ignore[arg-type]
        "budget-violated": float(row["delta_norm"]) > float(row["budget_abs"]) * (1 + 1e-4) + 1e-9,  # type: ignore[arg-type]
        "remeasurement-lost": reached and not row["recovered"],
        "overshoot": float(row.get("overshoot") or 0) > 0.5,  # type: ignore[arg-type]
        "near-zero-normaliser": bool(row.get("near_zero")),
    }
    return [code for code, on in raised.items() if on]


def _peak_memory() -> float | None:
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
