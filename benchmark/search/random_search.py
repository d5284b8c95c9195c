"""A random search without gradients, after Square Attack (Andriushchenko et al., 2020): blocks of coordinates are
redrawn, and kept where the objective rises."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.search.ballot import Ballot
from benchmark.search.draws import generator

NAME = "random-search"
QUERIES = 16
BLOCK = 0.3
"""Share of the coordinates in the first block; it falls to a quarter of that."""


def random_search(ballot: Ballot, lines: Tensor, start: Tensor, keys: list[str]) -> None:
    """Climb from ``start`` (k, sites, perturbed, d_model) at the full budget of ``lines`` (k,), by ``QUERIES`` passes.

    Args:
        keys: what the draws of each line are seeded from.
    """
    draws = [generator(f"{NAME}|{key}") for key in keys]
    at = start.clone()
    best = ballot.offer(lines, at, NAME)
    for query in range(QUERIES - 1):
        going = ballot.open[lines].nonzero()[:, 0]
        if not len(going):
            return
        share = BLOCK * (1 - 0.75 * query / QUERIES)
        drawn = [_redrawn(at[i], share, draws[i]) for i in going.tolist()]
        tried = _full(ballot, lines[going], torch.stack(drawn))
        objective = ballot.offer(lines[going], tried, NAME)
        better = (objective > best[going]).nonzero()[:, 0]
        at[going[better]], best[going[better]] = tried[better], objective[better]


def _redrawn(delta: Tensor, share: float, draws: torch.Generator) -> Tensor:
    """``delta`` with a block of coordinates set to one size, each of a random sign."""
    flat = delta.flatten().clone()
    width = max(1, round(share * len(flat)))
    first = int(torch.randint(len(flat) - width + 1, (1,), generator=draws))
    signs = torch.randint(2, (width,), generator=draws).to(flat) * 2 - 1
    flat[first : first + width] = signs * flat.norm() / len(flat) ** 0.5
    return flat.view_as(delta)


def _full(ballot: Ballot, lines: Tensor, delta: Tensor) -> Tensor:
    """``delta`` at the whole budget, in the constraint."""
    budget = ballot.problem.budget[ballot.champions[lines]]
    scaled = delta * (budget / delta.flatten(1).norm(dim=1).clamp(min=1e-30))[:, None, None, None]
    return ballot.problem.restore(scaled, ballot.champions[lines])
