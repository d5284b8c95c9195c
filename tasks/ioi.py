"""Indirect-object identification on the model organism (Wang et al. 2023, arXiv 2211.00593; METHOD section 6).

    "When Mary and John went to the store, John gave a book to" -> " Mary" outranks " John"

The wrong target is a third name that the prompt does not mention.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from benchmark.choices import choice_margin, encode_choices
from benchmark.contracts import Batch, Encoded, Example, Split, Task, Verdict
from benchmark.registry import register_task
from tasks.organism.ioi import prompts
from tasks.retained import retained_examples

RECEIVER, GIVER, THIRD = range(3)


@register_task("ioi")
class Ioi(Task):
    """Behavior: logit of the receiver minus logit of the giver is above 0."""

    def examples(self, split: Split) -> Sequence[Example]:
        return [
            Example(p.id, f"template {p.template} {p.order}", p.text, (p.io, p.subject, p.third), RECEIVER, (THIRD,))
            for p in prompts(split)
        ]

    def encode(self, tokenizer: Any, example: Example) -> Encoded:
        return encode_choices(tokenizer, example)

    def verdict(self, read: Tensor, batch: Batch) -> Verdict:
        if batch.goal == "wrong":
            margin = choice_margin(read, batch.target)
            return Verdict(["third" if m > 0 else "named" for m in margin.tolist()], margin)
        margin = read[:, RECEIVER] - read[:, GIVER]
        return Verdict(["receiver" if m > 0 else "giver" for m in margin.tolist()], margin)

    def retain(self, split: Split) -> Sequence[Example]:
        return retained_examples("ioi", split)
