"""The attacks on one task as tables: residual attacks and suffixes have budgets of their own, so each gets a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from leaderboard.schema import BudgetPoint, Cell
from leaderboard.wording import access, interval, number

FIXED_WIDTH = 54
"""Columns of text that everything but the budgets takes."""
BUDGET_WIDTH = 9
SUFFIXES = frozenset({"soft_suffix", "token_suffix"})


def attack_tables(cells: Sequence[Cell], numbers: Mapping[str, int], width: int) -> list[Table | Text]:
    """One table per kind of budget, and a line about the zero-budget control.

    Args:
        numbers: footnote of each flag code.
        width: of the console; where it is too small for all budgets, some in the middle are left out.
    """
    skipped = [cell for cell in cells if cell.skipped]
    zero = [cell for cell in cells if cell not in skipped and not any(point.eps for point in cell.budgets)]
    rest = [cell for cell in cells if cell not in zero and cell not in skipped]
    residual = [cell for cell in rest if cell.threat_model not in SUFFIXES]
    suffix = [cell for cell in rest if cell.threat_model in SUFFIXES]
    tables = [_table(group, numbers, width) for group in (residual, suffix) if group]
    return [*tables, *map(_skipped_line, skipped), *(_zero_line(cell) for cell in zero if cell.budgets)]


def _table(cells: Sequence[Cell], numbers: Mapping[str, int], width: int) -> Table:
    budgets = _shown(sorted({point.eps for cell in cells for point in cell.budgets}), width)
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("attack\nthreat model", no_wrap=True)
    table.add_column("supp.\nelig.", justify="right", no_wrap=True)
    for eps in budgets:
        table.add_column(f"eps\n{eps:.3g}", justify="right", no_wrap=True)
    for heading in ("drift\nabs, rel", "react", "delta", "flags"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cell in sorted(cells, key=lambda cell: (cell.role, cell.attack == "wrong-target", cell.threat_model)):
        table.add_row(*_row(cell, budgets, numbers), style="dim" if cell.role == "control" else "")
    return table


def _shown(budgets: Sequence[float], width: int) -> list[float]:
    """As many budgets as fit, the smallest and the largest among them."""
    room = max(2, (width - FIXED_WIDTH) // BUDGET_WIDTH)
    if len(budgets) <= room:
        return list(budgets)
    return [budgets[round(place * (len(budgets) - 1) / (room - 1))] for place in range(room)]


def _row(cell: Cell, budgets: Sequence[float], numbers: Mapping[str, int]) -> list[str]:
    points = {point.eps: point for point in cell.budgets}
    first = cell.first_success
    return [
        f"{cell.attack}\n{access(cell)}",
        f"{cell.suppressed}\n{cell.eligible}",
        *(_budget(points.get(eps), cell) for eps in budgets),
        f"{number(first.drift_abs)}\n{number(first.drift_rel)}",
        number(first.reactivated_fraction),
        number(first.delta_eps, ".3f"),
        ",".join(str(number) for number in sorted({numbers[flag.code] for flag in cell.flags})),
    ]


def _budget(point: BudgetPoint | None, cell: Cell) -> str:
    if point is None:
        return ""
    lines = [number(point.recovered_share.value), interval(point.recovered_share.interval)]
    if cell.role == "attack":
        lines.append(f"sel {number(point.selective_share.value)}")
    return "\n".join(lines)


def _skipped_line(cell: Cell) -> Text:
    return Text(f"{cell.attack}, {access(cell)}: not applicable: {cell.skipped}", style="dim")


def _zero_line(cell: Cell) -> Text:
    recovered = cell.budgets[-1].recovered
    line = f"zero budget, {access(cell)}: {recovered} of {cell.suppressed} recovered (must be 0)"
    return Text(line, style="bold red" if recovered else "dim")
