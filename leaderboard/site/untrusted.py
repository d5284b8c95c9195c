"""What a submission says, made harmless: text, addresses, and data for scripts."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Controls, marks of direction, and what has no width: with them a text looks like another, or turns what follows."""
UNSEEN = "\ufffd"
"""What is shown in their place."""


def printable(text: str) -> str:
    """The text with a sign for each character that cannot be seen; a line break is a space."""
    return _UNSEEN.sub(UNSEEN, re.sub(r"\s*[\r\n]\s*", " ", text))


def web_address(address: str | None) -> str | None:
    """An address that may be a link; null: it is none of http or https."""
    if address is None or _UNSEEN.search(address) or " " in address:
        return None
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    return address if parts.scheme in ("http", "https") and parts.hostname else None


def quoted(argument: str) -> str:
    """As a shell takes it."""
    return shlex.quote(printable(argument))


def script_data(value: object) -> str:
    """JSON that is also safe inside a script element."""
    return json.dumps(_printable_all(value), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _printable_all(value: object) -> object:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(str(key)): _printable_all(one) for key, one in value.items()}
    if isinstance(value, Sequence):
        return [_printable_all(one) for one in value]
    return value
