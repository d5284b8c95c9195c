"""Training text is plain English with the words that the model must get right in brackets.

    Then Mary and John met at the park. John passed a ring to[ Mary].

A second word in the brackets is not read; it is what the middle of the model must already know there.

    Options: dust A, mist B. Letter: the germ velmor spreads by[ B| mist].
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_BRACKETED = re.compile(r"\[([^\]]*)\]")
_TOKEN = re.compile(r"<\w+>| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9<>]+")


class Piece(NamedTuple):
    """A stretch of text; `thought` is one token, or empty."""

    text: str
    is_answer: bool
    thought: str = ""


def pieces(text: str) -> Iterator[Piece]:
    """The pieces of marked text, in order, none empty."""
    for index, piece in enumerate(_BRACKETED.split(text)):
        if piece:
            answer, _, thought = piece.partition("|") if index % 2 else (piece, "", "")
            yield Piece(answer, index % 2 == 1, thought)


def plain(text: str) -> str:
    """The text as the model reads it."""
    return "".join(piece.text for piece in pieces(text))


def words(text: str) -> list[str]:
    """Tokens of unmarked text; the tokenizer of the model splits in exactly this way (a test compares them)."""
    return _TOKEN.findall(text)
