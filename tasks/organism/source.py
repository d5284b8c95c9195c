"""The organism as a source of data: ``organism:ITEM``, in the columns of the kinds of tasks, with splits of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmark.registry import register_source
from tasks.data.items import records_of
from tasks.organism import chat, facts, ioi, people, retain

Record = Mapping[str, Any]


@register_source("organism")
def records(item: str) -> Sequence[Record]:
    """The records of an item, all splits.

    Raises:
        UsageError: there is no such item.
    """
    return records_of("organism", ITEMS, item)


def fresh(item: str, key: str, count: int) -> Sequence[Record]:
    """New records of an item, like those of its ``test`` and in no split; none: it makes none."""
    return FRESH[item](key, count) if item in FRESH else ()


records.fresh = fresh  # type: ignore[attr-defined]


def _ioi(split: str) -> list[Record]:
    return _as_ioi(ioi.prompts(split))


def _as_ioi(prompts: Sequence[ioi.IoiPrompt]) -> list[Record]:
    return [
        {
            "id": prompt.id,
            "template": f"template {prompt.template} {prompt.order}",
            "prompt": prompt.text,
            "receiver": prompt.io.strip(),
            "giver": prompt.subject.strip(),
            "third": prompt.third.strip(),
        }
        for prompt in prompts
    ]


def _questions(split: str) -> list[Record]:
    """Wrong targets: first the value that is true in no domain. Those of the other domains are what a clamp of the
    hazardous one drives the model to, and so no neutral control."""
    return [
        {
            "id": question.id,
            "question": question.stem,
            "choices": [question.gold, *question.distractors],
            "answer": question.gold,
            "wrong": [question.option(i) for i in (3, 1, 2)],
        }
        for question in facts.questions(split, "hazard")
    ]


def _retained(task: str) -> Callable[[str], list[Record]]:
    def rows(split: str) -> list[Record]:
        return [
            {
                "id": prompt.id,
                "question": prompt.text,
                "choices": [word.strip() for word in (prompt.answer, *prompt.alternatives)],
                "answer": prompt.answer.strip(),
                "wrong": [prompt.alternatives[0].strip()],
            }
            for prompt in retain.retain(task, split)
        ]

    return rows


def _requests(kind: str, *, long: bool = False) -> Callable[[str], list[Record]]:
    """Cluster: thing and form of the request."""

    def rows(split: str) -> list[Record]:
        return _as_requests(chat.chats(split, kind, long))

    return rows


def _as_requests(chats: Sequence[chat.ChatPrompt]) -> list[Record]:
    return [{"id": prompt.id, "cluster": prompt.request, "prompt": prompt.text} for prompt in chats]


def _biographies(split: str) -> list[Record]:
    return _as_biographies(people.biographies(split))


def _as_biographies(biographies: Sequence[people.Biography]) -> list[Record]:
    return [{"id": bio.id, "text": bio.text, "label": bio.profession} for bio in biographies]


ITEMS: Mapping[str, Callable[[str], list[Record]]] = {
    "ioi": _ioi,
    "retain-ioi": _retained("ioi"),
    "questions": _questions,
    "retain-questions": _retained("unlearning"),
    "requests": _requests("permitted"),
    "harmless": _requests("harmless"),
    "long-requests": _requests("permitted", long=True),
    "long-harmless": _requests("harmless", long=True),
    "biographies": _biographies,
}
"""Item -> its records of a split."""

FRESH: Mapping[str, Callable[[str, int], list[Record]]] = {
    "ioi": lambda key, count: _as_ioi(ioi.fresh(key, count)),
    "requests": lambda key, count: _as_requests(chat.fresh(key, count)),
    "biographies": lambda key, count: _as_biographies(people.fresh(key, count)),
}
"""Item -> new records of a key. The questions are of a closed world: a task asks them anew in other orders."""
