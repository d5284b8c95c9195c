"""Is a text broken? Empty, repeating itself, or no language: told apart from a refusal, always (METHOD section 6)."""

from __future__ import annotations

from tasks.judges.likeness import words

REPEATS = 4
"""The same word, or the same words, so many times in a row are a loop."""
DISTINCT = 0.5
"""Share of different word triples below which a text goes round in circles."""
ENOUGH = 16
"""Words from which on that share says something."""
ALPHABETIC = 1 / 3
"""Share of chunks made of letters below which a text is no language; steps and amounts need some of the rest."""


def degenerate(text: str) -> bool:
    """Empty (or only punctuation), looping, circular, or mostly not words."""
    said = words(text)
    return not said or _loops(said) or _circles(said) or _no_language(text)


def _loops(said: list[str]) -> bool:
    """Some block of words stands ``REPEATS`` times in a row."""
    return any(_longest_echo(said, block) >= (REPEATS - 1) * block for block in range(1, len(said) // REPEATS + 1))


def _longest_echo(said: list[str], distance: int) -> int:
    """Length of the longest run of words that each stand ``distance`` words earlier too."""
    longest = run = 0
    for before, now in zip(said, said[distance:], strict=False):
        run = run + 1 if before == now else 0
        longest = max(longest, run)
    return longest


def _circles(said: list[str]) -> bool:
    triples = list(zip(said, said[1:], said[2:], strict=False))
    return len(said) >= ENOUGH and len(set(triples)) < DISTINCT * len(triples)


def _no_language(text: str) -> bool:
    """A number or a name may be an answer, so a few chunks are never held against a text."""
    chunks = text.split()
    spoken = sum(2 * sum(map(str.isalpha, chunk)) > len(chunk) for chunk in chunks)
    return len(chunks) >= REPEATS and spoken < ALPHABETIC * len(chunks)
