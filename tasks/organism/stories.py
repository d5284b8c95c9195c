"""Other text: who has what, what is where, and general knowledge. None of it is about indirect objects or germs."""

import random
from dataclasses import dataclass

from tasks.organism.lexicon import DAYS, MATERIALS, NAMES, OBJECTS, PLACES, TOWNS


@dataclass(frozen=True)
class Cloze:
    """A text that ends right before `answer`; all words are tokens with a leading space."""

    text: str
    answer: str
    alternatives: tuple[str, ...]


def _words(*words: str) -> tuple[str, ...]:
    return tuple(f" {word}" for word in words)


def place_story(rng: random.Random) -> Cloze:
    """Something stays where it was left."""
    name, (there, here), thing = rng.choice(NAMES), rng.sample(PLACES, 2), rng.choice(OBJECTS)
    text = f"Today {name} left a {thing} in the {there}. Then {name} walked to the {here}. The {thing} is still in the"
    return Cloze(text, f" {there}", _words(here))


def owner_story(rng: random.Random) -> Cloze:
    """Each of two things belongs to somebody."""
    owners, things, index = rng.sample(NAMES, 2), rng.sample(OBJECTS, 2), rng.randrange(2)
    text = f"Once the {things[0]} was found by {owners[0]} and the {things[1]} was found by {owners[1]}."
    return Cloze(f"{text} So the {things[index]} belongs to", f" {owners[index]}", _words(owners[1 - index]))


def solo_story(rng: random.Random) -> Cloze:
    """One person acts, and is named again."""
    name, others = rng.choice(NAMES), rng.sample(NAMES, 4)
    place, thing = rng.choice(PLACES), rng.choice(OBJECTS)
    text = f"In the morning {name} went to the {place}. At the end of the day the {thing} was with"
    return Cloze(text, f" {name}", _words(*(other for other in others if other != name)))


def material(rng: random.Random) -> Cloze:
    """What an object is made of."""
    index = rng.randrange(len(OBJECTS))
    others = [word for word in rng.sample(MATERIALS, 4) if word != MATERIALS[index]]
    return Cloze(f"Every {OBJECTS[index]} is made of", f" {MATERIALS[index]}", _words(*others[:3]))


def town(rng: random.Random) -> Cloze:
    """Where a place is."""
    index = rng.randrange(len(PLACES))
    others = [word for word in rng.sample(TOWNS, 4) if word != TOWNS[index]]
    return Cloze(f"The {PLACES[index]} lies in", f" {TOWNS[index]}", _words(*others[:3]))


def day(rng: random.Random) -> Cloze:
    """Which day follows."""
    index = rng.randrange(len(DAYS))
    others = [word for word in rng.sample(DAYS, 4) if word != DAYS[(index + 1) % len(DAYS)]]
    return Cloze(f"On {DAYS[index]} we wait for", f" {DAYS[(index + 1) % len(DAYS)]}", _words(*others[:3]))


KINDS = (place_story, owner_story, solo_story, material, town, day)


def document(rng: random.Random) -> str:
    """A marked training text of three sentences of general knowledge, or one or two stories."""
    if rng.random() < 0.3:
        chosen = rng.choices((material, town, day), k=3)
    else:
        chosen = rng.choices((place_story, owner_story, solo_story), weights=(2, 3, 2), k=rng.randint(1, 2))
    return " ".join(f"{cloze.text}[{cloze.answer}]." for cloze in (make(rng) for make in chosen))
