"""English that no split has as data of lm-eval's tasks: general facts, asked otherwise, and texts about people at work.

    python -m tasks.english.held_out        # writes lm_eval/*.jsonl again, byte for byte

``facts.jsonl``: {"text": "In Spain, people speak", "choices": [" Spanish", ...], "answer": 0}; ``portraits.jsonl``:
{"text": "Mary keeps ..."}.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tasks.english import facts, occupations

FOLDER = Path(__file__).with_name("lm_eval")
QUESTIONS, PORTRAITS = 80, 40


def general() -> list[dict[str, Any]]:
    """Facts that are not chemistry, in ways to ask that no split has; the right choice stands anywhere."""
    rng = random.Random("held-out facts")
    return [_asked(question, rng) for question in facts.fresh(facts.GENERAL, "held out", QUESTIONS)]


def portraits() -> list[dict[str, Any]]:
    """Texts about people at work."""
    return [{"text": portrait.text} for portrait in occupations.fresh("held out", PORTRAITS)]


def _asked(question: facts.Question, rng: random.Random) -> dict[str, Any]:
    choices = [f" {word}" for word in (question.answer, *question.others)]
    rng.shuffle(choices)
    return {"text": question.text, "choices": choices, "answer": choices.index(f" {question.answer}")}


FILES: Mapping[str, Callable[[], list[dict[str, Any]]]] = {"facts.jsonl": general, "portraits.jsonl": portraits}
"""File -> what is in it."""


def written(name: str) -> str:
    """The text of a file."""
    return "".join(json.dumps(row) + "\n" for row in FILES[name]())


if __name__ == "__main__":
    for file in FILES:
        (FOLDER / file).write_text(written(file), encoding="utf-8")
