"""What is written on a terminal: text as it is, in which nothing is markup and nothing is cut."""

from __future__ import annotations

import logging
import os

from rich.console import Console
from rich.table import Table

SPIN = "GOMP_SPINCOUNT", "10000"
"""What a process must have in its environment before torch is imported: threads that spin for long while they wait make
a small model crawl on a machine that has other work too; ones that never do, on a machine that has none."""


def terminal(*, stderr: bool = False) -> Console:
    """A console for text that has names in it, which may look like markup: ``[v2]``, ``:bug:``."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def plain_table(*columns: str, whole: str | None = None) -> Table:
    """A table whose cells are folded where they are wider than there is room for, but for the column ``whole``."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == whole)
    return table


def quiet() -> None:
    """Loading bars and notices of libraries would tear our own display.

    Nothing heavy is imported for it: the first line is printed after this.
    """
    os.environ.setdefault(*SPIN)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("transformers").setLevel(logging.ERROR)
