"""Pairs about the defense and the result: a clamp that never sees the perturbation, and a search that never stops."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.measure.aim import Aim
from benchmark.measure.group import Group
from benchmark.model.passes import FullPass
from benchmark.published.audit.drift import drifts
from benchmark.published.audit.reading import Reading, means
from benchmark.published.audit.workbench import STEPS, Aimed, Workbench, measured, search, setting
from benchmark.published.switches import Switch
from benchmark.search.minimal_norm import Smallest, minimal_norm


def baked(bench: Workbench) -> list[Reading]:
    """The same perturbations, found behind the clamp, judged with the clamp run on them and without.

    Exactly orthogonal ones move no clamped latent, so that for them both agree.
    """
    group, eps = bench.choices, bench.middle(bench.choices)
    exact = search(group, bench.recovery("encoder"), eps)
    adam = setting(group, f"Adam, {STEPS} steps", bench.top(group))
    return [
        *_baked(group, bench.free, "", adam),
        *_baked(group, exact, ", orthogonal to the clamp", setting(group, "null space", eps)),
    ]


def _baked(group: Group, found: list[Aimed], which: str, where: str) -> list[Reading]:
    switch = Switch.BAKED_CLAMP
    before = [Aimed(target._replace(writes=replace(target.writes, after=False)), delta) for target, delta in found]
    rows = [measured(group, part) for part in (before, found)]
    margin, recovered = ([[getattr(m, name) for m in part] for part in rows] for name in ("margin", "recovered"))
    return [
        Reading.of(switch, f"margin under attack{which}", "logits", means(margin), len(rows[0]), where),
        Reading.of(switch, f"recovered{which}", "share", means(recovered), len(rows[0]), where),
    ]


class _Reported(NamedTuple):
    eps: float
    drift: float


def last_iterate(bench: Workbench) -> list[Reading]:
    """The last iterate, and the smallest rescaling of it that still reaches the goal; over those that do."""
    switch, group = Switch.LAST_ITERATE, bench.choices
    pairs = [pair for target, delta in bench.free for pair in _smallest_and_last(group, target, delta)]
    where = setting(group, f"Adam, {STEPS} steps", bench.top(group))
    norms, moved = ([[getattr(pair[side], name) for pair in pairs] for side in (0, 1)] for name in _Reported._fields)
    return [
        Reading.of(switch, "norm that is reported", "eps", means(norms), len(pairs), where),
        Reading.of(switch, "drift that is reported", "L2", means(moved), len(pairs), where),
    ]


def smallest(group: Group, target: Aim, delta: Tensor) -> Smallest:
    """The smallest rescaling of each perturbation that reaches the goal on a clean pass."""
    run = FullPass(group.subject, target.pack, group.edits, target.writes)

    @torch.no_grad()
    def reaches(scaled: Tensor, rows: Tensor) -> Tensor:
        return group.task.verdict(run(scaled, rows).read, target.criteria.rows(rows)).margin > 0

    return minimal_norm(delta, reaches, halvings=7)


def _smallest_and_last(group: Group, target: Aim, delta: Tensor) -> list[tuple[_Reported, _Reported]]:
    found = smallest(group, target, delta)
    both = zip(_reported(group, target, found.delta), _reported(group, target, delta), strict=True)
    return [pair for pair, hit in zip(both, found.reached.tolist(), strict=True) if hit]


def _reported(group: Group, target: Aim, delta: Tensor) -> list[_Reported]:
    rows = measured(group, [Aimed(target, delta)])
    return [_Reported(m.size.eps, d.drift_abs) for m, d in zip(rows, drifts(rows), strict=True)]
