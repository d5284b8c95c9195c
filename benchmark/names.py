"""Names that people give: of defenses, tasks and suites."""

from __future__ import annotations

from typing import Any

from benchmark.errors import UsageError


def checked_name(value: Any, what: str) -> str:
    """The name; ``what`` it names and where it stands, for the message.

    Raises:
        UsageError: it is no text, nobody can see it, or it would break a line or a terminal.
    """
    if not isinstance(value, str):
        raise UsageError(
            f"{what}: the name is {value!r:.60}, which is no text; write one, quoted if it looks otherwise"
        )
    if not value.strip():
        raise UsageError(f"{what}: the name {value!r:.60} is empty; write one")
    if not value.isprintable():
        raise UsageError(f"{what}: the name {value!r:.60} has control or invisible characters; leave them out")
    if value != value.strip():
        raise UsageError(f"{what}: the name {value!r:.60} begins or ends with a space; leave it out")
    return value
