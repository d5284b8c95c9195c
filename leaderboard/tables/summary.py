"""One line per defense: the score and what it is made of; below, why a defense is not ranked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress

from rich import box
from rich.console import Group, JustifyMethod
from rich.table import Table
from rich.text import Text

from leaderboard.board.schema import Entry, TaskResult
from leaderboard.tables.wording import half_point, number, rank, stacked

NARROW = 100
"""On consoles below this width ``OPTIONAL`` columns are left out; ``leaderboard.json`` has them all."""
OPTIONAL = frozenset({"WRS\nsel", "gap", "n,\nclusters"})
COLUMNS: tuple[tuple[str, JustifyMethod], ...] = (
    ("WRS", "left"),
    ("WRS\nsel", "left"),
    ("RS(0)", "left"),
    ("AURC\nprimary", "left"),
    ("AURC\nbaseline", "left"),
    ("gap", "left"),
    ("eps50", "right"),
    ("utility", "right"),
    ("n,\nclusters", "right"),
)


def summary(entries: Sequence[Entry], width: int = 120) -> Group:
    """The defenses in the order given, best first on a board.

    Args:
        width: of the console.
    """
    notes = [note for entry in entries for note in _notes(entry)]
    return Group(Text("Defenses", style="bold"), _table(entries, width), *notes)


def _table(entries: Sequence[Entry], width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for heading in ("rank", "defense"):
        table.add_column(heading, overflow="fold")
    kept = [width >= NARROW or heading not in OPTIONAL for heading, _ in COLUMNS]
    for heading, justify in compress(COLUMNS, kept):
        table.add_column(heading, justify=justify, no_wrap=True)
    for entry in entries:
        table.add_row(rank(entry.rank), entry.defense.name, *compress(_line(entry), kept))
        for task, result in entry.per_task.items():
            table.add_row("", f"  {task}", *compress(_task_line(result), kept), style="dim")
    return table


def _line(entry: Entry) -> list[str]:
    head = entry.headline
    return [
        stacked(head.wrs),
        stacked(head.wrs_selective),
        stacked(head.rs0),
        stacked(head.aurc_primary),
        stacked(head.aurc_baseline),
        stacked(head.baseline_gap),
        half_point(head.eps50),
        number(entry.utility, ".3f"),
        f"{head.n}\n{head.n_clusters}",
    ]


def _task_line(result: TaskResult) -> list[str]:
    """The same columns for one task, so that a run of some tasks has a summary too."""
    return [
        stacked(result.score),
        stacked(result.score_selective),
        stacked(result.rs0),
        stacked(result.aurc_primary),
        stacked(result.aurc_baseline),
        stacked(result.baseline_gap),
        half_point(result.eps50),
        number(result.utility.retained if result.utility else None, ".3f"),
        f"{result.eligible}\n{result.clusters}",
    ]


def _notes(entry: Entry) -> Iterator[Text]:
    for reason in entry.verdict.reasons:
        yield Text(f"{entry.defense.name} is not ranked: {reason}", style="yellow")
    if entry.flags:
        codes = ", ".join(sorted({flag.code for flag in entry.flags}))
        yield Text(f"{entry.defense.name}: {len(entry.flags)} flags ({codes})", style="dim")
