"""What carries the recoveries: each part's share of the norm, and what it recovers alone, beside random vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from leaderboard.board.schema import Cell, Threat
from leaderboard.scores.parts import Attribution
from leaderboard.tables.attacks import by_unit, plain_table
from leaderboard.tables.wording import attack_name, number, share


def part_tables(cells: Sequence[Cell], threats: Mapping[str, Threat]) -> list[Table | Text]:
    """A table of the attacks whose perturbations were taken apart, and a line of cosines for each."""
    found = [(cell, cell.attribution) for _, group in by_unit(cells, threats) for cell in group if cell.attribution]
    if not found:
        return []
    table = plain_table("carried by", "part", "norm", "alone,\nown norm", "alone,\nequal norm")
    for cell, parts in found:
        rows = list(_rows(parts))
        table.add_row(f"{attack_name(cell)}\nn = {parts.n}", *("\n".join(column) for column in zip(*rows, strict=True)))
    return [table, *(_cosines(cell, parts) for cell, parts in found)]


def _rows(found: Attribution) -> Iterator[tuple[str, str, str, str]]:
    for name, part in found.parts.items():
        fewer = "" if part.n == found.n else f" (n = {part.n})"
        yield name + fewer, number(part.share), share(part.recovered), share(part.equal_recovered)
    yield "random", "", "", share(found.random_recovered)


def _cosines(cell: Cell, found: Attribution) -> Text:
    words = ", ".join(f"{name} {number(value)}" for name, value in found.cosines.items())
    return Text(f"cosines, {' '.join(attack_name(cell).split())}: {words}", style="dim")
