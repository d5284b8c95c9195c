"""One cell: attack every suppressed example of a task under a defense at every budget, re-measure, and make rows.

What an attack writes decides how it is searched: the stream (``residual``) or a typed suffix (``typed``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmark.cells.aim import cannot
from benchmark.cells.group import Group
from benchmark.cells.reference import ROWS
from benchmark.cells.remeasure import Row
from benchmark.cells.residual import attack_residual
from benchmark.cells.training import train, untrainable
from benchmark.cells.typed import attack_tokens
from benchmark.contracts import Attack, Example, ThreatModel
from benchmark.model.pack import Pack, halves
from benchmark.model.packs import make_packs
from benchmark.model.typing_back import untypable
from benchmark.paper.drift import first_row_speaks
from benchmark.search.pack_size import PackSize


def run_cell(
    group: Group, attack: Attack, budgets: Sequence[float], seed: int, pack_size: PackSize
) -> tuple[list[Row], dict[str, Tensor]]:
    """Rows of every example at every budget (eps), and the perturbations of the attacked ones.

    Returns:
        Rows without the columns that name the cell, and example id -> (budgets, sites, perturbed, d_model), or of
        typed suffixes (budgets, n), token ids filled up with -1.
    """
    rows = {e.id: _idle_rows(group, i, budgets) for i, e in enumerate(group.examples)}
    deltas: dict[str, Tensor] = {}
    attacked = [e for e, hit in zip(group.examples, group.suppressed.tolist(), strict=True) if hit]
    size = max(1, 4 * pack_size.rows // (len(budgets) * attack.restarts))
    if why := cannot(group, attack) or untrainable(group, attack) or _untypable(group, attack, attacked):
        for example in attacked:
            rows[example.id] = [{**row, "outcome": None, "error": why} for row in rows[example.id]]
        attacked = []
    if attacked and attack.learns:
        attack = train(group, attack, budgets, seed, pack_size)
    for pack in make_packs(group.subject, group.task, attacked, size, attack.goal):
        found, delta = _attack_pack(group, attack, budgets, seed, pack, pack_size)
        for i, example in enumerate(pack.examples):
            known = rows[example.id]
            rows[example.id] = [{**a, **b} for a, b in zip(known, found[i], strict=True)]
            deltas[example.id] = delta[i]
    ordered = sorted(rows, key=group.place.__getitem__)
    in_order = [row for example_id in ordered for row in rows[example_id]]
    return first_row_speaks(group.task, in_order, group.protocol), deltas


def _untypable(group: Group, attack: Attack, examples: Sequence[Example]) -> str | None:
    if attack.threat_model != ThreatModel.TOKEN_SUFFIX:
        return None
    return untypable(group.subject, make_packs(group.subject, group.task, examples, ROWS, attack.goal))


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
    search = attack_tokens if attack.threat_model == ThreatModel.TOKEN_SUFFIX else attack_residual
    try:
        return search(group, attack, budgets, seed, pack, pack_size)
    except torch.OutOfMemoryError:
        if len(pack) == 1:
            raise
    parts = [_attack_pack(group, attack, budgets, seed, half, pack_size) for half in halves(pack)]
    return [row for rows, _ in parts for row in rows], torch.cat([delta for _, delta in parts])
