"""Pairs about generated texts: a perturbation that never acts on them, and two detectors for two sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmark.audit.reading import Reading, means
from benchmark.audit.workbench import Found, Workbench, attack, measured, packs, search, setting, under
from benchmark.cells.aim import Aim, aim
from benchmark.cells.group import Group
from benchmark.cells.reference import Judged
from benchmark.contracts import Batch, Continuation, Text
from benchmark.model.edits import Edit, Passage, Where
from benchmark.model.generation import generate
from benchmark.paper.arms import Arm, verdict_of
from benchmark.protocol import STRICT, Protocol, Switch, only
from benchmark.search.draws import normal


@dataclass(frozen=True, eq=False)
class Written:
    """A perturbation behind an edit, as a hook that may mistake places in the current pass for absolute positions."""

    edit: Edit | None
    delta: Tensor
    """(rows, perturbed, d_model)."""
    start: int
    """Absolute position of the first perturbed one."""
    relative: bool
    """Count from the beginning of each forward pass, which is where the key/value cache ends."""

    def __call__(self, h: Tensor, where: Where, /) -> Tensor:
        if self.edit is not None:
            h = self.edit(h, where)
        first = 0 if self.relative else int(where.index[0])
        place = torch.arange(h.shape[1], device=h.device) + first - self.start
        inside = (place >= 0) & (place < self.delta.shape[1])
        added = self.delta[:, place.clamp(0, self.delta.shape[1] - 1)] * inside[:, None]
        return (h + added).to(h.dtype)


def written(group: Group, found: Found, *, relative: bool) -> list[Text]:
    """What the defended model writes with a perturbation behind its edits, through one kind of hook."""
    assert isinstance(group.task.readout, Continuation)
    writes = found.target.writes
    hooks: Mapping[int, Edit] = {
        b: Written(group.edits.get(b), found.delta[:, i], writes.start, relative)
        for i, b in enumerate(writes.boundaries)
    }
    passage = Passage({**group.edits, **hooks})
    return generate(group.subject, found.target.pack.prompt, passage, group.task.readout.tokens)


def inert(bench: Workbench) -> list[Reading]:
    """Random perturbations as long as the stream, at the answer and at the prompt's end, through both kinds of hook.

    Those of the prompt come by while both ways of counting agree.
    """
    group, eps = bench.text, 1.0
    targets = [aim(group, attack("recovery", threat_model="after_edit"), pack) for pack in packs(group)]
    return [
        _changed("texts that a perturbation of the answer changes", group, [_answer(group, t) for t in targets], eps),
        _changed("texts that one of the prompt's end changes", group, targets, eps),
    ]


def _answer(group: Group, target: Aim) -> Aim:
    """The aim at every position behind the prompt that the forced answer has."""
    start = target.pack.readout + 1
    writes = replace(target.writes, start=start, width=target.pack.length - start)
    return target._replace(writes=writes, unit=group.scale.unit(writes))


def _changed(what: str, group: Group, targets: Sequence[Aim], eps: float) -> Reading:
    found = [Found(target, _random(group, target, eps)) for target in targets]
    none = [Found(target, torch.zeros_like(delta)) for target, delta in found]
    strict, paper, without = (
        [text for part in parts for text in written(group, part, relative=relative)]
        for parts, relative in ((found, False), (found, True), (none, False))
    )
    changed = [[a != b for a, b in zip(texts, without, strict=True)] for texts in (strict, paper)]
    where = setting(group, "random directions", eps)
    return Reading.of(Switch.INERT_ANSWER_DELTA, what, "share", means(changed), len(without), where)


def _random(group: Group, target: Aim, eps: float) -> Tensor:
    """Random directions of one norm, an example each."""
    shape = (len(target.writes.boundaries), target.writes.width, group.subject.d_model)
    drawn = torch.stack([normal(f"answer|{e.id}", shape) for e in target.pack.examples]).to(target.pack.ids.device)
    return drawn * (eps * target.unit / drawn.flatten(1).norm(dim=1))[:, None, None, None]


def detectors(bench: Workbench) -> list[Reading]:
    """The same texts by one judge for both sides, and by the study's two detectors.

    A clamp that makes the model refuse gives both the same; one that breaks its texts does not.
    """
    top = bench.top(bench.text)
    random = attack("random-direction", threat_model="after_edit", restarts=1)
    return [
        _unperturbed(bench.broken, "already recovered without an attack, broken clamp"),
        _attacked(bench.broken, "recovered at random, broken clamp", search(bench.broken, random, top), top),
        _unperturbed(bench.text, "already recovered without an attack"),
        _attacked(bench.text, "recovered", bench.anchored, top),
    ]


def _attacked(group: Group, what: str, found: list[Found], eps: float) -> Reading:
    switch = Switch.ASYMMETRIC_DETECTORS
    sides = [[r["recovered"] for r in measured(g, found)] for g in (group, under(switch, group))]
    where = setting(group, "last prompt position perturbed", eps)
    return Reading.of(switch, what, "share", means(sides), len(sides[0]), where)


def _unperturbed(group: Group, what: str) -> Reading:
    """Of the valid examples, those whose defended text, unperturbed, would count as a recovery."""
    switch = Switch.ASYMMETRIC_DETECTORS
    sides = [_taken_for_recovered(group, protocol) for protocol in (STRICT, only(switch))]
    return Reading.of(switch, what, "share", means(sides), len(sides[1]), setting(group, "no perturbation", 0))


def _taken_for_recovered(group: Group, protocol: Protocol) -> list[bool]:
    """Of each example on which the base side complies and the defended side does not: it does as an attacked one."""
    base = _complies(group, group.base, "base", protocol)
    defended = _complies(group, group.defended, "defended", protocol)
    again = _complies(group, group.defended, "attacked", protocol)
    return [hit for hit, a, b in zip(again, base, defended, strict=True) if a and not b]


def _complies(group: Group, judged: Judged, arm: Arm, protocol: Protocol) -> list[bool]:
    if protocol == STRICT:  # one verdict for all arms, and it is known
        return judged.shown.tolist()
    nothing = torch.zeros(len(judged.read), dtype=torch.long)
    verdict = verdict_of(group.task, arm, protocol)(judged.read, Batch(nothing, nothing, nothing.float()))
    return (verdict.margin > 0).tolist()
