"""An attacker of the stream at several places: for every (example, budget) the place where the defense does worse."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmark.contracts.row import Cost
from benchmark.measure.group import Group
from benchmark.measure.outcome import Attacked, Found
from benchmark.sites import Site

DOUBTS = ("gradient-mismatch", "depends-on-caller")
"""What is doubtful about a search remains so where another one did better."""


def names(group: Group) -> tuple[str, ...]:
    """Hook names of the sites that are written to: the defense's own where it names them."""
    named = {site.boundary: str(site) for site in group.fitted.edits}
    return tuple(named.get(boundary) or _name(group, boundary) for boundary in group.sites)


def worse(places: Sequence[Group], found: Sequence[Found]) -> Found:
    """What counts of what was found at each place: a recovery, the smaller the better; else the larger margin.

    The proposals have a line for every site of any place, in the model's order, zero where nothing was written.
    """
    sites = sorted({boundary for place in places for boundary in place.sites})
    wide = [_spread(place, sites, one.proposals) for place, one in zip(places, found, strict=True)]
    proposals, rows = wide[0].clone(), list[list[Attacked]]()
    for i, of_example in enumerate(zip(*(one.attacked for one in found), strict=True)):
        rows.append([])
        for level, here in enumerate(zip(*of_example, strict=True)):
            chosen = max(range(len(here)), key=lambda place, here=here: _rank(here[place]))
            proposals[i, level] = wide[chosen][i, level]
            rows[-1].append(_counted(here, chosen))
    return Found(rows, proposals)


def _rank(row: Attacked) -> tuple[bool, float]:
    measured = row.measured
    return measured.recovered, -measured.size.eps if measured.recovered else measured.margin


def _counted(here: Sequence[Attacked], chosen: int) -> Attacked:
    """The chosen row, with what all of them cost, and what was doubtful about the gradients of any."""
    row = here[chosen]
    raised = dict.fromkeys((*row.flags, *(code for other in here for code in other.flags if code in DOUBTS)))
    sampled = max((o.slopes for o in here if o.slopes), key=lambda s: (s.call_path_gap, s.slope_gap), default=None)
    return row._replace(cost=_sum([other.cost for other in here]), flags=tuple(raised), slopes=sampled)


def _sum(costs: Sequence[Cost]) -> Cost:
    peaks = [cost.peak_memory_mb for cost in costs if cost.peak_memory_mb is not None]
    return Cost(
        steps=sum(cost.steps for cost in costs),
        forwards=sum(cost.forwards for cost in costs),
        backwards=sum(cost.backwards for cost in costs),
        seconds=sum(cost.seconds for cost in costs),
        peak_memory_mb=max(peaks, default=None),
    )


def _spread(place: Group, sites: Sequence[int], proposals: Tensor) -> Tensor:
    """Proposals (examples, budgets, own sites, perturbed, d_model) with a line for each of ``sites``."""
    shape = (*proposals.shape[:2], len(sites), *proposals.shape[3:])
    wide = torch.zeros(shape, dtype=proposals.dtype)
    wide[:, :, [sites.index(boundary) for boundary in place.sites]] = proposals
    return wide


def _name(group: Group, boundary: int) -> str:
    last = group.subject.n_layers
    return str(Site(boundary) if boundary < last else Site(last - 1, "resid_post"))
