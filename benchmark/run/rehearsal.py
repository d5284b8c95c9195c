"""What a search asks of a model, counted without one; and what it pays for that, timed on a step of one example."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from benchmark.contracts.attack import Attack
from benchmark.search.oracle import Oracle

LARGER = 8
"""How many times as many rows the second of two timed passes has: the difference is what rows cost."""


class Asked(NamedTuple):
    """What an attack asks at most of the model for one example at all its budgets."""

    rows: float
    """Of a pass over the example."""
    slopes: float
    """Rows that pass with a gradient."""
    forwards: float
    """Rows that pass without."""
    passes: float
    """Passes, whatever their rows."""

    def __mul__(self, factor: float) -> Asked:  # type: ignore[override]
        return Asked(*(value * factor for value in self))


class Pace(NamedTuple):
    """What the passes of one access cost, in seconds."""

    each: float
    """A pass with its gradient, whatever its rows."""
    row: float
    """Every row of it."""
    forward: float
    """A pass without its gradient, as a share of one with it."""
    held: int
    """Bytes that a row keeps until its gradient is taken."""


class _Counted:
    """Counts the passes of a problem that is rehearsed."""

    def __init__(self) -> None:
        self.passes = 0

    def split(self, total: int, work: Any) -> None:
        if total:
            self.passes += 1
            work(slice(0, total))


def rehearse(problem: Any, attack: Attack, levels: int) -> Asked:
    """What ``attack`` asks for the one example of ``problem`` at ``levels`` budgets, training included.

    Args:
        problem: a ``Problem`` or ``TokenProblem``; of one with a single budget the search is repeated for each.
    """
    dry, counted = problem.rehearsed(), _Counted()
    dry._pack_size = counted
    trained = attack.trained([dry]) if attack.learns else attack
    attempt = trained.run(dry)
    dry.evaluate(attempt.proposal)  # as the harness does, to choose among restarts
    searches = max(1.0, levels * attack.restarts / dry.rows)
    slopes, forwards = float(dry.backwards.sum()), float(dry.forwards.sum())
    return Asked(dry.rows, slopes, forwards - slopes, counted.passes) * searches


def pace(problem: Any, most: int) -> Pace:
    """Timed on two passes of ``problem``, the larger with at most ``most`` rows."""
    one, rows = problem.nothing(), torch.arange(problem.rows, device=problem.example.device)
    many = rows.repeat(max(2, min(LARGER, most // len(rows))))
    free = problem.unbilled()
    free.slope(one, rows)  # what is made once is made here
    held = _kept(free, one, rows)
    few = min(_clocked(free, one, rows) for _ in range(2))
    larger = _clocked(free, one[many], many)
    forward = _clocked(free, one[many], many, gradient=False)
    row = max(larger - few, 0.0) / (len(many) - len(rows))
    return Pace(max(few - row * len(rows), 0.0), row, forward / larger, held)


def _clocked(problem: Oracle, what: Tensor, rows: Tensor, *, gradient: bool = True) -> float:
    run: Any = problem.slope if gradient else problem.evaluate  # type: ignore[attr-defined]
    began = time.perf_counter()
    run(what, rows)
    if what.device.type == "cuda":
        torch.cuda.synchronize(what.device)
    return time.perf_counter() - began


def _kept(problem: Any, what: Tensor, rows: Tensor) -> int:
    """Bytes a row that a pass keeps for its backward, weights left out: they have no rows of their own."""
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not (tensor.is_leaf and not tensor.requires_grad):
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        problem.slope(what, rows)
    return sum(seen.values()) // len(rows)
