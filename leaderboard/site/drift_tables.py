"""The tables that recovery is drawn against drift from: an attack a point."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from leaderboard.board.schema import Cell, Entry, TaskResult
from leaderboard.scores.values import Estimate


class DriftPoint(NamedTuple):
    """One attack, at its largest ranked budget."""

    attack: str
    threat_model: str
    constraint: str
    drift: float
    """Median relative drift at the first success."""
    n: int
    """Examples that it is the median of."""
    recovered: Estimate
    """Share of the suppressed examples."""


class DriftTable(NamedTuple):
    """One task."""

    task: str
    tau: float | None
    """The suite's limit of harmless drift; null: it has none, or no curve was drawn within it."""
    points: list[DriftPoint]


def drift_tables(entry: Entry) -> list[DriftTable]:
    """The tasks on which something came back and the drift of it is known."""
    found = [DriftTable(task, _tau(result), [*_points(result)]) for task, result in entry.per_task.items()]
    return [one for one in found if one.points]


def _points(result: TaskResult) -> Iterator[DriftPoint]:
    for cell in result.cells:
        drift = cell.first_success.drift_rel
        if cell.role == "attack" and cell.budgets and drift is not None:
            yield _point(cell, drift)


def _point(cell: Cell, drift: float) -> DriftPoint:
    known = cell.first_success.n - cell.first_success.n_near_zero
    share = cell.budgets[-1].recovered_share
    return DriftPoint(cell.attack, cell.threat_model, cell.constraint, drift, known, share)


def _tau(result: TaskResult) -> float | None:
    return next((curve.tau for name, curve in result.curves.items() if name.endswith("_within_tau")), None)
