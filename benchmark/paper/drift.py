"""Drift as the study reports it, beside ours: the ``paper_`` columns of a row (METHOD section 11)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmark.contracts import Continuation, Task
from benchmark.protocol import Protocol, Switch
from benchmark.sae.drift import Held

Row = dict[str, object]
SWITCHES = frozenset({Switch.UNMONITORED_ANCHOR, Switch.FIRST_ROW_DRIFT, Switch.VACUOUS_DRIFT})
EPSILON = 1e-8
"""What the study adds to a norm before it divides by it."""


def paper_columns(task: Task, held: Sequence[Held], width: int, floor: float, protocol: Protocol) -> list[Row]:
    """``paper_drift_abs`` and ``paper_drift_rel`` of every row; none where no switch asks for them.

    Args:
        held: protected latents from the first perturbed position on.
        width: perturbed positions; where answers are written, those are left out if the anchor is not monitored.
        floor: norm at or below which a ratio is null, unless drift is vacuous.
    """
    if not held or not SWITCHES & protocol.switches:
        return []
    skip = width if Switch.UNMONITORED_ANCHOR in protocol and isinstance(task.readout, Continuation) else 0
    moved = _norm([h.attacked.act[:, skip:] - h.defended.act[:, skip:] for h in held])
    norms = _norm([h.defended.act[:, skip:] for h in held])
    vacuous = Switch.VACUOUS_DRIFT in protocol
    return [
        {
            "paper_drift_abs": m,
            "paper_drift_rel": m / (n + EPSILON) if vacuous else m / n if n > floor else None,
        }
        for m, n in zip(moved.tolist(), norms.tolist(), strict=True)
    ]


def first_row_speaks(task: Task, rows: list[Row], protocol: Protocol) -> list[Row]:
    """At each budget, the first attacked row's ``paper_drift`` for all, except of texts, which the study ran singly."""
    if Switch.FIRST_ROW_DRIFT not in protocol or isinstance(task.readout, Continuation):
        return rows
    first: dict[object, Row] = {}
    for row in rows:
        if row.get("paper_drift_abs") is not None:
            own = {name: row[name] for name in ("paper_drift_abs", "paper_drift_rel")}
            row |= first.setdefault(row["budget_eps"], own)
    return rows


def _norm(parts: list[Tensor]) -> Tensor:
    return torch.stack([p.double().flatten(1).square().sum(1) for p in parts]).sum(0).sqrt()
