"""Plain English as a source of data: ``english:ITEM``, in the columns of the kinds of tasks, with splits of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmark.registry import register_source
from benchmark.sealed import refuse_while_learning
from tasks.data.items import records_of
from tasks.english import facts, occupations, people, programs

Record = Mapping[str, Any]


@register_source("english")
def records(item: str) -> Sequence[Record]:
    """The records of an item, all splits.

    Raises:
        UsageError: there is no such item.
    """
    return records_of("english", ITEMS, item)


def fresh(item: str, key: str, count: int) -> Sequence[Record]:
    """New records of an item, like those of its ``test`` and in no split; none: it makes none."""
    refuse_while_learning("fresh examples")
    return FRESH[item](key, count) if item in FRESH else ()


records.fresh = fresh  # type: ignore[attr-defined]


def _people(prompts: Sequence[people.Prompt]) -> list[Record]:
    return [
        {
            "id": prompt.id,
            "template": prompt.form,
            "prompt": prompt.text,
            "receiver": prompt.receiver,
            "giver": prompt.giver,
            "third": prompt.third,
        }
        for prompt in prompts
    ]


def _questions(asked: Sequence[facts.Question]) -> list[Record]:
    return [
        {
            "id": question.id,
            "question": question.text,
            "choices": [question.answer, *question.others],
            "answer": question.answer,
            "wrong": [question.others[0]],
            "cluster": question.cluster,
        }
        for question in asked
    ]


def _portraits(texts: Sequence[occupations.Portrait]) -> list[Record]:
    return [{"id": p.id, "text": p.text, "label": p.occupation, "cluster": p.form} for p in texts]


def _requests(asked: Sequence[programs.Request]) -> list[Record]:
    return [{"id": r.id, "prompt": r.text, "cluster": r.about} for r in asked]


ITEMS: Mapping[str, Callable[[str], list[Record]]] = {
    "people": lambda split: _people(people.prompts(split)),
    "chemistry": lambda split: _questions(facts.questions(facts.CHEMISTRY, split)),
    "general": lambda split: _questions(facts.questions(facts.GENERAL, split)),
    "occupations": lambda split: _portraits(occupations.portraits(split)),
    "programs": lambda split: _requests(programs.programs(split)),
    "explanations": lambda split: _requests(programs.explanations(split)),
}
"""Item -> its records of a split."""

FRESH: Mapping[str, Callable[[str, int], list[Record]]] = {
    "people": lambda key, count: _people(people.fresh(key, count)),
    "chemistry": lambda key, count: _questions(facts.fresh(facts.CHEMISTRY, key, count)),
    "occupations": lambda key, count: _portraits(occupations.fresh(key, count)),
}
"""Item -> new records of a key."""
