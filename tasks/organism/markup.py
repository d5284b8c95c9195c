"""Training text is plain English with the words that the model must get right in brackets.

Then Mary and John met at the park. John passed a ring to[ Mary].
"""

import re
from collections.abc import Iterator

_BRACKETED = re.compile(r"\[([^\]]*)\]")
_TOKEN = re.compile(r"<\w+>| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9<>]+")


def pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Split marked text into (text, is an answer) pieces, in order, none empty."""
    for index, piece in enumerate(_BRACKETED.split(text)):
        if piece:
            yield piece, index % 2 == 1


def plain(text: str) -> str:
    """The text without its brackets."""
    return _BRACKETED.sub(r"\1", text)


def words(text: str) -> list[str]:
    """Tokens of unmarked text; the tokenizer of the model splits in exactly this way (a test compares them)."""
    return _TOKEN.findall(text)
