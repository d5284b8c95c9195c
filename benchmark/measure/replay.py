"""What was found under one threat model, written under another one that can do less.

A gradient that is false in front of an edit is not so behind it: what was found there shows what there is to find.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from benchmark.contracts.row import REPLAYED
from benchmark.measure.aim import Aim
from benchmark.measure.group import Group
from benchmark.names import public_id
from benchmark.search.ballot import Ballot

_FOUND: WeakKeyDictionary[Group, dict[str, list[Mapping[str, Tensor]]]] = WeakKeyDictionary()
"""What cells that stand before others left, by threat model, in the order of the plan."""


def remember(group: Group, threat_model: str, proposals: Mapping[str, Tensor]) -> None:
    """Keep what a cell found, (budgets, sites, perturbed, d_model) an example, for those that come after it."""
    _FOUND.setdefault(group, {}).setdefault(threat_model, []).append(proposals)


def found_under(group: Group, threat_model: str | None, shape: Sequence[int]) -> dict[str, Tensor]:
    """By public id of an example what was found under a threat model, (k, *shape); nothing of another shape."""
    kept: dict[str, list[Tensor]] = {}
    for cell in _FOUND.get(group, {}).get(threat_model or "", ()):
        for example, delta in cell.items():
            if tuple(delta.shape[1:]) == tuple(shape):
                kept.setdefault(example, []).append(delta)
    return {example: torch.cat(parts) for example, parts in kept.items()}


def replay(found: Mapping[str, Tensor], target: Aim, ballot: Ballot) -> None:
    """Offer each open line what was found for its example, at the budgets that were closest to its own."""
    ids = [public_id(example.id) for example in target.plain.examples]
    lines = [line for line in ballot.lines().tolist() if ids[line // ballot.levels] in found]
    if not lines:
        return
    candidates = [_closest(found[ids[line // ballot.levels]], ballot, line) for line in lines]
    for turn in range(max(len(c) for c in candidates)):
        turns = [(line, c[turn]) for line, c in zip(lines, candidates, strict=True) if turn < len(c)]
        still = [(line, delta) for line, delta in turns if ballot.open[line]]
        if still:
            index = torch.tensor([line for line, _ in still], device=ballot.delta.device)
            ballot.offer(index, torch.stack([delta for _, delta in still]).to(ballot.delta), REPLAYED)


def _closest(delta: Tensor, ballot: Ballot, line: int, count: int = 2) -> Tensor:
    """Those of ``delta`` (k, ...) whose norm is nearest to the line's budget."""
    budget = float(ballot.problem.budget[ballot.champions[line]])
    return delta[(delta.flatten(1).norm(dim=1) - budget).abs().argsort(stable=True)[:count]]
