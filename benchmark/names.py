"""Names that people give: of defenses, tasks and suites; and what a name is called where everybody reads it."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from benchmark.errors import UsageError

_PLAIN = re.compile(r"[A-Za-z0-9._/:@+-]{1,80}")


def public_id(name: str) -> str:
    """An id of an example or a cluster for rows that are published: a plain one as it is, of any other its hash, since
    it may be a prompt."""
    return name if _PLAIN.fullmatch(name) else f"sha256:{hashlib.sha256(name.encode()).hexdigest()[:16]}"


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
