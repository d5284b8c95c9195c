"""Reference passes: what the undefended and the defended model say and hold, without an attacker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmark.contracts import Continuation, Example, Task
from benchmark.model.edits import Edit, by_boundary
from benchmark.model.pack import Pack
from benchmark.model.packs import make_packs
from benchmark.model.passes import FullPass, Seen, Writes
from benchmark.model.subject import Subject
from benchmark.paper.arms import Judgement
from benchmark.sites import Site

ROWS = 256
"""Rows of a reference pass: forward only, so larger than an optimiser's pack needs no probing."""


class Judged(NamedTuple):
    """A task's judgement of examples, in their order."""

    labels: list[str]
    margin: Tensor
    """(examples,), above 0 where the behavior is shown; on the CPU."""
    read: list[Any]
    """What each example was judged by: a tensor (choices,) or (classes,), or a text; on the CPU."""

    @property
    def shown(self) -> Tensor:
        """(examples,), bool."""
        return self.margin > 0


@torch.no_grad()
def read_pack(subject: Subject, pack: Pack, edits: Mapping[int, Edit]) -> Any:
    """The readout of a pack, every layer and position computed."""
    return _whole(subject, pack, edits)(None, _all(pack)).read


def _whole(subject: Subject, pack: Pack, edits: Mapping[int, Edit]) -> FullPass:
    return FullPass(subject, pack, edits, Writes((), 0, 0, after=False))


def _all(pack: Pack) -> Tensor:
    return torch.arange(len(pack), device=pack.ids.device)


@torch.no_grad()
def judge(
    subject: Subject,
    task: Task,
    examples: Sequence[Example],
    edits: Mapping[Site, Edit],
    verdict_of: Judgement | None = None,
) -> Judged:
    """Run the live (defended) model on ``examples`` and let the task judge, or ``verdict_of`` in its place."""
    placed = by_boundary(subject, edits)
    found: dict[str, tuple[str, Tensor, Any]] = {}
    for pack in make_packs(subject, task, examples, ROWS):
        read = judged_read(task, _whole(subject, pack, placed), None, _all(pack))
        verdict = (verdict_of or task.verdict)(read, pack.unread())
        kept = [r.cpu() if isinstance(r, Tensor) else r for r in read]
        parts = zip(pack.examples, verdict.labels, verdict.margin.cpu(), kept, strict=True)
        found |= {e.id: (label, margin, r) for e, label, margin, r in parts}
    rows = [found[e.id] for e in examples]
    margin = torch.stack([m for _, m, _ in rows]) if rows else torch.zeros(0)
    return Judged([label for label, _, _ in rows], margin, [r for _, _, r in rows])


def judged_read(task: Task, run: FullPass, delta: Tensor | None, rows: Tensor, seen: Seen | None = None) -> Any:
    """What the task's verdict is about: what a pass (``seen``, if it was run already) reads, or the model writes."""
    if isinstance(task.readout, Continuation):
        return run.write(delta, rows, task.readout.tokens)
    return (seen or run(delta, rows)).read


@torch.no_grad()
def ceilings(subject: Subject, task: Task, examples: Sequence[Example], base: Judged) -> Tensor:
    """(examples,): the undefended model's objective, where an attack's objective saturates."""
    if not isinstance(task.readout, Continuation):
        return base.margin
    found: dict[str, Tensor] = {}
    for pack in make_packs(subject, task, examples, ROWS):
        values = task.objective(read_pack(subject, pack, {}), pack.unread()).cpu()
        found |= {e.id: value for e, value in zip(pack.examples, values, strict=True)}
    return torch.stack([found[e.id] for e in examples]) if examples else torch.zeros(0)


def kept(task: Task, judged: Judged, examples: Sequence[Example]) -> Tensor:
    """(examples,) bool: the verdict on ``retain`` examples of any task. The answer outranks every other choice or
    class, or is what the undefended model writes."""
    if isinstance(task.readout, Continuation):
        return judged.shown
    hits = [int(read.argmax()) == e.answer for read, e in zip(judged.read, examples, strict=True)]
    return torch.tensor(hits, dtype=torch.bool)


def eligible(subject: Subject, task: Task, examples: Sequence[Example], base: Judged) -> Tensor:
    """(examples,) bool: the undefended model shows the behavior, on all prerequisites of the example too."""
    needed = {p.id: p for example in examples for p in task.prerequisites(example)}
    shown = judge(subject, task, list(needed.values()), {}).shown.tolist()
    passed = dict(zip(needed, shown, strict=True))
    strict = [all(passed[p.id] for p in task.prerequisites(example)) for example in examples]
    return base.shown & torch.tensor(strict, dtype=torch.bool)


class Retention:
    """A retain set, asked once of the undefended model and again under edits."""

    def __init__(self, subject: Subject, task: Task, examples: Sequence[Example]) -> None:
        self.subject, self.task, self.examples = subject, task, examples
        self.base = self.judged({})
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
    def loss(self, edits: Mapping[Site, Edit], judged: Judged) -> float | None:
        """Mean cross-entropy of the answers under ``edits``, nats a choice or a token; None: the set is empty."""
        if not self.examples:
            return None
        if not isinstance(self.task.readout, Continuation):
            losses = [-read.log_softmax(0)[e.answer] for read, e in zip(judged.read, self.examples, strict=True)]
            return float(torch.stack(losses).mean())
        placed = by_boundary(self.subject, edits)
        packs = make_packs(self.subject, self.task, self.examples, ROWS)
        forced = [read_pack(self.subject, pack, placed).log_prob.mean(1) for pack in packs]
        return -float(torch.cat(forced).mean())


@torch.no_grad()
def readout_streams(
    subject: Subject, task: Task, examples: Sequence[Example], boundaries: frozenset[int]
) -> dict[int, Tensor]:
    """Boundary -> the undefended stream at each example's readout position, (examples, d_model), fp32."""
    found: dict[int, dict[str, Tensor]] = {b: {} for b in boundaries}
    for pack in make_packs(subject, task, examples, ROWS):
        run = FullPass(subject, pack, {}, Writes((), pack.readout, 1, after=False))
        seen = run(None, _all(pack), boundaries)
        for b, stream in seen.stream.items():
            found[b] |= {e.id: h for e, h in zip(pack.examples, stream[:, 0].float(), strict=True)}
    return {b: torch.stack([rows[e.id] for e in examples]) for b, rows in found.items()}


def readout_stream(subject: Subject, task: Task, examples: Sequence[Example], site: Site) -> Tensor:
    """The undefended stream at ``site`` and each example's readout position, (examples, d_model), fp32."""
    return readout_streams(subject, task, examples, frozenset({site.boundary}))[site.boundary]


def residual_norms(subject: Subject, task: Task, examples: Sequence[Example]) -> dict[int, float]:
    """Boundary -> median L2 norm of the undefended residual stream at the readout position of ``examples``."""
    streams = readout_streams(subject, task, examples, frozenset(range(subject.n_layers + 1)))
    return {b: float(h.norm(dim=1).median()) for b, h in sorted(streams.items())}


@torch.no_grad()
def embedding_norm(subject: Subject, task: Task, examples: Sequence[Example]) -> float:
    """Median L2 norm of what enters the first layer, over the tokens of ``examples`` but BOS."""
    parts = []
    for pack in make_packs(subject, task, examples, ROWS):
        stream = _whole(subject, pack, {})(None, _all(pack), frozenset({0})).stream[0]
        parts.append(stream.float().norm(dim=-1)[~pack.where.special].cpu())
    return float(torch.cat(parts).median())
