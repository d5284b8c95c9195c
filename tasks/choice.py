"""Questions with choices, answered by word or by letter, on anybody's data.

    question,choice_0,choice_1,choice_2,choice_3,answer
    "as a germ, velmor spreads by",mist,dust,snow,hail,mist

    "Options: dust A, mist B, snow C, hail D. Word: as a germ, velmor spreads by" -> " mist"

Where the options are shown, a question counts only if the undefended model is right on all orders of them (METHOD
section 6). Unit: (question, order). The matched wrong target is the first choice of the column ``wrong``, else any
other one: what a defense drives the model to is no neutral control.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from benchmark.contracts.example import SPLITS, Example, Split
from benchmark.contracts.readout import Criteria, Verdict, choice_margin
from benchmark.errors import UsageError
from benchmark.readouts.choices import Choices
from benchmark.registry import register_task
from tasks.data import Data, DataTask, Examples, Sets
from tasks.questions import COLUMNS, Form, Question, question_of, read_questions, retained

MOST_ORDERS = 120
"""Orders of a question that the undefended model may have to get right: those of five choices."""


@register_task("choice")
@dataclass(frozen=True, eq=False, kw_only=True)
class Choice(DataTask):
    """Behavior: the right choice outranks all others.

    Columns: question; choices, a list or a column each; answer, the text of a choice, its letter or its index; and, if
    there are, wrong (choices by preference), cluster (default: the question), id, split.
    """

    data: Data
    """Where its examples come from: source, columns, filters, splits, shares, shared_clusters, limit."""
    form: Form = field(default_factory=Form)
    """How a question is put: template, option, separator, answer_by, letters, leading_space, answer_is."""
    retain_data: Data | None = None
    """Questions that a selective defense leaves alone; the same columns."""
    retain_form: Form | None = None
    """How those are put; None: as the others."""
    score: Literal["sum", "mean"] = "sum"
    """Of choices of several tokens: their log-probability, or that over the number of tokens."""
    orders: Mapping[Split, Annotated[int, Field(ge=1)]] = field(default_factory=lambda: {"fit": 2, "dev": 4, "test": 3})
    """Orders of a question's options that are examples, taken evenly from all, others from question to question."""
    all_orders: bool = True
    """A question counts only if the undefended model is right on all orders of its options."""

    def __post_init__(self) -> None:
        missing = [split for split in SPLITS if split not in self.orders]
        if missing:
            raise UsageError(
                f"`orders` says nothing of {', '.join(missing)}; write orders: {{fit: 2, dev: 4, test: 3}}"
            )

    @cached_property
    def readout(self) -> Choices:
        return Choices(self.score)

    def prerequisites(self, example: Example) -> Sequence[Example]:
        question = self._asked.get(example.id.rpartition("/")[0]) if self.form.shows_options else None
        if question is None:  # of the retain set, or without an order
            return ()
        number = self.form.orders(question)
        return [self.form.example(question, i) for i in range(number)] if self.all_orders and number > 1 else ()

    def fresh(self, key: str, count: int) -> Sequence[Example]:
        """Questions of ``test`` with their options in orders in which no example shows them; where options have no
        order, those that the source makes anew."""
        if not self.form.shows_options:
            made = self.data.fresh(COLUMNS, lambda row: question_of(row, self.form), key, count)
            return [self.form.example(question, 0) for question in made]
        shown = {example.id for example in self.examples("test")}
        turned = [
            self.form.example(question, drawn.randrange(self.form.orders(question)))
            for question in self._questions["test"]
            for drawn in [random.Random(f"{key} {question.id}")]
        ]
        new = [example for example in turned if example.id not in shown]
        return sorted(new, key=lambda e: hashlib.sha256(f"{key} {e.id}".encode()).digest())[:count]

    def verdict(self, read: Tensor, criteria: Criteria) -> Verdict:
        best = zip(read.argmax(1).tolist(), criteria.answer.tolist(), strict=True)
        labels = ["gold" if shown == answer else f"option {shown}" for shown, answer in best]
        return Verdict(labels, choice_margin(read, criteria.target))

    @cached_property
    def _questions(self) -> Mapping[Split, Sequence[Question]]:
        found = read_questions(self.data, self.form)
        for question in (q for questions in found.values() for q in questions):
            number = self.form.orders(question)
            if self.all_orders and number > MOST_ORDERS:
                raise UsageError(
                    f"{self.data.source}: {question.id} has {number} orders of its options, too many for the undefended"
                    f" model to get right (at most {MOST_ORDERS}); write all_orders: false"
                )
        return found

    @cached_property
    def _sets(self) -> Sets:
        examples: Examples = {split: [e for _, e in self._in_orders(split)] for split in self._questions}
        return Sets(examples, retained(self.retain_data, self.retain_form or self.form))

    @cached_property
    def _asked(self) -> Mapping[str, Question]:
        """Questions by id."""
        return {question.id: question for questions in self._questions.values() for question in questions}

    def _in_orders(self, split: Split) -> Iterator[tuple[Question, Example]]:
        for number, question in enumerate(self._questions[split]):
            count = self.form.orders(question)
            shown = min(self.orders[split], count)
            for place in range(shown):
                yield question, self.form.example(question, number + place * (count // shown))
