"""Whether the tail pass may stand in for the full one, and one over packs of several lengths for one over each: tried
on a group's own packs, defense and writes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

from benchmark.contracts.threat import Threat
from benchmark.measure.group import Group
from benchmark.model.pack import Pack, make_packs
from benchmark.model.passes import FullPass, Pass, Writes
from benchmark.model.precision import agree
from benchmark.model.tail import TailBatch, TailPass
from benchmark.search.draws import normal

TRIED = 4
"""Examples of the shortest and of the longest prompts."""
UNREPLAYABLE = (RuntimeError, TypeError, KeyError, IndexError, AttributeError)
"""What layers raise that cannot be called with what was recorded."""


def tail_is_exact(group: Group, threats: Iterable[Threat]) -> bool:
    """Whether values and gradients of both passes agree, with whatever access an attacker may have."""
    tried, packs = _tried(group, threats)
    try:
        return all(_agree(group, threat, pack) for threat in tried for pack in (packs[0], packs[-1]))
    except UNREPLAYABLE:
        return False  # a family whose layers cannot be replayed; the full pass serves any


def tails_run_as_one(group: Group, threats: Iterable[Threat]) -> bool:
    """Whether tail passes over the shortest and the longest prompts, of whatever shapes there are, give as one what
    they give alone, in values and gradients."""
    tried, packs = _tried(group, threats)
    try:
        return all(_agree_as_one(group, some) for threat in tried for some in _of_one_shape(group, threat, packs))
    except UNREPLAYABLE:
        return False


def _tried(group: Group, threats: Iterable[Threat]) -> tuple[list[Threat], list[Pack]]:
    tried = [threat for threat in threats if threat.applies(group.task, group) is None]
    return tried, make_packs(group.subject, group.task, group.examples, TRIED) if tried else []


def _of_one_shape(group: Group, threat: Threat, packs: Iterable[Pack]) -> list[list[tuple[Pack, Writes]]]:
    """The shortest and the longest of the packs whose tails may be of one form, with where an attacker writes."""
    found = defaultdict[tuple[int, ...], list[tuple[Pack, Writes]]](list)
    for pack in packs:
        access = threat.access(group, pack)
        if access is not None:
            room, writes = access
            shape = (room.readout - writes.start, room.ids.shape[1] - writes.start, writes.width, room.lines)
            found[shape].append((room, writes))
    return [[some[0], some[-1]] for some in found.values() if len(some) > 1]


def _agree_as_one(group: Group, accesses: Iterable[tuple[Pack, Writes]]) -> bool:
    tails = [TailPass(group.subject, pack, group.edits, writes) for pack, writes in accesses]
    if len({tail.form for tail in tails}) > 1:
        return True  # then nobody runs them as one
    deltas = [_delta(group, tail.pack, tail.writes) for tail in tails]
    alone = [_slope(group, tail, delta) for tail, delta in zip(tails, deltas, strict=True)]
    at = [delta.clone().requires_grad_() for delta in deltas]
    rows = [tail.pack.everyone for tail in tails]
    seen = TailBatch(tails)(dict(enumerate(zip(at, rows, strict=True))))
    read = [group.task.readout.flat(seen[k].read) for k in range(len(tails))]
    slopes = torch.autograd.grad(torch.stack([x.sum() for x in read]).sum(), at)
    pairs = [(a, b) for (x, g), y, h in zip(alone, read, slopes, strict=True) for a, b in ((x, y.detach()), (g, h))]
    return all(agree(group.subject.dtype, a, b) for a, b in pairs)


def _agree(group: Group, threat: Threat, pack: Pack) -> bool:
    access = threat.access(group, pack)
    if access is None:
        return True  # nothing is written into a stream
    room, writes = access
    delta = _delta(group, pack, writes)
    kinds = (FullPass, TailPass)
    full, tail = (_slope(group, kind(group.subject, room, group.edits, writes), delta) for kind in kinds)
    return all(agree(group.subject.dtype, a, b) for a, b in zip(full, tail, strict=True))


def _delta(group: Group, pack: Pack, writes: Writes) -> Tensor:
    shape = (len(pack), len(writes.boundaries), writes.width, group.subject.d_model)
    return 0.01 * normal("tail", shape).to(group.subject.device) * shape[-1] ** 0.5


def _slope(group: Group, run: Pass, delta: Tensor) -> tuple[Tensor, Tensor]:
    at = delta.clone().requires_grad_()
    read = group.task.readout.flat(run(at, torch.arange(len(delta), device=delta.device)).read)
    return read.detach(), torch.autograd.grad(read.sum(), at)[0]
