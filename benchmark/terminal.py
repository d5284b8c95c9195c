"""What is written on a terminal: text as it is, in which nothing is markup and nothing is cut."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def terminal(*, stderr: bool = False) -> Console:
    """A console for text that has names in it, which may look like markup: ``[v2]``, ``:bug:``."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def plain_table(*columns: str, whole: str | None = None) -> Table:
    """A table whose cells are folded where they are wider than there is room for, but for the column ``whole``."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == whole)
    return table
