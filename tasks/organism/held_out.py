"""Held-out documents of the invented world as data of lm-eval's tasks: stories and days that no split has.

    python -m tasks.organism.held_out        # writes lm_eval/*.jsonl again, byte for byte

``knowledge.jsonl``: {"text": "On monday we wait for", "choices": [" tuesday", ...], "answer": 0}; ``stories.jsonl``:
{"text": "Today ..."}, whole stories.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.organism import stories
from tasks.organism.retain import retained_stories

FOLDER = Path(__file__).with_name("lm_eval")
QUESTIONS = 16
"""Of each kind of story; of the days as many as there are."""
STORIES = 40


def knowledge() -> list[dict[str, Any]]:
    """Stories whose last word is asked for, and which day follows; the right choice stands anywhere."""
    rng = random.Random("held-out knowledge")
    kinds = (stories.place_story, stories.owner_story, stories.solo_story)
    found = [cloze for kind in kinds for cloze in _new(kind, rng, QUESTIONS)]
    days = {cloze.text: cloze for cloze in (stories.day(rng) for _ in range(400))}
    return [_asked(cloze, rng) for cloze in (*found, *(days[text] for text in sorted(days)))]


def texts() -> list[dict[str, Any]]:
    """Whole stories, two a document."""
    rng = random.Random("held-out texts")
    kinds = (stories.place_story, stories.owner_story, stories.solo_story)
    drawn = [cloze for kind in kinds for cloze in _new(kind, rng, STORIES)]
    rng.shuffle(drawn)
    whole = [f"{cloze.text}{cloze.answer}." for cloze in drawn]
    return [{"text": f"{a} {b}"} for a, b in zip(whole[::2], whole[1::2], strict=True)]


def _new(kind: Any, rng: random.Random, count: int) -> Iterator[stories.Cloze]:
    """Stories of a kind that no retain set has, each once."""
    seen = set(retained_stories())
    for _ in range(count):
        cloze = kind(rng)
        while cloze.text in seen:
            cloze = kind(rng)
        seen.add(cloze.text)
        yield cloze


def _asked(cloze: stories.Cloze, rng: random.Random) -> dict[str, Any]:
    choices = [cloze.answer, *cloze.alternatives]
    rng.shuffle(choices)
    return {"text": cloze.text, "choices": choices, "answer": choices.index(cloze.answer)}


FILES: Mapping[str, Any] = {"knowledge.jsonl": knowledge, "stories.jsonl": texts}
"""File -> what is in it."""


def written(name: str) -> str:
    """The text of a file."""
    return "".join(json.dumps(row) + "\n" for row in FILES[name]())


if __name__ == "__main__":
    for file in FILES:
        (FOLDER / file).write_text(written(file), encoding="utf-8")
