"""Pairs about generated texts: a perturbation that never acts on them, and two detectors for two sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmark.contracts.defense import Edit, Where
from benchmark.contracts.protocol import Arm
from benchmark.contracts.readout import Criteria, Text
from benchmark.measure.aim import Aim
from benchmark.measure.group import Group
from benchmark.measure.judging import Judged
from benchmark.model.streams import whole
from benchmark.published.audit.reading import Reading, means
from benchmark.published.audit.workbench import Aimed, Workbench, measured, packs, search, setting, under
from benchmark.published.protocol import Published, only
from benchmark.published.switches import Switch
from benchmark.search.draws import normal
from benchmark.threats.after_edit import AfterEdit


@dataclass(frozen=True, eq=False)
class Hook:
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


def texts_under(group: Group, found: Aimed, *, relative: bool) -> list[Text]:
    """What the defended model writes with a perturbation behind its edits, through one kind of hook."""
    pack, writes = found.target.pack, found.target.writes
    hooks: Mapping[int, Edit] = {
        b: Hook(group.edits.get(b), found.delta[:, i], writes.start, relative) for i, b in enumerate(writes.boundaries)
    }
    run = whole(group.subject, pack, {**group.edits, **hooks})
    return group.task.readout.judged(run, None, pack.everyone)


def inert(bench: Workbench) -> list[Reading]:
    """Random perturbations as long as the stream, at the answer and at the prompt's end, through both kinds of hook.

    Those of the prompt come by while both ways of counting agree.
    """
    group, eps = bench.text, 1.0
    targets = [AfterEdit().aim(group, "none", "behavior", pack) for pack in packs(group)]
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
    found = [Aimed(target, _random(group, target, eps)) for target in targets]
    none = [Aimed(target, torch.zeros_like(delta)) for target, delta in found]
    strict, paper, without = (
        [text for part in parts for text in texts_under(group, part, relative=relative)]
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
    return [
        _unperturbed(bench.broken, "already recovered without an attack, broken clamp"),
        _attacked(bench.broken, "recovered at random, broken clamp", search(bench.broken, bench.random(), top), top),
        _unperturbed(bench.text, "already recovered without an attack"),
        _attacked(bench.text, "recovered", bench.anchored, top),
    ]


def _attacked(group: Group, what: str, found: list[Aimed], eps: float) -> Reading:
    switch = Switch.ASYMMETRIC_DETECTORS
    sides = [[m.recovered for m in measured(g, found)] for g in (group, under(switch, group))]
    where = setting(group, "last prompt position perturbed", eps)
    return Reading.of(switch, what, "share", means(sides), len(sides[0]), where)


def _unperturbed(group: Group, what: str) -> Reading:
    """Of the valid examples, those whose defended text, unperturbed, would count as a recovery."""
    switch = Switch.ASYMMETRIC_DETECTORS
    sides = [_taken_for_recovered(group, protocol) for protocol in (None, only(switch))]
    return Reading.of(switch, what, "share", means(sides), len(sides[1]), setting(group, "no perturbation", 0))


def _taken_for_recovered(group: Group, protocol: Published | None) -> list[bool]:
    """Of each example on which the base side complies and the defended side does not: it does as an attacked one."""
    base = _complies(group, group.base, "base", protocol)
    defended = _complies(group, group.defended, "defended", protocol)
    again = _complies(group, group.defended, "attacked", protocol)
    return [hit for hit, a, b in zip(again, base, defended, strict=True) if a and not b]


def _complies(group: Group, judged: Judged, arm: Arm, protocol: Published | None) -> list[bool]:
    """By a protocol's judge of an arm, or by the one verdict for all arms, which is known."""
    if protocol is None:
        return judged.shown.tolist()
    nothing = torch.zeros(len(judged.read), dtype=torch.long)
    verdict = protocol.verdict(group.task, arm)(judged.read, Criteria(nothing, nothing, nothing.float()))
    return (verdict.margin > 0).tolist()
