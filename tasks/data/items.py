"""Sources whose items have the splits of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmark.contracts.example import SPLITS
from benchmark.errors import UsageError


def records_of(
    source: str, items: Mapping[str, Callable[[str], Sequence[Mapping[str, Any]]]], item: str
) -> list[Mapping[str, Any]]:
    """The records of an item of a source, all splits, each with the name of its own.

    Raises:
        UsageError: there is no such item.
    """
    if item not in items:
        raise UsageError(f"the source {source} has no item {item!r}; it has: {', '.join(items)}")
    return [{**record, "split": split} for split in SPLITS for record in items[item](split)]
