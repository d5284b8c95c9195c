"""Indirect-object identification: who receives, when one of two people acts?

    IoiPrompt(id="ioi/test/0000", text="When Mary and John went to the store, John gave a book to",
              io=" Mary", subject=" John", third=" Clara", template=0, order="ABBA")

After Wang et al. 2023 (https://arxiv.org/abs/2211.00593). The pairs of names of the prompts never meet in training.
"""

import random
from dataclasses import dataclass
from functools import cache
from itertools import combinations

from benchmark.sealed import refuse_while_learning
from tasks.organism.lexicon import NAMES, OBJECTS, PLACES

TEMPLATES: tuple[str, ...] = (
    "When {A} and {B} went to the {place}, {S} gave a {object} to",
    "After {A} and {B} came home from the {place}, {S} handed a {object} to",
    "Then {A} and {B} met at the {place}. {S} passed a {object} to",
    "While {A} and {B} were working at the {place}, {S} showed a {object} to",
    "Yesterday {A} and {B} walked to the {place}. There {S} sold a {object} to",
    "Friends {A} and {B} found a {object} near the {place}. At once {S} offered it to",
    "As {A} and {B} left the {place}, {S} threw a {object} to",
    "Last night {A} and {B} had dinner at the {place}. Afterwards {S} sent a {object} to",
    "In the morning {A} and {B} cleaned the {place}. Later {S} lent a {object} to",
    "Because {A} and {B} were bored at the {place}, {S} told a story to",
    "Once {A} and {B} had reached the {place}, {S} bought a {object} for",
    "Today {A} and {B} are busy in the {place}. So {S} will bring a {object} to",
    "On Monday {A} and {B} argued at the {place}. In the end {S} returned the {object} to",
    "The neighbors {A} and {B} share the {place}. Every week {S} leaves a {object} for",
    "Before {A} and {B} closed the {place}, {S} wrote a note to",
    "Long ago {A} and {B} built the {place}. Now {S} makes a {object} for",
    "Since {A} and {B} like the {place}, {S} carried a {object} to",
    "At the {place} {A} and {B} played all day. With a smile {S} tossed the {object} to",
    "Both {A} and {B} forgot the {object} at the {place}. Soon {S} mailed it to",
    "During a trip to the {place}, {A} and {B} got lost. Quickly {S} waved at",
    "The cousins {A} and {B} painted the {place}. Proudly {S} presented a {object} to",
    "If {A} and {B} visit the {place}, {S} always picks a {object} for",
    "Outside the {place} {A} and {B} waited in the rain. Kindly {S} held a {object} for",
    "One evening {A} and {B} sang at the {place}. Loudly {S} played a drum for",
)
SEQUELS: tuple[str, ...] = (
    " Then {S} gave a {object} to",
    " Later {S} showed a {object} to",
    " Soon {S} bought a {object} for",
    " There {S} waved at",
    " Now {S} told a story to",
    " At once {S} returned the {object} to",
)
"""How a training document goes on, so that it asks the question more than once."""
SIZES: dict[str, int] = {"fit": 192, "dev": 96, "test": 240}


@dataclass(frozen=True)
class IoiPrompt:
    """One prompt, which ends right before the indirect object. Names are tokens with a leading space."""

    id: str
    text: str
    io: str
    subject: str
    third: str
    """A name that the prompt does not mention: the wrong target of the same kind."""
    template: int
    order: str
    """`ABBA`: the indirect object is named first; `BABA`: the subject is."""


@cache
def held_out() -> dict[frozenset[str], None]:
    """The pairs of names that training never sees, one for each prompt, in a fixed random order."""
    pairs = [frozenset(pair) for pair in combinations(NAMES, 2)]
    return dict.fromkeys(random.Random("held out").sample(pairs, sum(SIZES.values())))


def fill(template: str, first: str, second: str, subject: str, rng: random.Random) -> str:
    """A template with its names, and a place and an object drawn from `rng`."""
    return template.format(A=first, B=second, S=subject, place=rng.choice(PLACES), object=rng.choice(OBJECTS))


def document(rng: random.Random) -> str:
    """A marked training text: one template and one to three sequels about the same two people."""
    while frozenset(pair := rng.sample(NAMES, 2)) in held_out():
        pass
    text = ""
    for template in (rng.choice(TEMPLATES), *rng.sample(SEQUELS, rng.randint(1, 3))):
        subject, receiver = rng.sample(pair, 2)
        text += fill(template, pair[0], pair[1], subject, rng) + f"[ {receiver}]."
    return text


@cache
def prompts(split: str) -> tuple[IoiPrompt, ...]:
    """The prompts of a split, balanced over template and order; no text is in two splits."""
    return _all_prompts()[split]


@cache
def _all_prompts() -> dict[str, tuple[IoiPrompt, ...]]:
    rng = random.Random("ioi")
    supply = iter(held_out())
    return {
        split: tuple(_prompt(f"ioi/{split}/{i:04d}", i, next(supply), rng) for i in range(size))
        for split, size in SIZES.items()
    }


def _prompt(identifier: str, number: int, pair: frozenset[str], rng: random.Random) -> IoiPrompt:
    template, order = number // 2 % len(TEMPLATES), ("ABBA", "BABA")[number % 2]
    io, subject = rng.sample(sorted(pair), 2)
    first, second = (io, subject) if order == "ABBA" else (subject, io)
    third = rng.choice([name for name in NAMES if name not in pair])
    text = fill(TEMPLATES[template], first, second, subject, rng)
    return IoiPrompt(identifier, text, f" {io}", f" {subject}", f" {third}", template, order)


def fresh(key: str, count: int) -> tuple[IoiPrompt, ...]:
    """New prompts about pairs of names that training never sees, balanced as the others are; no text is in a split."""
    refuse_while_learning("fresh examples")
    rng, seen = random.Random(f"fresh ioi {key}"), {p.text for some in _all_prompts().values() for p in some}
    pairs, found = tuple(held_out()), []
    while len(found) < count:
        made = _prompt(f"ioi/fresh/{len(found):04d}", len(found), rng.choice(pairs), rng)
        if made.text not in seen:
            seen.add(made.text)
            found.append(made)
    return tuple(found)
