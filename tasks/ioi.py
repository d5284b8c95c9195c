"""Indirect-object identification (Wang et al. 2023, arXiv 2211.00593; METHOD section 6), on anybody's sentences.

    prompt,receiver,giver
    "When Mary and John went to the store, John gave a book to",Mary,John

    -> " Mary" outranks " John"

The wrong target is a third name that the prompt does not mention.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from torch import Tensor

from benchmark.contracts.example import Example, Split
from benchmark.contracts.readout import Criteria, Verdict, choice_margin
from benchmark.readouts.choices import Choices
from benchmark.registry import register_task
from tasks.data import Columns, Data, DataTask, Examples, Row, Sets
from tasks.questions import Form, retained

COLUMNS = Columns(("prompt", "receiver", "giver"), ("third",), cluster="template")
RECEIVER, GIVER, THIRD = range(3)


@register_task("ioi")
@dataclass(frozen=True, eq=False, kw_only=True)
class Ioi(DataTask):
    """Behavior: the receiver outranks the giver.

    Columns: prompt, receiver, giver; and, if there are, third (a name of somebody else; default: one of another row),
    template (what prompts share: the cluster), id, split.
    """

    data: Data
    """Where its examples come from: source, columns, filters, splits, shares, shared_clusters, limit."""
    retain_data: Data | None = None
    """Questions that a selective defense leaves alone: question, choices, answer."""
    retain_form: Form = field(default_factory=Form)
    """How those are put."""
    leading_space: bool = True
    """A name begins with a space."""
    score: Literal["sum", "mean"] = "sum"
    """Of names of several tokens: their log-probability, or that over the number of tokens."""

    @cached_property
    def readout(self) -> Choices:
        return Choices(self.score)

    def verdict(self, read: Tensor, criteria: Criteria) -> Verdict:
        if criteria.goal == "wrong":
            margin = choice_margin(read, criteria.target)
            return Verdict(["third" if m > 0 else "named" for m in margin.tolist()], margin)
        margin = read[:, RECEIVER] - read[:, GIVER]
        return Verdict(["receiver" if m > 0 else "giver" for m in margin.tolist()], margin)

    def fresh(self, key: str, count: int) -> Sequence[Example]:
        rows = self.data.fresh(COLUMNS, _checked, key, count)
        return [self._example(row, self._names) for row in rows]

    @cached_property
    def _rows(self) -> Mapping[Split, Sequence[Row]]:
        return self.data.read(COLUMNS, _checked)

    @cached_property
    def _names(self) -> list[str]:
        rows = [row for some in self._rows.values() for row in some]
        return sorted({row.name(who) for row in rows for who in ("receiver", "giver")})

    @cached_property
    def _sets(self) -> Sets:
        examples: Examples = {
            split: [self._example(row, self._names) for row in some] for split, some in self._rows.items()
        }
        return Sets(examples, retained(self.retain_data, self.retain_form))

    def _example(self, row: Row, names: Sequence[str]) -> Example:
        receiver, giver = row.name("receiver"), row.name("giver")
        third = row.name("third") if "third" in row.values else _stranger(row, names)
        space = " " if self.leading_space else ""
        choices = tuple(f"{space}{name}" for name in (receiver, giver, third))
        return Example(row.id, row.cluster, row.text("prompt"), choices, RECEIVER, (THIRD,))


def _checked(row: Row) -> Row:
    names = [row.name(who) for who in ("receiver", "giver", "third") if who in row.values]
    if len(set(names)) < len(names):
        raise row.error(f"receiver, giver and third are {', '.join(names)}; they are different people")
    return row


def _stranger(row: Row, names: Sequence[str]) -> str:
    """A name of another row that this one's prompt does not mention, by the row's content and not by its place."""
    named = f"{row.text('prompt')} {row.name('receiver')} {row.name('giver')}"
    strangers = [name for name in names if not re.search(rf"\b{re.escape(name)}\b", named)]
    if not strangers:
        raise row.error("no other row has a name that it does not mention; give a column `third` with one")
    return strangers[int(row.content, 16) % len(strangers)]
