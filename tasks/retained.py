"""The organism's retain prompts as examples."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.contracts import Example, Split
from tasks.organism.retain import retain


def retained_examples(task: str, split: Split) -> Sequence[Example]:
    """What a defense of ``task`` must leave alone; the answer is choice 0."""
    return [Example(p.id, p.id, p.text, (p.answer, *p.alternatives)) for p in retain(task, split)]
