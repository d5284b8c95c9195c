"""Packs: examples of equal length side by side, so that nothing is ever padded.

Without padding there are no masks to get wrong, and a row's numbers cannot depend on how long its neighbours are.
(Only behind a prompt, where a model is made to read texts of unequal length, is there something after their end, and
nothing of it is read. Searches run several packs as one, which is checked, and judged by nothing but clean passes:
``benchmark.model.tail``.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from benchmark.contracts.defense import Where
from benchmark.contracts.example import Example, Goal
from benchmark.contracts.readout import Criteria, Member, Reader
from benchmark.contracts.task import Task
from benchmark.model.edits import is_special
from benchmark.model.subject import Subject


@dataclass(frozen=True)
class Pack:
    """``n`` encoded examples of one length, each ``lines`` times: with every text that the model is made to read."""

    examples: tuple[Example, ...]
    ids: Tensor
    """(n * lines, position): the prompt and, behind it, what the model is made to read."""
    reader: Reader
    readout: int
    """Absolute position of the first next-token logits that are read."""
    suffix_at: int
    where: Where
    reference: tuple[str, ...] = ()
    """Text of each example's reference answer, where the task reads continuations."""
    others: tuple[str, ...] = ()
    """Answers to other prompts, the chance level of likeness to a reference."""
    lines: int = 1

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def length(self) -> int:
        """Positions of a line that count as its text: where examples have several lines, what these share."""
        return self.ids.shape[1] if self.lines == 1 else self.readout + 1

    def lines_of(self, rows: Tensor) -> Tensor:
        """(rows * lines,): the lines of the examples ``rows``."""
        if self.lines == 1:
            return rows
        return (rows[:, None] * self.lines + torch.arange(self.lines, device=rows.device)).flatten()

    def judged_by(self, saturation: Tensor, goal: Goal = "behavior", wrong: Tensor | None = None) -> Criteria:
        """What the task needs to judge the pack: where the objective saturates (n,) and, for the goal ``wrong``, its
        target."""
        device = self.ids.device
        answer = torch.tensor([e.answer for e in self.examples], device=device)
        if wrong is None:
            wrong = torch.tensor([e.wrong[0] for e in self.examples])
        return Criteria(answer, wrong.to(device), saturation.to(device), goal, self.reference, self.others)

    def unread(self) -> Criteria:
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
        prompts, special = (x.repeat_interleave(self.lines, 0) for x in (prompts, special))
        ids = torch.cat([prompts, self.ids[:, self.readout + 1 :]], 1)
        readout = prompts.shape[1] - 1
        rest = torch.zeros_like(ids[:, readout + 1 :], dtype=torch.bool)
        return replace(self, ids=ids, where=_where(ids, torch.cat([special, rest], 1), readout), readout=readout)

    @property
    def text(self) -> Where:
        """Which part is what of the text that an example's lines share, (n, position)."""
        return self.where if self.lines == 1 else _cut(self.where, self.lines, self.length)

    @property
    def prompt(self) -> Tensor:
        """(n, position): what the model answers to."""
        return self.ids[:: self.lines, : self.readout + 1]

    @property
    def everyone(self) -> Tensor:
        """(n,): the index of every example."""
        return torch.arange(len(self), device=self.ids.device)


def halves(pack: Pack) -> tuple[Pack, Pack]:
    """The first and the second half of a pack of at least two."""
    middle = len(pack) // 2
    first, second = torch.arange(middle), torch.arange(middle, len(pack))
    return part_of(pack, first), part_of(pack, second)


def part_of(pack: Pack, index: Tensor) -> Pack:
    """The examples ``index`` of a pack."""
    rows = index.to(pack.ids.device)
    lines = pack.lines_of(rows)
    return replace(
        pack,
        examples=tuple(pack.examples[i] for i in index.tolist()),
        ids=pack.ids[lines],
        reader=pack.reader.part(rows),
        where=pack.where.rows(lines),
        reference=tuple(pack.reference[i] for i in index.tolist()) if pack.reference else (),
    )


def _where(ids: Tensor, special: Tensor, readout: int) -> Where:
    index = torch.arange(ids.shape[1], device=ids.device)
    return Where(index, special, (index > readout).expand_as(special))


def _cut(where: Where, lines: int, length: int) -> Where:
    return Where(where.index[:length], where.special[::lines, :length], where.generated[::lines, :length])


def packed(members: Sequence[Member], limit: int) -> list[list[Member]]:
    """Members of one shape together, shortest first, at most ``limit``; ties keep their order."""
    ordered = sorted(members, key=lambda member: member.shape)
    found = []
    for _, group in groupby(ordered, key=lambda member: member.shape):
        same = list(group)
        found += [same[i : i + limit] for i in range(0, len(same), limit)]
    return found


def encode(subject: Subject, task: Task, examples: Sequence[Example]) -> list[Member]:
    """Examples with their tokens alone."""
    return [Member(example, task.readout.encode(subject.tokenizer, example)) for example in examples]


def make_packs(
    subject: Subject, task: Task, examples: Sequence[Example], limit: int, goal: Goal = "behavior"
) -> list[Pack]:
    """Packs of at most ``limit`` examples of one length, shortest first; ties keep their order.

    ``goal`` tells what the model is made to read, where the readout has reference answers.
    """
    if not examples:
        return []
    members = task.readout.members(subject, task, examples, goal)
    others, reader = task.readout.others(subject, task), task.readout.reader(subject, task)
    return [build(subject, part, reader(part), others) for part in packed(members, limit)]


def build(subject: Subject, members: Sequence[Member], reader: Reader, others: tuple[str, ...] = ()) -> Pack:
    """The pack of members of one shape; the last token of a line is predicted, never read."""
    first = members[0].encoded
    rows = [[*m.encoded.tokens, *line[:-1]] for m in members for line in m.lines]
    ids = torch.tensor(rows, device=subject.device)
    where = _where(ids, is_special(subject, ids), first.readout)
    examples = tuple(m.example for m in members)
    reference = tuple(m.reference for m in members if m.reference is not None)
    lines = len(members[0].lines)
    return Pack(examples, ids, reader, first.readout, first.suffix_at, where, reference, others, lines)
