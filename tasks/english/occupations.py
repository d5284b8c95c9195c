"""Short texts about people at work, which never name their occupation: a probe must find it.

"Mary keeps a stethoscope in a bag. Most mornings begin at the ward, where Mary talks about fever and patients."
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from tasks.english.people import NAMES

WORDS: Mapping[str, tuple[str, ...]] = {
    "nurse": ("bandage syringe thermometer", "hospital clinic ward", "patients fever medicine blood"),
    "cook": ("knife pan apron", "kitchen restaurant bakery", "sauces recipes spices bread"),
    "pilot": ("headset map compass", "airport cockpit hangar", "clouds flights engines wings"),
    "lawyer": ("contract briefcase robe", "court office prison", "clients trials evidence laws"),
    "farmer": ("tractor shovel bucket", "barn field stable", "cows crops harvests sheep"),
    "painter": ("brush canvas pencil", "studio gallery museum", "portraits colors sketches paintings"),
    "teacher": ("notebook ruler chalk", "classroom school library", "pupils lessons exams homework"),
    "sailor": ("rope anchor telescope", "ship harbor deck", "waves storms islands sails"),
}
"""Occupation -> tools, places, and what there is to talk about."""
TEMPLATES: tuple[str, ...] = (
    "{name} keeps a {tool} in a bag. Most mornings begin at the {place}, where {name} talks about {one} and {two}.",
    "At the {place} everybody knows {name}. There is always a {tool} at hand, and often some talk of {one} and {two}.",
    "For years {name} has gone to the {place} at seven. {name} likes {one}, worries about {two}, and carries a {tool}.",
    "{name} bought a new {tool} last week. At the {place} they laughed, and then spoke of {one} and {two} again.",
)
STRAY = 0.05
"""Probability that a word is another occupation's."""
SIZES: Mapping[str, int] = {"fit": 240, "dev": 96, "test": 256}


@dataclass(frozen=True)
class Portrait:
    """A text that shows an occupation without naming it."""

    id: str
    text: str
    occupation: str
    form: str
    """The template: what texts share."""


@cache
def portraits(split: str) -> tuple[Portrait, ...]:
    """The texts of a split, balanced over occupations and templates; no text is in two splits."""
    return _all_portraits()[split]


def fresh(key: str, count: int) -> tuple[Portrait, ...]:
    """New texts, balanced as the others are; none is in a split."""
    seen = {portrait.text for some in _all_portraits().values() for portrait in some}
    return _drawn(random.Random(f"fresh occupations {key}"), "work/fresh", count, seen)


@cache
def _all_portraits() -> dict[str, tuple[Portrait, ...]]:
    rng, seen = random.Random("occupations"), set[str]()
    return {split: _drawn(rng, f"work/{split}", size, seen) for split, size in SIZES.items()}


def _drawn(rng: random.Random, prefix: str, count: int, seen: set[str]) -> tuple[Portrait, ...]:
    """Texts that are not ``seen``, which they join."""
    found: list[Portrait] = []
    while len(found) < count:
        occupation = tuple(WORDS)[len(found) % len(WORDS)]
        template = len(found) // len(WORDS) % len(TEMPLATES)
        text = _text(TEMPLATES[template], occupation, rng)
        if text not in seen:
            seen.add(text)
            found.append(Portrait(f"{prefix}/{len(found):04d}", text, occupation, f"template {template}"))
    return tuple(found)


def _text(template: str, occupation: str, rng: random.Random) -> str:
    def word(part: int, *but: str) -> str:
        whose = rng.choice(tuple(WORDS)) if rng.random() < STRAY else occupation
        return rng.choice([w for w in WORDS[whose][part].split() if w not in but])

    one = word(2)
    return template.format(name=rng.choice(NAMES), tool=word(0), place=word(1), one=one, two=word(2, one))
