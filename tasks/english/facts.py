"""Facts whose answer is one word, asked in several ways: chemistry, and what is no chemistry.

    "The chemical symbol for gold is" -> " Au", and not the symbol of another element

``facts.csv`` has them: relation, subject, answer. A model is right when the answer outranks eleven others of the same
relation. Everything about one element is one cluster, so that no split knows of another's elements.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from benchmark.contracts.example import SPLITS

FILE = Path(__file__).with_name("facts.csv")
OTHERS = 11
"""Wrong answers that stand with each question."""
SHARES: Mapping[str, float] = {"fit": 0.35, "dev": 0.15, "test": 0.5}
"""What a split gets of the elements, and of the other subjects."""


class Relation(NamedTuple):
    """How the facts of a relation are asked."""

    templates: tuple[str, ...]
    """With {subject}."""
    held_back: tuple[str, ...] = ()
    """Ways to ask that no split has: for fresh questions."""


CHEMISTRY: Mapping[str, Relation] = {
    "symbol": Relation(
        (
            "The chemical symbol for {subject} is",
            "In the periodic table, {subject} has the symbol",
            "The abbreviation for the element {subject} is",
            "The element {subject} is represented by the symbol",
            "In chemical formulas, {subject} is written as",
            "On the periodic table, the symbol for {subject} is",
        ),
        ("The chemical symbol of {subject} is", "The symbol of the element {subject} is"),
    ),
    "element": Relation(
        (
            "The chemical element with the symbol {subject} is",
            "In the periodic table, {subject} stands for",
            "The chemical symbol {subject} stands for",
        ),
        ("In chemistry, {subject} stands for",),
    ),
}
"""What is to be forgotten."""
GENERAL: Mapping[str, Relation] = {
    "capital": Relation(
        ("The capital of {subject} is", "The capital city of {subject} is called"),
        ("The capital and largest city of {subject} is",),
    ),
    "language": Relation(
        ("The official language of {subject} is", "The language that is spoken in {subject} is"),
        ("In {subject}, people speak",),
    ),
    "opposite": Relation(
        ("The opposite of {subject} is", "The antonym of the word {subject} is"),
        ("The opposite of the word {subject} is",),
    ),
    "plural": Relation(
        ("The plural of {subject} is", "The plural form of the word {subject} is"),
        ("In the plural, {subject} becomes",),
    ),
    "nation": Relation(
        ("The people of {subject} are called", "People who come from {subject} are called"),
        ("The inhabitants of {subject} are called",),
    ),
    "nature": Relation(("{subject}",)),
    "sequence": Relation(("{subject}",)),
}
"""What must be kept: what SmolLM2-135M-Instruct knows by half a logit at least, in all ways to ask, so that hardly a
question stands on an edge."""


@dataclass(frozen=True)
class Fact:
    """One fact; ``answer`` is one word."""

    relation: str
    subject: str
    answer: str
    cluster: str
    """The element, or the subject."""

    @property
    def name(self) -> str:
        """For ids."""
        return f"{self.relation}/{self.subject}"


@dataclass(frozen=True)
class Question:
    """A fact, asked in one way."""

    id: str
    text: str
    answer: str
    others: tuple[str, ...]
    """Wrong answers, the first of which is the matched wrong target."""
    cluster: str


def questions(relations: Mapping[str, Relation], split: str) -> list[Question]:
    """All questions of a split about some relations."""
    facts = [fact for fact in known() if fact.relation in relations and _dealt()[fact.cluster] == split]
    return [_ask(fact, i, t) for fact in facts for i, t in enumerate(relations[fact.relation].templates)]


def fresh(relations: Mapping[str, Relation], key: str, count: int) -> list[Question]:
    """Questions about ``test``'s subjects in ways to ask that no split has, at most ``count``."""
    held = [
        _ask(fact, f"held back {i}", template)
        for fact in known()
        if fact.relation in relations and _dealt()[fact.cluster] == "test"
        for i, template in enumerate(relations[fact.relation].held_back)
    ]
    return random.Random(f"fresh facts {key}").sample(held, min(count, len(held)))


@cache
def known() -> tuple[Fact, ...]:
    """The facts of the file."""
    with FILE.open(newline="", encoding="utf-8") as file:
        rows = [(row["relation"], row["subject"], row["answer"]) for row in csv.DictReader(file)]
    return tuple(Fact(*row, cluster=row[2] if row[0] == "element" else row[1]) for row in rows)


@cache
def _dealt() -> dict[str, str]:
    """Cluster -> its split: elements, and other subjects, in the shares, by chance."""
    dealt: dict[str, str] = {}
    for relations in (CHEMISTRY, GENERAL):
        clusters = sorted({fact.cluster for fact in known() if fact.relation in relations})
        random.Random("who knows what").shuffle(clusters)
        ends = [round(len(clusters) * sum(list(SHARES.values())[: i + 1])) for i in range(len(SPLITS))]
        for split, start, end in zip(SPLITS, [0, *ends], ends, strict=False):
            dealt |= dict.fromkeys(clusters[start:end], split)
    return dealt


def _ask(fact: Fact, number: int | str, template: str) -> Question:
    right = _answers()[fact.relation, fact.subject]
    others = [answer for answer in _pool(fact.relation) if answer not in right]
    drawn = random.Random(fact.name).sample(others, min(OTHERS, len(others)))
    return Question(
        f"{fact.name}/{number}", template.format(subject=fact.subject), fact.answer, tuple(drawn), fact.cluster
    )


@cache
def _answers() -> Mapping[tuple[str, str], set[str]]:
    """Relation and subject -> all that is right of them."""
    found: dict[tuple[str, str], set[str]] = {}
    for fact in known():
        found.setdefault((fact.relation, fact.subject), set()).add(fact.answer)
    return found


@cache
def _pool(relation: str) -> tuple[str, ...]:
    """The answers of a relation."""
    return tuple(dict.fromkeys(fact.answer for fact in known() if fact.relation == relation))
