"""Random directions in what the suite's SAE does not explain, where a clamp of its latents sees nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.measure.aim import Aim
from benchmark.measure.attribution import suite_dictionaries, written_on
from benchmark.measure.group import Group
from benchmark.sae.parts import split_sites
from benchmark.search.ballot import Ballot
from benchmark.search.draws import normal
from benchmark.sites import Site

NAME = "error-subspace"
DRAWS = 4


@torch.no_grad()
def error_subspace(group: Group, target: Aim, ballot: Ballot, lines: Tensor, keys: list[str]) -> Tensor:
    """Offer some directions to each of ``lines`` (k,) at the whole budget; the best of each is given back (k, ...).

    Where the suite has no SAE at a site that is written to, nothing is offered, and zero comes back.

    Args:
        keys: what the draws of each line are seeded from.
    """
    best = torch.zeros_like(ballot.delta[lines])
    if not _known(group, target):
        return best
    highest = torch.full((len(lines),), -torch.inf, device=best.device)
    budget = ballot.problem.budget[ballot.champions[lines]][:, None, None, None]
    streams = written_on(group, target, lines // ballot.levels)
    dictionaries = suite_dictionaries(group, target)
    for draw in range(DRAWS):
        noise = torch.stack([normal(f"{NAME}|{key}|{draw}", tuple(best.shape[1:])) for key in keys]).to(best.device)
        nothing = [[] for _ in target.writes.boundaries]
        unseen = split_sites(dictionaries, nothing, streams, _long(noise, budget)).residual
        tried = ballot.problem.restore(_long(unseen, budget), ballot.champions[lines])
        objective = ballot.offer(lines, tried, NAME)
        better = objective > highest
        best[better], highest[better] = tried[better], objective[better]
    return best


def _known(group: Group, target: Aim) -> bool:
    return set(target.writes.boundaries) <= {Site.parse(name).boundary for name in group.subject.saes}


def _long(delta: Tensor, budget: Tensor) -> Tensor:
    return delta * budget / delta.flatten(1).norm(dim=1).clamp(min=1e-30)[:, None, None, None]
