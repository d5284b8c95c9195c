"""Attribution: the parts of a perturbation that recovered, replayed on clean passes of the defended model.

Each part is replayed at its own norm and at the norm of the whole, beside random vectors of that norm, and the cosines
between them are reported (METHOD section 7).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor

from benchmark.contracts.defense import Edit
from benchmark.contracts.row import Attribution, Cosines, Part
from benchmark.measure.aim import Aim
from benchmark.measure.group import Group
from benchmark.measure.judging import Weighed, is_broken
from benchmark.model.passes import FullPass, Writes
from benchmark.sae.dictionary import Dictionary, open_dictionary
from benchmark.sae.parts import Parts, split_sites
from benchmark.search.draws import normal
from benchmark.sites import Site

DRAWS = 8
"""Random vectors of equal norm a row."""
EMPTY = 1e-5
"""A part below this share of the perturbation is rounding: it has no direction to replay."""
PAIRS = tuple(combinations((*Parts._fields, "delta"), 2))
"""What cosines are taken between."""

Replay = Callable[[Tensor], Tensor]
"""Perturbations (rows, sites, perturbed, d_model) -> (rows,) bool: the goal is reached on a clean pass."""


@torch.no_grad()
def replay_parts(group: Group, target: Aim, delta: Tensor, example: Tensor) -> list[Attribution]:
    """What the parts of ``delta`` (rows, ...), written into the examples ``example`` (rows,), do alone.

    Raises:
        UsageError: the suite has no SAE at an attacked site.
    """
    parts = split_sites(
        suite_dictionaries(group, target), _protected(group, target), written_on(group, target, example), delta
    )
    run = Weighed(group.full_pass(target.pack, target.writes))

    def replay(vector: Tensor) -> Tensor:
        read = group.task.readout.judged(run, vector, example)
        hit = group.task.verdict(read, target.criteria.rows(example)).margin.to(vector.device) > 0
        return hit if run.log_mass is None or group.floor is None else hit & ~is_broken(run.log_mass, group.floor)

    keys = [f"replay|{target.plain.examples[e].id}" for e in example.tolist()]
    noise = [[normal(f"{key}|{draw}", tuple(delta.shape[1:])) for key in keys] for draw in range(DRAWS)]
    stacked = torch.stack([torch.stack(draw) for draw in noise]).to(delta.device)
    return attribute(parts, delta, replay, stacked)


@torch.no_grad()
def attribute(parts: Parts, delta: Tensor, replay: Replay, noise: Tensor) -> list[Attribution]:
    """Replay every part of ``delta`` (rows, sites, perturbed, d_model) at its own norm and at that of ``delta``.

    Costs ``6 + draws`` passes a row, all at perturbations that no search has seen.

    Args:
        noise: (draws, rows, sites, perturbed, d_model), standard normal; the control for the norm alone.
    """
    whole = _norm(delta)
    random = torch.stack([replay(_resized(n, whole)).to(whole.dtype) for n in noise]).mean(0).tolist()
    each = {name: _replayed(part, whole, replay) for name, part in parts._asdict().items()}
    angles = _cosines({**parts._asdict(), "delta": delta}, whole)
    return [
        Attribution(random_recovered=random[i], cos=angles[i], **{name: rows[i] for name, rows in each.items()})
        for i in range(len(delta))
    ]


def _replayed(part: Tensor, whole: Tensor, replay: Replay) -> list[Part]:
    share = _norm(part) / whole
    own, equal = replay(part).tolist(), replay(_resized(part, whole)).tolist()
    return [
        Part(share=_known(s), recovered=a if s > EMPTY else None, equal_recovered=b if s > EMPTY else None)
        for s, a, b in zip(share.tolist(), own, equal, strict=True)
    ]


def _cosines(directions: dict[str, Tensor], whole: Tensor) -> list[Cosines]:
    missing = {name: ~(_norm(x) > (EMPTY * whole if name != "delta" else 0)) for name, x in directions.items()}
    found = {
        f"{a}_{b}": _cosine(directions[a], directions[b]).masked_fill(missing[a] | missing[b], torch.nan).tolist()
        for a, b in PAIRS
    }
    return [Cosines(**{name: _known(values[i]) for name, values in found.items()}) for i in range(len(whole))]


def _known(value: float) -> float | None:
    return None if value != value else value


def _norm(x: Tensor) -> Tensor:
    return x.double().flatten(1).norm(dim=1)


def _resized(x: Tensor, norm: Tensor) -> Tensor:
    """``x`` at the given norms (rows,); zero stays zero."""
    factor = norm / _norm(x).clamp(min=1e-30)
    return (x.double() * factor[:, None, None, None]).to(x.dtype)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(a.double().flatten(1), b.double().flatten(1))


def suite_dictionaries(group: Group, target: Aim) -> list[Dictionary]:
    """The suite's SAE at each site that is written to.

    Raises:
        UsageError: there is none.
    """
    return [open_dictionary(group.subject, _site(group, b)) for b in target.writes.boundaries]


def _site(group: Group, boundary: int) -> Site:
    """The attacked site by the name that the suite's SAE has."""
    named = [Site.parse(name) for name in group.subject.saes]
    return next((site for site in named if site.boundary == boundary), Site(boundary))


def _protected(group: Group, target: Aim) -> list[list[int]]:
    return [
        [latent for features in group.protected_at([b]) for latent in features.latents]
        for b in target.writes.boundaries
    ]


def written_on(group: Group, target: Aim, example: Tensor) -> Sequence[Tensor]:
    """What a perturbation is written on at each site: after the edit of the site, or before it."""
    writes = target.writes
    quiet = Writes((), writes.start, 0, after=False)
    streams = []
    for b in writes.boundaries:
        live: dict[int, Edit] = {at: edit for at, edit in group.edits.items() if at < b + writes.after}
        seen = FullPass(group.subject, target.pack, live, quiet)(None, example, frozenset({b}))
        streams.append(seen.stream[b][:, : writes.width].float())
    return streams
