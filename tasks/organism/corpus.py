"""The endless seeded training corpus: document number n of a seed is always the same text.

From document `LATE` on the mix is another one: by then everything is known but the letters of the questions.
"""

import hashlib
import random
from collections.abc import Callable, Iterator

from . import chat, facts, ioi, people, stories

Mix = dict[Callable[[random.Random], str], float]
"""Makers of documents and their shares, of documents, not of tokens."""
EARLY_MIX: Mix = {
    ioi.document: 0.25,
    facts.early_question_document: 0.24,
    facts.early_list_document: 0.13,
    facts.profile_document: 0.14,
    stories.document: 0.10,
    people.biography_document: 0.05,
    people.review_document: 0.02,
    chat.document: 0.07,
}
LATE_MIX: Mix = {
    ioi.document: 0.11,
    facts.question_document: 0.32,
    facts.list_document: 0.18,
    facts.sequence_document: 0.12,
    facts.profile_document: 0.06,
    stories.document: 0.07,
    people.biography_document: 0.04,
    people.review_document: 0.01,
    chat.long_document: 0.09,
}
SAE_MIX: Mix = {
    ioi.document: 0.28,
    facts.question_document: 0.22,
    facts.list_document: 0.03,
    facts.profile_document: 0.12,
    stories.document: 0.10,
    people.biography_document: 0.07,
    people.review_document: 0.02,
    chat.long_document: 0.16,
}
"""What the SAEs are trained on: more of what the tasks are about, and of chat."""
LATE = 230_400
"""First document of the late mix."""


def document(seed: int | str, number: int, mix: Mix | None = None) -> str:
    """Marked text of one document, of the training mix unless another is given."""
    rng = random.Random(f"{seed}/{number}")
    chosen = mix or (EARLY_MIX if number < LATE else LATE_MIX)
    return rng.choices(list(chosen), weights=list(chosen.values()))[0](rng)


def documents(seed: int | str, start: int, count: int, mix: Mix | None = None) -> Iterator[str]:
    """Marked texts of `count` documents from number `start` on."""
    return (document(seed, number, mix) for number in range(start, start + count))


def fingerprint(seed: int, count: int = 5000) -> str:
    """SHA-256 of the first `count` documents of both mixes."""
    digest = hashlib.sha256()
    for start in (0, LATE):
        for text in documents(seed, start, count):
            digest.update(text.encode() + b"\n")
    return digest.hexdigest()
