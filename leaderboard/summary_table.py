"""One line per defense: the score and what it is made of; below, why a defense is not ranked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from leaderboard.schema import Entry, TaskResult
from leaderboard.task_results import SCORED_FAMILIES
from leaderboard.wording import MISSING, half_point, number, rank, stacked


def summary(entries: Sequence[Entry]) -> Group:
    """The defenses in the order given, best first on a board."""
    return Group(
        Text("Defenses", style="bold"), _table(entries), *(note for entry in entries for note in _notes(entry))
    )


def _table(entries: Sequence[Entry]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for heading in ("rank", "defense"):
        table.add_column(heading, overflow="fold")
    for heading in ("WRS", "WRS\nraw", "RS(0)", "AURC\nbefore", "AURC\nsuffix", "suffix\ngap"):
        table.add_column(heading, no_wrap=True)
    for heading in ("eps50", "utility", "n,\nclusters"):
        table.add_column(heading, justify="right", no_wrap=True)
    for entry in entries:
        table.add_row(*_line(entry))
        for task, result in entry.per_task.items():
            table.add_row(*_task_line(task, result), style="dim")
    return table


def _line(entry: Entry) -> list[str]:
    head = entry.headline
    return [
        rank(entry.rank),
        entry.defense.name,
        stacked(head.wrs_selective),
        stacked(head.wrs),
        stacked(head.rs0),
        stacked(head.aurc_before_edit),
        stacked(head.aurc_suffix),
        stacked(head.suffix_gap),
        half_point(head.eps50),
        number(entry.utility, ".3f"),
        f"{head.n}\n{head.n_clusters}",
    ]


def _task_line(task: str, result: TaskResult) -> list[str]:
    """The same columns for one task, so that a run of some tasks has a summary too."""
    before, suffix = (result.curves.get(family) for family in SCORED_FAMILIES)
    return [
        "",
        f"  {task}",
        stacked(result.score),
        stacked(result.score_raw),
        stacked(result.rs0),
        stacked(before.selective.aurc) if before else MISSING,
        stacked(suffix.selective.aurc) if suffix else MISSING,
        "",
        half_point(before.selective.eps50) if before else MISSING,
        number(result.utility.retained if result.utility else None, ".3f"),
        f"{result.eligible}\n{result.clusters}",
    ]


def _notes(entry: Entry) -> Iterator[Text]:
    for reason in entry.verdict.reasons:
        yield Text(f"{entry.defense.name} is not ranked: {reason}", style="yellow")
    if entry.flags:
        codes = ", ".join(sorted({flag.code for flag in entry.flags}))
        yield Text(f"{entry.defense.name}: {len(entry.flags)} flags ({codes})", style="dim")
