"""What the undefended and the defended model say of examples, without an attacker."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmark.contracts.defense import Edit
from benchmark.contracts.example import Example
from benchmark.contracts.readout import Judging, Text
from benchmark.contracts.task import Task
from benchmark.model.edits import by_boundary
from benchmark.model.pack import Pack, make_packs
from benchmark.model.passes import FullPass, Pass
from benchmark.model.streams import ROWS, whole
from benchmark.model.subject import Subject
from benchmark.sites import Site


class Judged(NamedTuple):
    """A task's judgement of examples, in their order."""

    labels: list[str]
    margin: Tensor
    """(examples,), above 0 where the behavior is shown; on the CPU."""
    read: list[Any]
    """What each example was judged by: a tensor (choices,) or (classes,), or a text; on the CPU."""
    log_mass: Tensor | None = None
    """(examples,), nats: ``Readout.log_mass``; None: the readout has none."""
    broken: Tensor | None = None
    """(examples,) bool: the mass is below the floor, and the margin means nothing; None: there is no floor."""
    loss: Tensor | None = None
    """(examples,), nats: ``Readout.loss`` of the right answers; None: a text was written, and none was forced."""

    @property
    def shown(self) -> Tensor:
        """(examples,), bool."""
        return self.margin > 0 if self.broken is None else (self.margin > 0) & ~self.broken

    def part(self, places: Sequence[int]) -> Judged:
        """The judgement of some of the examples, by their places."""
        index = torch.tensor(places, dtype=torch.long)
        optional = (None if x is None else x[index] for x in (self.log_mass, self.broken, self.loss))
        labels, read = ([some[i] for i in places] for some in (self.labels, self.read))
        return Judged(labels, self.margin[index], read, *optional)


DEGENERATE = "degenerate"
"""Label of what is neither the behavior nor its absence: the model is broken there."""


class Weighed:
    """A clean pass that keeps what it weighed."""

    def __init__(self, run: Pass) -> None:
        self.run = run
        self.log_mass: Tensor | None = None
        """(rows,) of the last pass."""

    def __call__(self, delta: Tensor | None, rows: Tensor) -> Any:
        seen = self.run(delta, rows)
        self.log_mass = seen.log_mass
        return seen

    def write(self, delta: Tensor | None, rows: Tensor, limit: int) -> list[Text]:
        """What is written; nothing is weighed."""
        assert isinstance(self.run, FullPass), "a text is written from its prompt on"
        return self.run.write(delta, rows, limit)


@torch.no_grad()
def read_pack(subject: Subject, pack: Pack, edits: Mapping[int, Edit]) -> Any:
    """What a search would climb on, every layer and position computed."""
    return whole(subject, pack, edits)(None, pack.everyone).read


@torch.no_grad()
def judge(
    subject: Subject,
    task: Task,
    examples: Sequence[Example],
    edits: Mapping[Site, Edit],
    verdict: Judging | None = None,
    floor: float | None = None,
) -> Judged:
    """Run the live (defended) model on ``examples`` and let the task judge, or ``verdict`` in its place.

    Args:
        floor: probability of all choices below which an example is degenerate; None: none is.
    """
    placed, packs = by_boundary(subject, edits), make_packs(subject, task, examples, ROWS)
    runs = ((pack, replace(whole(subject, pack, placed), weigh=task.readout.log_mass)) for pack in packs)
    return judged(task, examples, runs, verdict, floor)


def judged(
    task: Task,
    examples: Sequence[Example],
    runs: Iterable[tuple[Pack, Pass]],
    verdict: Judging | None = None,
    floor: float | None = None,
) -> Judged:
    """``judge``, of packs of the examples and passes that weigh."""
    parts: list[Judged] = []
    places: dict[str, int] = {}
    for pack, passed in runs:
        run = Weighed(passed)
        read = task.readout.judged(run, None, pack.everyone)
        said = (verdict or task.verdict)(read, pack.unread())
        loss = None if task.readout.writes_text else task.readout.loss(read, pack.unread())
        kept = [r.cpu() if isinstance(r, Tensor) else r for r in read]
        log_mass, loss = (None if x is None else x.cpu() for x in (run.log_mass, loss))
        parts.append(Judged(said.labels, said.margin.cpu(), kept, log_mass, loss=loss))
        places |= {e.id: len(places) + i for i, e in enumerate(pack.examples)}
    found = _joined(parts).part([places[e.id] for e in examples])
    return found if floor is None else _held_against(floor, found)


