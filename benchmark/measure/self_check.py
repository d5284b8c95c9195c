"""Whether the tail pass may stand in for the full one: tried on a group's own packs, defense and writes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from benchmark.contracts.threat import Threat
from benchmark.measure.group import Group
from benchmark.model.pack import Pack, make_packs
from benchmark.model.passes import FullPass, Pass, TailPass
from benchmark.search.draws import normal

TRIED = 4
"""Examples of the shortest and of the longest prompts."""
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Largest relative difference between a tail pass and a full one; other dtypes round far more."""


def tail_is_exact(group: Group, threats: Iterable[Threat]) -> bool:
    """Whether values and gradients of both passes agree, with whatever access an attacker may have."""
    tried = [threat for threat in threats if threat.applies(group.task, group) is None]
    packs = make_packs(group.subject, group.task, group.examples, TRIED) if tried else []
    try:
        return all(_agree(group, threat, pack) for threat in tried for pack in (packs[0], packs[-1]))
    except (RuntimeError, TypeError, KeyError, IndexError, AttributeError):
        return False  # a family whose layers cannot be replayed; the full pass serves any


def _agree(group: Group, threat: Threat, pack: Pack) -> bool:
    access = threat.access(group, pack)
    if access is None:
        return True  # nothing is written into a stream
    room, writes = access
    shape = (len(pack), len(writes.boundaries), writes.width, group.subject.d_model)
    delta = 0.01 * normal("tail", shape).to(group.subject.device) * shape[-1] ** 0.5
    kinds = (FullPass, TailPass)
    full, tail = (_slope(group, kind(group.subject, room, group.edits, writes), delta) for kind in kinds)
    return all(agree(group.subject.dtype, a, b) for a, b in zip(full, tail, strict=True))


def agree(dtype: torch.dtype, full: Tensor, tail: Tensor) -> bool:
    """Whether what two passes of a model in ``dtype`` gave is the same, but for rounding."""
    tolerance = TOLERANCE.get(dtype, 5e-2)
    return bool((full - tail).abs().max() <= tolerance * full.abs().max().clamp(min=1e-6))


def _slope(group: Group, run: Pass, delta: Tensor) -> tuple[Tensor, Tensor]:
    at = delta.clone().requires_grad_()
    read = group.task.readout.flat(run(at, torch.arange(len(delta), device=delta.device)).read)
    return read.detach(), torch.autograd.grad(read.sum(), at)[0]
