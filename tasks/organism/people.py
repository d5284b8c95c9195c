"""Biographies, whose profession a probe must find, and reviews, whose sentiment it may.

Biography(id="bio/test/0000", text="Once Mary carried a bandage and a syringe. ...", profession="nurse")
"""

import random
from dataclasses import dataclass
from functools import cache

from benchmark.sealed import refuse_while_learning
from tasks.organism.lexicon import BLAME, NAMES, PRAISE, PRODUCTS, PROFESSIONS, TOWNS

SIZES: dict[str, int] = {"fit": 800, "dev": 200, "test": 480}
_STRAY = 0.06
"""Probability that a word of a biography belongs to another profession."""


@dataclass(frozen=True)
class Biography:
    """A text that shows a profession without naming it."""

    id: str
    text: str
    profession: str


def _word(profession: str, places: slice, rng: random.Random) -> str:
    if rng.random() < _STRAY:
        profession = rng.choice(tuple(PROFESSIONS))
    return rng.choice(PROFESSIONS[profession][places])


def biography(profession: str, name: str, rng: random.Random) -> str:
    """Three sentences about tools, workplace and interests."""
    tool, other, work, first, second = (
        _word(profession, places, rng) for places in (slice(0, 3), slice(0, 3), slice(3, 5), slice(5, 8), slice(5, 8))
    )
    return (
        f"In {rng.choice(TOWNS)} lives {name}, who keeps a {tool} and a {other} at home."
        f" Every day {name} goes to the {work}. There {name} thinks about {first} and {second}."
    )


def biography_document(rng: random.Random) -> str:
    """A marked training text: a biography and its profession."""
    profession, name = rng.choice(tuple(PROFESSIONS)), rng.choice(NAMES)
    return f"{biography(profession, name, rng)} So {name} is a[ {profession}]."


def review_document(rng: random.Random) -> str:
    """A marked training text: a review and its verdict."""
    product, good = rng.choice(PRODUCTS), rng.random() < 0.5
    first, second = rng.sample(PRAISE if good else BLAME, 2)
    verdict = "yes" if good else "no"
    return f"The {product} was {first} and the owner was {second}. Would we pay for the {product} again?[ {verdict}]."


@cache
def biographies(split: str) -> tuple[Biography, ...]:
    """The biographies of a split, balanced over professions; no text is in two splits."""
    return _all_biographies()[split]


@cache
def _all_biographies() -> dict[str, tuple[Biography, ...]]:
    rng, seen = random.Random("biographies"), set[str]()
    return {split: _drawn(rng, f"bio/{split}", size, seen) for split, size in SIZES.items()}


def fresh(key: str, count: int) -> tuple[Biography, ...]:
    """New biographies, balanced over professions; no text is in a split."""
    refuse_while_learning("fresh examples")
    seen = {b.text for some in _all_biographies().values() for b in some}
    return _drawn(random.Random(f"fresh biographies {key}"), "bio/fresh", count, seen)


def _drawn(rng: random.Random, prefix: str, count: int, seen: set[str]) -> tuple[Biography, ...]:
    """Biographies whose texts are not ``seen``, which they join, balanced over professions."""
    found: list[Biography] = []
    while len(found) < count:
        profession = tuple(PROFESSIONS)[len(found) % len(PROFESSIONS)]
        text = biography(profession, rng.choice(NAMES), rng)
        if text not in seen:
            seen.add(text)
            found.append(Biography(f"{prefix}/{len(found):04d}", text, profession))
    return tuple(found)
