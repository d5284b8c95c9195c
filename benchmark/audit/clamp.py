"""Pairs about the defense and the result: a clamp that never sees the perturbation, and a search that never stops."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.audit.reading import Reading, mean
from benchmark.audit.workbench import ROWS, STEPS, Found, Workbench, attack, measured, search, setting
from benchmark.cells.aim import Aim
from benchmark.cells.group import Group
from benchmark.cells.remeasure import remeasure
from benchmark.model.passes import FullPass
from benchmark.protocol import Switch
from benchmark.search.minimal_norm import minimal_norm
from benchmark.search.oracle import select
from benchmark.search.pack_size import PackSize


def baked(bench: Workbench) -> list[Reading]:
    """The same perturbations, found behind the clamp, judged with the clamp run on them and without.

    Exactly orthogonal ones move no clamped latent, so that for them both agree.
    """
    group, eps = bench.choices, bench.middle(bench.choices)
    exact = search(group, attack("recovery", threat_model="after_edit", constraint="encoder", restarts=1), eps)
    adam = setting(group, f"Adam, {STEPS} steps", bench.top(group))
    return [
        *_baked(group, bench.free, "", adam),
        *_baked(group, exact, ", orthogonal to the clamp", setting(group, "null space", eps)),
    ]


def _baked(group: Group, found: list[Found], which: str, where: str) -> list[Reading]:
    switch = Switch.BAKED_CLAMP
    before = [Found(target._replace(writes=replace(target.writes, after=False)), delta) for target, delta in found]
    rows = [measured(group, part) for part in (before, found)]
    margin, recovered = ([mean([r[name] for r in part]) for part in rows] for name in ("margin_attacked", "recovered"))
    return [
        Reading.of(switch, f"margin under attack{which}", "logits", margin, len(rows[0]), where),
        Reading.of(switch, f"recovered{which}", "share", recovered, len(rows[0]), where),
    ]


class _Reported(NamedTuple):
    eps: float
    drift: float


def last_iterate(bench: Workbench) -> list[Reading]:
    """The last iterate, and the smallest rescaling of it that still reaches the goal; over those that do."""
    group, eps = bench.choices, bench.top(bench.choices)
    pairs = [pair for found in bench.free for pair in _smallest_and_last(group, *found)]
    where = setting(group, f"Adam, {STEPS} steps", eps)

    def reading(what: str, unit: str, column: int) -> Reading:
        smallest, last = ([pair[side][column] for pair in pairs] for side in (0, 1))
        return Reading(Switch.LAST_ITERATE, what, unit, mean(smallest), mean(last), len(pairs), where)

    return [reading("norm that is reported", "eps", 0), reading("drift that is reported", "L2", 1)]


def _smallest_and_last(group: Group, target: Aim, delta: Tensor) -> list[tuple[_Reported, _Reported]]:
    run = FullPass(group.subject, target.pack, group.edits, target.writes)

    @torch.no_grad()
    def reaches(scaled: Tensor, rows: Tensor) -> Tensor:
        return group.task.verdict(run(scaled, rows).read, select(target.batch, rows)).margin > 0

    found = minimal_norm(delta, reaches, halvings=7)
    both = [_reported(group, target, each) for each in (found.delta, delta)]
    return [pair for pair, hit in zip(zip(*both, strict=True), found.reached.tolist(), strict=True) if hit]


def _reported(group: Group, target: Aim, delta: Tensor) -> list[_Reported]:
    rows = remeasure(group, target, delta, 1, PackSize(ROWS))
    return [_Reported(float(str(r["delta_eps"])), float(str(r["drift_abs"]))) for r in rows]
