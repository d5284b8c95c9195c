"""The whole report: every defense with its tasks, a summary of the defenses, their differences, and a legend."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from leaderboard.board.schema import Comparison, Entry, SuiteBoard
from leaderboard.tables.legend import legend
from leaderboard.tables.stability import stability_tables
from leaderboard.tables.summary import summary
from leaderboard.tables.tasks import task_table
from leaderboard.tables.wording import number, share


def render(board: SuiteBoard | Entry, console: Console) -> None:
    """Print a whole board or one of its entries."""
    entries: Sequence[Entry] = board.entries if isinstance(board, SuiteBoard) else [board]
    threats = {name: threat for entry in entries for name, threat in entry.threats.items()}
    parts: list[RenderableType] = [
        *(Padding(entry_tables(entry, console.width), (0, 0, 1, 0)) for entry in entries),
        *stability_tables(board.stability if isinstance(board, SuiteBoard) else []),
        summary(entries, console.width),
        *_comparisons(board.comparisons if isinstance(board, SuiteBoard) else []),
        Padding(legend(threats), (1, 0, 0, 0)),
    ]
    for part in parts:
        console.print(part)


def entry_tables(entry: Entry, width: int = 120) -> Group:
    """One defense: its tasks, each with its attacks, and why it is not ranked if it is not."""
    under = "" if entry.provenance.ranked else f", protocol {entry.provenance.protocol}"
    name = Text(f"{entry.defense.name} on {entry.model.id}{under}", style="bold underline")
    reasons = [Text(f"not ranked: {reason}", style="yellow") for reason in entry.verdict.reasons]
    tasks = [
        Padding(task_table(task, result, entry.threats, width, entry.defense.record.get(task, {})), (1, 0, 0, 0))
        for task, result in entry.per_task.items()
    ]
    return Group(name, *reasons, *tasks)


def _comparisons(found: Sequence[Comparison]) -> list[RenderableType]:
    """Differences between defenses, if there are two."""
    if not found:
        return []
    table = Table("task", "threat model", "first", "second", "AURC\nfirst - second", "p (Holm)", padding=0)
    table.box = box.SIMPLE_HEAD
    for one in found:
        table.add_row(one.task, one.threat_model, one.first, one.second, share(one.aurc), number(one.p, ".3f"))
    return [Padding(Text("Paired differences", style="bold"), (1, 0, 0, 0)), table]
