"""Packs: examples of equal length side by side, so that nothing is ever padded.

Without padding there are no masks to get wrong, and a row's numbers cannot depend on how long its neighbours are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.contracts import Batch, Encoded, Example, Goal, Task
from benchmark.model.edits import Where, is_special
from benchmark.model.readers import Reader
from benchmark.model.subject import Subject


@dataclass(frozen=True)
class Pack:
    """``n`` encoded examples of one length."""

    examples: tuple[Example, ...]
    ids: Tensor
    """(n, position): the prompt and, behind it, what the model is made to read of a reference answer."""
    reader: Reader
    readout: int
    """Absolute position of the first next-token logits that are read."""
    suffix_at: int
    where: Where
    reference: tuple[str, ...] = ()
    """Text of each example's reference answer, where the task reads continuations."""
    others: tuple[str, ...] = ()
    """Answers to other prompts, the chance level of likeness to a reference."""

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def length(self) -> int:
        return self.ids.shape[1]

    def judged_by(self, ceiling: Tensor, goal: Goal = "behavior", wrong: Tensor | None = None) -> Batch:
        """What the task needs to judge the pack: the undefended margin (n,) and, for the goal ``wrong``, its target."""
        device = self.ids.device
        answer = torch.tensor([e.answer for e in self.examples], device=device)
        if wrong is None:
            wrong = torch.tensor([e.wrong[0] for e in self.examples])
        return Batch(answer, wrong.to(device), ceiling.to(device), goal, self.reference, self.others)

    def unread(self) -> Batch:
        """The same without a known undefended margin: nothing saturates."""
        return self.judged_by(torch.full((len(self),), torch.inf))

    def with_suffix(self, tokens: int) -> Pack:
        """The pack with ``tokens`` copies of a token inserted at ``suffix_at``, for a soft suffix.

        The token is the last one before, BOS and padding left out: edits that spare those must not spare the suffix.
        """
        at, special = self.suffix_at, self.where.special
        nearest = torch.cat([self.ids[:, :at].flip(1), self.ids[:, at:]], 1)
        ordinary = ~torch.cat([special[:, :at].flip(1), special[:, at:]], 1)
        copies = nearest.gather(1, ordinary.int().argmax(1, keepdim=True)).expand(-1, tokens)
        ids = torch.cat([self.ids[:, :at], copies, self.ids[:, at:]], 1)
        plain = torch.zeros_like(copies, dtype=torch.bool)
        readout = self.readout + tokens * (self.readout >= at - 1)
        where = _where(ids, torch.cat([special[:, :at], plain, special[:, at:]], 1), readout)
        return replace(self, ids=ids, where=where, readout=readout)

    def retyped(self, prompts: Tensor, special: Tensor) -> Pack:
        """The pack with other prompts of one length (n, position), read at their end, before the same answers."""
        ids = torch.cat([prompts, self.ids[:, self.readout + 1 :]], 1)
        readout = prompts.shape[1] - 1
        rest = torch.zeros_like(ids[:, readout + 1 :], dtype=torch.bool)
        return replace(self, ids=ids, where=_where(ids, torch.cat([special, rest], 1), readout), readout=readout)

    @property
    def prompt(self) -> Tensor:
        """(n, position): what the model answers to."""
        return self.ids[:, : self.readout + 1]


def halves(pack: Pack) -> tuple[Pack, Pack]:
    """The first and the second half of a pack of at least two."""
    middle = len(pack) // 2
    first, second = torch.arange(middle), torch.arange(middle, len(pack))
    return part_of(pack, first), part_of(pack, second)


def part_of(pack: Pack, index: Tensor) -> Pack:
    """The examples ``index`` of a pack."""
    rows = index.to(pack.ids.device)
    return replace(
        pack,
        examples=tuple(pack.examples[i] for i in index.tolist()),
        ids=pack.ids[rows],
        reader=pack.reader.part(rows),
        where=pack.where.rows(rows),
        reference=tuple(pack.reference[i] for i in index.tolist()) if pack.reference else (),
    )


def _where(ids: Tensor, special: Tensor, readout: int) -> Where:
    index = torch.arange(ids.shape[1], device=ids.device)
    return Where(index, special, (index > readout).expand_as(special))


class Member(NamedTuple):
    """An example on its way into a pack."""

    example: Example
    encoded: Encoded
    answer: tuple[int, ...] = ()
    """The tokens of a reference answer that the model is made to read."""
    reference: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Members of one pack agree in it."""
        e = self.encoded
        return len(e.tokens), e.readout, len(e.choices), e.suffix_at, len(self.answer)


def packed(members: Sequence[Member], limit: int) -> list[list[Member]]:
    """Members of one shape together, shortest first, at most ``limit``; ties keep their order."""
    ordered = sorted(members, key=lambda member: member.shape)
    found = []
    for _, group in groupby(ordered, key=lambda member: member.shape):
        same = list(group)
        found += [same[i : i + limit] for i in range(0, len(same), limit)]
    return found


def encode(subject: Subject, task: Task, examples: Sequence[Example]) -> list[Member]:
    """Examples with their tokens."""
    return [Member(example, task.encode(subject.tokenizer, example)) for example in examples]


def build(subject: Subject, members: Sequence[Member], reader: Reader, others: tuple[str, ...] = ()) -> Pack:
    """The pack of members of one shape; the last token of an answer is predicted, never read."""
    first = members[0].encoded
    ids = torch.tensor([[*m.encoded.tokens, *m.answer[:-1]] for m in members], device=subject.device)
    where = _where(ids, is_special(subject, ids), first.readout)
    examples, reference = tuple(m.example for m in members), tuple(m.reference for m in members)
    return Pack(
        examples, ids, reader, first.readout, first.suffix_at, where, reference if members[0].answer else (), others
    )
