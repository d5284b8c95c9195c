"""The direction from the defended stream back to the undefended one, which no gradient is needed to see.

Written behind a defense of one site it undoes it whole, so its norm bounds from above what a search may need there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.contracts.defense import Edit
from benchmark.measure.aim import Aim
from benchmark.measure.group import Group
from benchmark.model.passes import FullPass, Writes
from benchmark.search.ballot import Ballot

NAME = "way-back"


@torch.no_grad()
def way_back(group: Group, target: Aim, ballot: Ballot) -> None:
    """Offer it to every open line: at the line's whole budget, and as it is where that is less."""
    examples = ballot.left
    if not len(examples):
        return
    way = torch.zeros(len(target.plain), *ballot.delta.shape[1:], device=ballot.delta.device)
    way[examples] = _streams(group, target, examples, {}) - _streams(group, target, examples, group.edits)
    for whole in (False, True):
        lines = ballot.lines()
        delta = way[lines // ballot.levels]
        norm, budget = delta.flatten(1).norm(dim=1), ballot.problem.budget[ballot.champions[lines]]
        asked = (norm > 0) & (whole | (norm < budget))
        scale = budget / norm.clamp(min=1e-30) if whole else torch.ones_like(norm)
        if asked.any():
            ballot.offer(lines[asked], (delta * scale[:, None, None, None])[asked], NAME)


def _streams(group: Group, target: Aim, examples: Tensor, edits: object) -> Tensor:
    """What leaves each site that is written to, at the positions written to: (examples, sites, perturbed, d_model)."""
    writes = target.writes
    live: dict[int, Edit] = dict(edits)  # pyright: ignore
    run = FullPass(group.subject, target.pack, live, Writes((), writes.start, 0, after=False))
    seen = run(None, examples, frozenset(writes.boundaries)).stream
    return torch.stack([seen[b][:, : writes.width].float() for b in writes.boundaries], 1)
