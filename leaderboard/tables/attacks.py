"""The attacks on one task as tables, one per unit of budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from rich import box
from rich.table import Table
from rich.text import Text

from leaderboard.board.schema import Cell, Threat
from leaderboard.rows.manifest import Unit
from leaderboard.rows.plan import access
from leaderboard.scores.cells import BudgetPoint
from leaderboard.scores.threats import ROLES
from leaderboard.tables.wording import attack_name, budget_name, interval, number

FIXED_WIDTH = 47
"""Columns of text that everything but the budgets and the optional columns takes."""
DEGENERATE_WIDTH = 6
BUDGET_WIDTH = 9


def attack_tables(
    cells: Sequence[Cell], threats: Mapping[str, Threat], numbers: Mapping[str, int], width: int
) -> list[Table | Text]:
    """One table per unit of budget, and a line for each attack that does not apply and each zero-budget control.

    Args:
        threats: by name, those of the cells.
        numbers: footnote of each flag code.
        width: of the console; where it is too small for all budgets, some in the middle are left out.
    """
    skipped = [cell for cell in cells if cell.skipped]
    zero = [cell for cell in cells if cell not in skipped and not any(point.budget for point in cell.budgets)]
    rest = [cell for cell in cells if cell not in zero and cell not in skipped]
    tables = [_table(group, unit, numbers, width) for unit, group in by_unit(rest, threats)]
    return [*tables, *map(_skipped_line, skipped), *(_zero_line(cell) for cell in zero if cell.budgets)]


def by_unit(cells: Sequence[Cell], threats: Mapping[str, Threat]) -> list[tuple[Unit, list[Cell]]]:
    """Cells whose budgets compare, attacks before controls; empty groups are left out."""
    order = sorted(
        cells,
        key=lambda cell: (
            cell.role,
            cell.goal,
            ROLES.index(threats[cell.threat_model].role),
            cell.constraint != "none",
            cell.constraint,
        ),
    )
    groups = [(unit, [cell for cell in order if threats[cell.threat_model].unit == unit]) for unit in get_args(Unit)]
    return [(unit, group) for unit, group in groups if group]


def fitting_budgets(cells: Sequence[Cell], room: int) -> list[float]:
    """As many budgets as fit, at least two, the smallest and the largest among them."""
    budgets, room = sorted({point.budget for cell in cells for point in cell.budgets}), max(2, room)
    if len(budgets) <= room:
        return budgets
    return [budgets[round(place * (len(budgets) - 1) / (room - 1))] for place in range(room)]


def plain_table(*headings: str) -> Table:
    """An empty table: text to the left in the first column, numbers to the right in the others."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left", no_wrap=True)
    return table


def _table(cells: Sequence[Cell], unit: Unit, numbers: Mapping[str, int], width: int) -> Table:
    broken = any(point.degenerate for cell in cells for point in cell.budgets)
    room = (width - FIXED_WIDTH - (DEGENERATE_WIDTH if broken else 0)) // BUDGET_WIDTH
    budgets = fitting_budgets(cells, room)
    headings = [f"{budget_name(unit)}\n{budget:.3g}" for budget in budgets]
    optional = ["degen.\nshare"] if broken else []
    table = plain_table(
        "attack\nthreat model", "supp.\nelig.", *headings, *optional, "drift\nabs,rel", "react", "delta", "flags"
    )
    for cell in cells:
        row = _row(cell, budgets, numbers)
        table.add_row(*(row if broken else [*row[:-5], *row[-4:]]), style="dim" if cell.role == "control" else "")
    return table


def _row(cell: Cell, budgets: Sequence[float], numbers: Mapping[str, int]) -> list[str]:
    points = {point.budget: point for point in cell.budgets}
    first, last = cell.first_success, cell.budgets[-1]
    return [
        attack_name(cell),
        f"{cell.suppressed}\n{cell.eligible}",
        *(_budget(points.get(budget), cell) for budget in budgets),
        f"{last.degenerate}\n{number(last.degenerate_share.value)}",
        f"{number(first.drift_abs)}\n{number(first.drift_rel)}",
        number(first.reactivated_fraction),
        number(first.delta_eps if first.min_eps is None else first.min_eps, ".3f"),
        ",".join(str(number) for number in sorted({numbers[flag.code] for flag in cell.flags})),
    ]


def _budget(point: BudgetPoint | None, cell: Cell) -> str:
    if point is None:
        return ""
    lines = [number(point.recovered_share.value), interval(point.recovered_share.interval)]
    if point.selective is not None:
        lines.append(f"sel {number(point.selective_share.value)}")
    return "\n".join(lines)


def _skipped_line(cell: Cell) -> Text:
    name = f"{cell.attack}, {access(cell.threat_model, cell.constraint)}"
    return Text(f"{name}: not applicable: {cell.skipped}", style="dim")


def _zero_line(cell: Cell) -> Text:
    recovered = cell.budgets[-1].recovered
    name = f"zero budget, {access(cell.threat_model, cell.constraint)}"
    line = f"{name}: {recovered} of {cell.suppressed} recovered (must be 0)"
    return Text(line, style="bold red" if recovered else "dim")
