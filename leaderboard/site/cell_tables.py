"""The tables of single attacks: what each did at each of its budgets, a table a threat model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from leaderboard.board.schema import Cell, Entry
from leaderboard.rows.manifest import Unit
from leaderboard.scores.cells import BudgetPoint
from leaderboard.scores.values import NOTHING, Estimate

SHARES = {
    "recovered": "recovered_share",
    "selective": "selective_share",
    "degenerate": "degenerate_share",
    "undetected": "undetected_share",
}
"""What is said of a cell at a budget, and the field that says it."""


class CellLine(NamedTuple):
    """One share of one cell."""

    cell: Cell
    share: str
    values: list[Estimate]
    """At each budget of the table; no value where the cell was not run."""


class CellTable(NamedTuple):
    """The cells of a task under one threat model."""

    threat_model: str
    unit: Unit
    budgets: list[float]
    lines: list[CellLine]


def cell_tables(entry: Entry) -> dict[str, list[CellTable]]:
    """By task, of those on which anything ran."""
    found = {task: [*_tables(entry, result.cells)] for task, result in entry.per_task.items()}
    return {task: tables for task, tables in found.items() if tables}


def _tables(entry: Entry, cells: Sequence[Cell]) -> Iterator[CellTable]:
    for name in dict.fromkeys(cell.threat_model for cell in cells if cell.budgets):
        own = [cell for cell in cells if cell.threat_model == name]
        budgets = sorted({point.budget for cell in own for point in cell.budgets})
        lines = [line for cell in own for line in _lines(cell, budgets)]
        yield CellTable(name, entry.threats[name].unit, budgets, lines)


def _lines(cell: Cell, budgets: Sequence[float]) -> Iterator[CellLine]:
    """Of the shares that are known of a cell."""
    points = {point.budget: point for point in cell.budgets}
    for share in SHARES:
        values = [_value(points.get(budget), share) for budget in budgets]
        if any(value.value is not None for value in values):
            said = "wrong target reached" if cell.goal == "wrong" and share == "recovered" else share
            yield CellLine(cell, said, values)


def _value(point: BudgetPoint | None, share: str) -> Estimate:
    return NOTHING if point is None else getattr(point, SHARES[share])