def _joined(parts: Sequence[Judged]) -> Judged:
    """One judgement after another; of none of them is said yet what is broken."""
    labels, read = [one for p in parts for one in p.labels], [one for p in parts for one in p.read]
    margin, log_mass, loss = (_stacked([getattr(p, name) for p in parts]) for name in ("margin", "log_mass", "loss"))
    return Judged(labels, torch.zeros(0) if margin is None else margin, read, log_mass, loss=loss)


def _stacked(parts: Sequence[Tensor | None]) -> Tensor | None:
    """One after another; None: there are none, or not of all."""
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there and len(there) == len(parts) else None


def is_broken(log_mass: Tensor, floor: float) -> Tensor:
    """(rows,) bool: all that the verdict chooses from has less than ``floor`` of the probability."""
    return log_mass < math.log(floor)


def _held_against(floor: float, judged: Judged) -> Judged:
    """The judgement, knowing what is broken; where nothing can be weighed, as it is."""
    if judged.log_mass is None:
        return judged
    broken = is_broken(judged.log_mass, floor)
    labels = [DEGENERATE if b else label for label, b in zip(judged.labels, broken.tolist(), strict=True)]
    return judged._replace(labels=labels, broken=broken)


@torch.no_grad()
def saturation(subject: Subject, task: Task, examples: Sequence[Example]) -> Tensor:
    """(examples,): the undefended model's objective, where an attack's objective saturates."""
    found: dict[str, Tensor] = {}
    for pack in make_packs(subject, task, examples, ROWS):
        read = read_pack(subject, pack, {})
        values = task.readout.objective(task.verdict, read, pack.unread()).cpu()
        found |= {e.id: value for e, value in zip(pack.examples, values, strict=True)}
    return torch.stack([found[e.id] for e in examples]) if examples else torch.zeros(0)


def kept(task: Task, judged: Judged, examples: Sequence[Example]) -> Tensor:
    """(examples,) bool: which ``retain`` examples are right."""
    parts = zip(examples, judged.read, judged.shown.tolist(), strict=True)
    return torch.tensor([task.readout.keeps(*part) for part in parts], dtype=torch.bool)


def eligible(subject: Subject, task: Task, examples: Sequence[Example], base: Judged) -> Tensor:
    """(examples,) bool: the undefended model shows the behavior, on all prerequisites of the example too."""
    needed = {p.id: p for example in examples for p in task.prerequisites(example)}
    shown = judge(subject, task, list(needed.values()), {}).shown.tolist()
    passed = dict(zip(needed, shown, strict=True))
    strict = [all(passed[p.id] for p in task.prerequisites(example)) for example in examples]
    return base.shown & torch.tensor(strict, dtype=torch.bool)


class Retention:
    """A retain set, asked once of the undefended model and again under edits."""

    def __init__(self, subject: Subject, task: Task, examples: Sequence[Example], base: Judged | None = None) -> None:
        """``base``: what the undefended model says, where it was asked before."""
        self.subject, self.task, self.examples = subject, task, examples
        self.base = self.judged({}) if base is None else base
        self.right = kept(task, self.base, examples)
        """(examples,) bool: what the undefended model gets right."""

    def judged(self, edits: Mapping[Site, Edit]) -> Judged:
        """The set under ``edits``."""
        return judge(self.subject, self.task, self.examples, edits)

    def kept(self, edits: Mapping[Site, Edit]) -> float | None:
        """Share that the defended model still gets right of what the undefended one does; None: that is nothing."""
        return self.share(self.judged(edits))

    def share(self, judged: Judged) -> float | None:
        """``kept`` of a set that was judged already."""
        if not self.right.any():
            return None
        return float(kept(self.task, judged, self.examples)[self.right].float().mean())

    @cached_property
    def base_loss(self) -> float | None:
        """``loss`` of the undefended model."""
        return self.loss({}, self.base)

    @torch.no_grad()
    def loss(self, edits: Mapping[Site, Edit], judged: Judged | None = None) -> float | None:
        """Mean cross-entropy of the answers under ``edits``, nats a choice or a token; None: the set is empty.

        Args:
            judged: what the set was judged to be under them; None, or a text was written: a pass of its own says.
        """
        if judged is not None and judged.loss is not None:
            return float(judged.loss.mean())
        placed = by_boundary(self.subject, edits)
        packs = make_packs(self.subject, self.task, self.examples, ROWS)
        losses = [self.task.readout.loss(read_pack(self.subject, p, placed), p.unread()) for p in packs]
        return float(torch.cat(losses).mean()) if losses else None
