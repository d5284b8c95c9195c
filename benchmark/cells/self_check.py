"""Whether the restarted pass may stand in for the full one: tried on a group's own packs, defense and writes."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.cells.aim import is_below, vectors
from benchmark.cells.group import Group
from benchmark.contracts import ThreatModel
from benchmark.model.pack import Pack
from benchmark.model.packs import make_packs
from benchmark.model.passes import FullPass, Pass, TailPass
from benchmark.model.readers import flat
from benchmark.search.draws import normal

TRIED = 4
"""Examples of the shortest and of the longest prompts."""
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Largest relative difference between a restarted and a full pass; other dtypes round far more."""


def restart_is_exact(group: Group) -> bool:
    """Whether values and gradients of both passes agree, with whatever access an attacker of the task may have."""
    if is_below(group):
        return True  # nothing is written there
    packs = make_packs(group.subject, group.task, group.examples, TRIED)
    accesses = group.task.threat_models - {ThreatModel.TOKEN_SUFFIX}
    try:
        return all(_agree(group, access, pack) for access in accesses for pack in (packs[0], packs[-1]))
    except (RuntimeError, TypeError, KeyError, IndexError, AttributeError):
        return False  # a family whose layers cannot be replayed; the full pass serves any


def _agree(group: Group, access: ThreatModel, pack: Pack) -> bool:
    room, writes = vectors(group, access, pack)
    shape = (len(pack), len(writes.boundaries), writes.width, group.subject.d_model)
    delta = 0.01 * normal("restart", shape).to(group.subject.device) * shape[-1] ** 0.5
    full, tail = (_slope(kind(group.subject, room, group.edits, writes), delta) for kind in (FullPass, TailPass))
    tolerance = TOLERANCE.get(group.subject.dtype, 5e-2)
    return all(
        bool((a - b).abs().max() <= tolerance * a.abs().max().clamp(min=1e-6)) for a, b in zip(full, tail, strict=True)
    )


def _slope(run: Pass, delta: Tensor) -> tuple[Tensor, Tensor]:
    at = delta.clone().requires_grad_()
    read = flat(run(at, torch.arange(len(delta), device=delta.device)).read)
    return read.detach(), torch.autograd.grad(read.sum(), at)[0]
