"""One line per defense: the score, what it is made of, and why it is not ranked."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from leaderboard.schema import Entry
from leaderboard.wording import half_point, number, rank, stacked


def summary_table(entries: Sequence[Entry]) -> Table:
    """The defenses in the order given, best first on a board."""
    table = Table(box=box.SIMPLE_HEAD, title="Defenses", title_justify="left", title_style="bold", padding=(0, 1, 0, 0))
    for heading in ("rank", "defense", "WRS", "WRS raw", "RS(0)", "AURC\nbefore", "AURC\nsuffix", "suffix gap"):
        table.add_column(heading, no_wrap=True)
    for heading in ("eps50", "utility", "n /\nclusters"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("flags")
    for entry in entries:
        table.add_row(*_line(entry), end_section=True)
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
        _flags(entry),
    ]


def _flags(entry: Entry) -> str:
    effects = [flag.effect for flag in entry.flags]
    counted = [f"{effects.count(effect)} {effect}" for effect in ("invalid", "lower-bound-only", "ok")]
    return "\n".join(line for line in counted if not line.startswith("0 ")) or "none"
