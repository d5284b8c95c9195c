"""Packs: examples of equal length side by side, so that nothing is ever padded.

Without padding there are no masks to get wrong, and a row's numbers cannot depend on how long its neighbours are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from benchmark.contracts import Batch, Encoded, Example, Goal, Task
from benchmark.edits import Where, is_special
from benchmark.subject import Subject


@dataclass(frozen=True)
class Pack:
    """``n`` encoded examples of one length."""

    examples: tuple[Example, ...]
    ids: Tensor
    """(n, position)."""
    choices: Tensor
    """(n, choices), token ids."""
    readout: int
    """Absolute position whose next-token logits are read."""
    suffix_at: int
    where: Where

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
        return Batch(answer, wrong.to(device), ceiling.to(device), goal)

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
        where = _where(ids, torch.cat([special[:, :at], plain, special[:, at:]], 1))
        return replace(self, ids=ids, where=where, readout=self.readout + tokens * (self.readout >= at - 1))


def halves(pack: Pack) -> tuple[Pack, Pack]:
    """The first and the second half of a pack of at least two."""
    middle = len(pack) // 2
    first, second = torch.arange(middle), torch.arange(middle, len(pack))
    return _part(pack, first), _part(pack, second)


def _part(pack: Pack, index: Tensor) -> Pack:
    examples = tuple(pack.examples[i] for i in index.tolist())
    index = index.to(pack.ids.device)
    return replace(
        pack, examples=examples, ids=pack.ids[index], choices=pack.choices[index], where=pack.where.rows(index)
    )


def _where(ids: Tensor, special: Tensor) -> Where:
    index = torch.arange(ids.shape[1], device=ids.device)
    return Where(index, special, torch.zeros_like(special))


def make_packs(subject: Subject, task: Task, examples: Sequence[Example], limit: int) -> list[Pack]:
    """Sort examples by length into packs of at most ``limit``; ties keep their order."""
    encoded = [(task.encode(subject.tokenizer, example), example) for example in examples]
    encoded.sort(key=lambda pair: _shape(pair[0]))
    packs = []
    for _, group in groupby(encoded, key=lambda pair: _shape(pair[0])):
        members = list(group)
        packs += [_pack(subject, members[i : i + limit]) for i in range(0, len(members), limit)]
    return packs


def _shape(encoded: Encoded) -> tuple[int, int, int, int]:
    return len(encoded.tokens), encoded.readout, len(encoded.choices), encoded.suffix_at


def _pack(subject: Subject, members: Sequence[tuple[Encoded, Example]]) -> Pack:
    first = members[0][0]
    ids = torch.tensor([e.tokens for e, _ in members], device=subject.device)
    choices = torch.tensor([e.choices for e, _ in members], device=subject.device)
    where = _where(ids, is_special(subject, ids))
    return Pack(tuple(x for _, x in members), ids, choices, first.readout, first.suffix_at, where)
