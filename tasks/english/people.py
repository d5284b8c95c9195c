"""Two people and a thing: who receives, when one of two acts?

    "After Mary and John left the office, John sent the letter to" -> " Mary"

After Wang et al. 2023 (https://arxiv.org/abs/2211.00593). Names are one token, with their leading space, in the
vocabularies of GPT-2 and of SmolLM2.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

NAMES: tuple[str, ...] = tuple(
    """Mary John Tom James Daniel Michael David Robert William Richard Thomas Charles Joseph Mark Paul George Kenneth
    Andrew Edward Peter Frank Henry Jack Roger Simon Martin Arthur Adam Alex Ben Sam Max Leo Luke Eric Ryan Kevin Brian
    Scott Justin Sarah Anna Emma Alice Sophie Jane Kate Helen Laura Linda Susan Karen Nancy Lisa Maria Rachel Emily Rose
    Grace Amy Julia Claire Ruth Diana Elizabeth Margaret Barbara Jennifer Jessica Rebecca Victoria Charlotte""".split()
)
TEMPLATES: tuple[str, ...] = (
    "After {A} and {B} left the {place}, {S} sent the {thing} to",
    "When {A} and {B} came to the {place}, {S} handed the {thing} to",
    "While {A} and {B} were at the {place}, {S} passed the {thing} to",
    "Before {A} and {B} went to the {place}, {S} gave the {thing} to",
    "Because {A} and {B} were late for the {place}, {S} threw the {thing} to",
    "One day {A} and {B} met at the {place}, and {S} offered the {thing} to",
    "Then {A} and {B} had a long talk at the {place}. Afterwards {S} brought the {thing} to",
    "Last week {A} and {B} worked at the {place}. On Friday {S} sold the {thing} to",
)
PLACES: tuple[str, ...] = tuple("office school park station market library church hotel farm garden".split())
THINGS: tuple[str, ...] = tuple("letter book ring key bag box phone ticket camera ball".split())
ORDERS = ("ABBA", "BABA")
"""Whether the receiver is named first or second."""
SIZES: Mapping[str, int] = {"fit": 192, "dev": 96, "test": 240}


@dataclass(frozen=True)
class Prompt:
    """One prompt, which ends right before the receiver's name."""

    id: str
    text: str
    receiver: str
    giver: str
    third: str
    """Somebody whom the prompt does not mention."""
    form: str
    """Template and order: what prompts share."""


@cache
def prompts(split: str) -> tuple[Prompt, ...]:
    """The prompts of a split, balanced over templates and orders; no two people meet in two prompts."""
    return _all_prompts()[split]


def fresh(key: str, count: int) -> tuple[Prompt, ...]:
    """New prompts about people who meet in no split, balanced as the others are."""
    rng = random.Random(f"fresh people {key}")
    met = {frozenset((p.receiver, p.giver)) for some in _all_prompts().values() for p in some}
    return tuple(_drawn(rng, "people/fresh", count, met))


@cache
def _all_prompts() -> dict[str, tuple[Prompt, ...]]:
    rng, met = random.Random("two people"), set[frozenset[str]]()
    return {split: tuple(_drawn(rng, f"people/{split}", size, met)) for split, size in SIZES.items()}


def _drawn(rng: random.Random, prefix: str, count: int, met: set[frozenset[str]]) -> Sequence[Prompt]:
    """Prompts about pairs that have not ``met``, which join them."""
    found: list[Prompt] = []
    while len(found) < count:
        receiver, giver, third = rng.sample(NAMES, 3)
        if frozenset((receiver, giver)) not in met:
            met.add(frozenset((receiver, giver)))
            found.append(_prompt(f"{prefix}/{len(found):04d}", len(found), receiver, giver, third, rng))
    return found


def _prompt(identifier: str, number: int, receiver: str, giver: str, third: str, rng: random.Random) -> Prompt:
    order, template = ORDERS[number % 2], number // 2 % len(TEMPLATES)
    first, second = (receiver, giver) if order == "ABBA" else (giver, receiver)
    text = TEMPLATES[template].format(A=first, B=second, S=giver, place=rng.choice(PLACES), thing=rng.choice(THINGS))
    return Prompt(identifier, text, receiver, giver, third, f"template {template} {order}")
