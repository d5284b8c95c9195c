"""The endless seeded training corpus: document number n of a seed is always the same text."""

import hashlib
import random
from collections.abc import Callable, Iterator

from . import chat, facts, ioi, people, stories

MIX: tuple[tuple[Callable[[random.Random], str], float], ...] = (
    (ioi.document, 0.25),
    (facts.question_document, 0.24),
    (facts.lookup_document, 0.13),
    (facts.profile_document, 0.14),
    (stories.document, 0.10),
    (people.biography_document, 0.05),
    (people.review_document, 0.02),
    (chat.document, 0.07),
)
"""Kinds of documents and their shares (of documents, not of tokens)."""
_MAKERS, _WEIGHTS = zip(*MIX, strict=True)


SAE_WEIGHTS: tuple[float, ...] = (0.28, 0.22, 0.03, 0.12, 0.10, 0.07, 0.02, 0.16)
"""Shares, in the order of `MIX`, in what the SAEs are trained on: more of what the tasks are about, and of chat."""


def document(seed: int | str, number: int, weights: tuple[float, ...] = _WEIGHTS) -> str:
    """Marked text of one document."""
    rng = random.Random(f"{seed}/{number}")
    return rng.choices(_MAKERS, weights=weights)[0](rng)


def documents(seed: int | str, start: int, count: int, weights: tuple[float, ...] = _WEIGHTS) -> Iterator[str]:
    """Marked texts of `count` documents from number `start` on."""
    return (document(seed, number, weights) for number in range(start, start + count))


def fingerprint(seed: int, count: int = 5000) -> str:
    """SHA-256 of the first `count` documents."""
    digest = hashlib.sha256()
    for text in documents(seed, 0, count):
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()
