"""The endless seeded training corpus: document number n of a seed is always the same text."""

import hashlib
import random
from collections.abc import Callable, Iterator

from tasks.organism import chat, facts, ioi, people, stories

Mix = dict[Callable[[random.Random], str], float]
"""Makers of documents and their shares, of documents, not of tokens."""
MIX: Mix = {
    ioi.document: 0.20,
    facts.question_document: 0.36,
    facts.profile_document: 0.08,
    stories.document: 0.12,
    people.biography_document: 0.07,
    people.review_document: 0.02,
    chat.document: 0.15,
}
SAE_MIX: Mix = {
    ioi.document: 0.28,
    facts.question_document: 0.18,
    facts.profile_document: 0.08,
    stories.document: 0.12,
    people.biography_document: 0.10,
    people.review_document: 0.02,
    chat.document: 0.22,
}
"""What the SAEs are trained on: more of what the tasks are about, and of chat."""


def document(seed: int | str, number: int, mix: Mix | None = None) -> str:
    """Marked text of one document, of the training mix unless another is given."""
    rng = random.Random(f"{seed}/{number}")
    chosen = mix or MIX
    return rng.choices(list(chosen), weights=list(chosen.values()))[0](rng)


def documents(seed: int | str, start: int, count: int, mix: Mix | None = None) -> Iterator[str]:
    """Marked texts of `count` documents from number `start` on."""
    return (document(seed, number, mix) for number in range(start, start + count))


def fingerprint(seed: int, count: int = 5000) -> str:
    """SHA-256 of the first `count` documents."""
    digest = hashlib.sha256()
    for text in documents(seed, 0, count):
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()
