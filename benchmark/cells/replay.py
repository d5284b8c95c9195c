"""Attribution: the parts of a perturbation that recovered, replayed on clean passes of the defended model."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.cells.aim import Aim
from benchmark.cells.group import Group
from benchmark.cells.reference import judged_read
from benchmark.cells.remeasure import Row
from benchmark.model.edits import Edit
from benchmark.model.passes import FullPass, Writes
from benchmark.sae.attribution import attribute, split_sites
from benchmark.sae.dictionary import Dictionary, open_dictionary
from benchmark.search.draws import normal
from benchmark.search.oracle import select
from benchmark.sites import Site

DRAWS = 8
"""Random vectors of equal norm a row."""


@torch.no_grad()
def replay_columns(group: Group, target: Aim, delta: Tensor, rows: list[Row], levels: int) -> None:
    """Add the ``attr_`` columns to each example's first recovered row; ``delta`` (examples x levels, ...) like rows.

    Raises:
        UsageError: the suite has no SAE at an attacked site.
    """
    index = _first_recovered(rows, levels)
    if not len(index):
        return
    example, chosen = index // levels, delta[index]
    parts = split_sites(
        _dictionaries(group, target), _protected(group, target), _streams(group, target, example), chosen
    )
    run = FullPass(group.subject, target.pack, group.edits, target.writes)

    def replay(vector: Tensor) -> Tensor:
        read = judged_read(group.task, run, vector, example)
        return (group.task.verdict(read, select(target.batch, example)).margin > 0).to(vector.device)

    keys = [f"replay|{target.plain.examples[e].id}" for e in example.tolist()]
    noise = [[normal(f"{key}|{draw}", tuple(chosen.shape[1:])) for key in keys] for draw in range(DRAWS)]
    stacked = torch.stack([torch.stack(draw) for draw in noise]).to(chosen.device)
    for i, columns in zip(index.tolist(), attribute(parts, chosen, replay, stacked).columns(), strict=True):
        rows[i] |= columns


def _first_recovered(rows: list[Row], levels: int) -> Tensor:
    found = []
    for start in range(0, len(rows), levels):
        hits = [i for i in range(start, start + levels) if rows[i]["recovered"]]
        found += hits[:1]
    return torch.tensor(found, dtype=torch.long)


def _dictionaries(group: Group, target: Aim) -> list[Dictionary]:
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


def _streams(group: Group, target: Aim, example: Tensor) -> list[Tensor]:
    """What the perturbation is written on at each site: after the edit of the site, or before it."""
    writes = target.writes
    quiet = Writes((), writes.start, 0, after=False)
    streams = []
    for b in writes.boundaries:
        live: dict[int, Edit] = {at: edit for at, edit in group.edits.items() if at < b + writes.after}
        seen = FullPass(group.subject, target.pack, live, quiet)(None, example, frozenset({b}))
        streams.append(seen.stream[b][:, : writes.width].float())
    return streams
