"""Drift as the study reports it, beside ours: the ``paper_`` columns of a row (METHOD section 11)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from benchmark.contracts.row import Record
from benchmark.measure.drift import Held

EPSILON = 1e-8
"""What the study adds to a norm before it divides by it."""

T = TypeVar("T")


class PaperDrift(Record):
    """What a row has in the runs of this protocol alone."""

    PREFIX = "paper_"
    drift_abs: float
    """protocol paper: L2 change of the protected activations as the study reads it"""
    drift_rel: float | None
    """protocol paper: the same over the norm of the defended ones plus 1e-8"""


def paper_drift(held: Sequence[Held], unwatched: int, floor: float | None) -> list[PaperDrift]:
    """The drift of every row.

    Args:
        held: protected latents from the first perturbed position on, at least one set.
        unwatched: positions that are left out, from the first one on.
        floor: L2 norm at or below which a ratio is null; None: there is a ratio to any norm, plus ``EPSILON``.
    """
    moved = _norm([h.attacked.act[:, unwatched:] - h.defended.act[:, unwatched:] for h in held])
    norms = _norm([h.defended.act[:, unwatched:] for h in held])
    return [
        PaperDrift(drift_abs=m, drift_rel=_ratio(m, n, floor))
        for m, n in zip(moved.tolist(), norms.tolist(), strict=True)
    ]


def _ratio(moved: float, norm: float, floor: float | None) -> float | None:
    if floor is None:
        return moved / (norm + EPSILON)
    return moved / norm if norm > floor else None


def first_speaks(drifts: Iterable[tuple[float, T | None]]) -> list[T | None]:
    """Pairs of a budget and a row's drift: the first one at each budget, for all rows that have any."""
    first: dict[float, T] = {}
    return [None if drift is None else first.setdefault(budget, drift) for budget, drift in drifts]


def _norm(parts: list[Tensor]) -> Tensor:
    return torch.stack([p.double().flatten(1).square().sum(1) for p in parts]).sum(0).sqrt()
