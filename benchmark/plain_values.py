"""Plain values, as YAML 1.2 and JSON have them in common: their bounds, what an unquoted text is, how one is shown."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from benchmark.errors import UsageError

MOST_BYTES = 262_144
"""Of a file; the largest suite that ships has some 10,000."""
MOST_NESTED = 40
"""Lists and mappings within each other."""
MOST_DIGITS = 40
"""Of a number."""
UNREADABLE = {"\0": "a NUL byte", "\ufeff": "a byte-order mark within the text"}
"""Characters that are never text."""
SHOWN = 60
"""Characters of a value that a message shows."""

Place = tuple[str | int, ...]
"""Keys and indices from the top of a document to a value."""

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {text: text.lower() == "true" for text in ("true", "True", "TRUE", "false", "False", "FALSE")}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|0|[1-9][0-9]*)([eE][-+]?[0-9]+)?")
_DOUBTFUL = {
    "true or false": re.compile(r"yes|no|on|off", re.IGNORECASE),
    "a number that is not finite": re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE),
    "a number in another base": re.compile(r"[-+]?(0[0-9_]+|0[xob][0-9a-fA-F_]+)"),
    "a number with grouped digits": re.compile(r"[-+]?[0-9.][0-9_.]*_[0-9_.]*([eE][-+]?[0-9_]+)?"),
    "hours and minutes": re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"),
    "a date": re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?"),
    "a key that merges mappings": re.compile(r"<<|="),
}


class Document(NamedTuple):
    """What a file says."""

    value: Any
    lines: Mapping[Place, int]
    """Line of every value, from 1; of JSON none are known."""

    def line(self, place: Place) -> int | None:
        """Line of a value, or of what is around it."""
        known = (self.lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self.lines)
        return next(known, None)


def shown(value: Any) -> str:
    """A value as a message shows it, cut short."""
    try:
        text = repr(value)
    except Exception as error:  # anybody's object
        text = f"{type(value).__name__} ({type(error).__name__} when shown)"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def refuse_unreadable(text: str, where: str) -> None:
    """Text that no file and no terminal could hold."""
    for at, character in enumerate(text):
        if character in UNREADABLE or "\ud800" <= character <= "\udfff":
            what = UNREADABLE.get(character, "a character that is not UTF-8")
            raise UsageError(f"{where}: line {text.count(chr(10), 0, at) + 1} has {what}; take it out")
    if len(text) > MOST_BYTES:
        raise UsageError(f"{where} is longer than {MOST_BYTES} characters; write less")


def plain(text: str) -> Any:
    """What an unquoted scalar is.

    Raises:
        ValueError: readers of YAML do not agree, or it is a number out of bounds.
    """
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    for what, pattern in _DOUBTFUL.items():
        if pattern.fullmatch(text):
            raise ValueError(
                f"{shown(text)[1:-1]} is {what} to some readers of YAML; write a plain decimal number, true or false, "
                "or quote it if it is text"
            )
    return number(text) if _FLOAT.fullmatch(text) else text


def number(text: str) -> int | float:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"the number {shown(text)[1:-1]} has more than {MOST_DIGITS} digits; quote it if it is text")
    if _INT.fullmatch(text):
        return int(text)
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number; write a smaller one, or quote it if it is text")
    return value
