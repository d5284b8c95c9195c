"""What a defense's monitor makes of the attacks: only for defenses that have one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from leaderboard.board.schema import Cell, Threat
from leaderboard.rows.manifest import Unit
from leaderboard.scores.cells import BudgetPoint
from leaderboard.scores.detection import Detection
from leaderboard.tables.attacks import BUDGET_WIDTH, by_unit, fitting_budgets, plain_table
from leaderboard.tables.wording import attack_name, budget_name, interval, number, share

FIXED_WIDTH = 17
"""Columns of text that the names take."""


def detection_line(detection: Detection) -> Text:
    """The monitor on everything that enters the score."""
    return Text(
        f"monitor: {share(detection.detected_share)} of the {detection.recovered} recovered examples always detected, "
        f"{share(detection.undetected_share)} of the suppressed ones back undetected at least once, "
        f"false positives {number(detection.false_positives, '.3f')}"
    )


def detection_tables(cells: Sequence[Cell], threats: Mapping[str, Threat], width: int) -> list[Table]:
    """Of the attacks that a monitor watched: at each budget, recovered, detected among them, recovered undetected."""
    watched = [cell for cell in cells if cell.role == "attack" and any(p.undetected is not None for p in cell.budgets)]
    return [_table(group, unit, width) for unit, group in by_unit(watched, threats)]


def _table(cells: Sequence[Cell], unit: Unit, width: int) -> Table:
    budgets = fitting_budgets(cells, (width - FIXED_WIDTH) // BUDGET_WIDTH)
    table = plain_table("monitor on", *(f"{budget_name(unit)}\n{budget:.3g}" for budget in budgets))
    for cell in cells:
        points = {point.budget: point for point in cell.budgets}
        table.add_row(attack_name(cell), *(_budget(points.get(budget)) for budget in budgets))
    return table


def _budget(point: BudgetPoint | None) -> str:
    if point is None:
        return ""
    return (
        f"rec {number(point.recovered_share.value)}\ndet {number(point.detected_share.value)}\n"
        f"und {number(point.undetected_share.value)}\n{interval(point.undetected_share.interval)}"
    )
