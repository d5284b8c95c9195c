"""What threat models share whose attacker writes into the stream: at which sites, and which of these counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from benchmark.contracts.attack import Attack
from benchmark.measure.group import Group
from benchmark.measure.outcome import Found
from benchmark.measure.remeasure import Measured
from benchmark.model.pack import Pack
from benchmark.model.passes import Writes
from benchmark.search.pack_size import PackSize
from benchmark.threats.places import names, worse
from benchmark.threats.vectors import Replayed, VectorThreat, Where


class StreamThreat(VectorThreat):
    """Writes at the defended sites (without a defense, at the suite's), at the last positions of the prompt."""

    unit = "residual"
    unbounded = True
    after: bool
    """Behind the edit of the same site, else before it."""

    def applies(self, task: object, defended: Group | None = None) -> str | None:
        site = None if defended is None else defended.task.readout.reads_at
        if defended is None or site is None or site.boundary >= min(defended.sites):
            return None
        return f"what is read lies at {site}, below every defended site: nothing that is written reaches it"

    def access(self, group: Group, pack: Pack) -> tuple[Pack, Writes]:
        ordinary = int((~pack.where.special[0, : pack.readout + 1]).sum())
        width = ordinary if group.perturbed == "all" else min(group.perturbed, ordinary)
        return pack, Writes(group.sites, pack.readout + 1 - width, width, self.after)

    def norm(self, group: Group, writes: Writes) -> float:
        return group.scale.unit(writes)

    def places(self, group: Group) -> Sequence[Group]:
        """The group as it is attacked by a search, once for each place; the worst one counts.

        What was learned before stays at the defended sites: it has the shape that it was learned in."""
        return (group,)

    def attack(
        self,
        group: Group,
        attack: Attack,
        budgets: Sequence[float],
        seed: int,
        packs: Sequence[Pack],
        pack_size: PackSize,
    ) -> list[Found]:
        places = self._written(group, attack)
        found = [self._at(place, attack, budgets, seed, packs, pack_size) for place in places]
        return found[0] if len(found) == 1 else [worse(places, of_pack) for of_pack in zip(*found, strict=True)]

    def _written(self, group: Group, attack: Attack) -> list[Group]:
        """The group at every place that an attack writes at."""
        asked = self.places(group) if self._doubted(group, attack) else (group,)
        return [place for place in asked if unheld(place, attack.constraint) is None]

    def replay(
        self, group: Group, attack: Attack, pack: Pack, proposals: Tensor, where: Where, pack_size: PackSize
    ) -> Replayed:
        """Each where it was written; the proposals have a line for every site of any place."""
        places = self._written(group, attack)
        sites = sorted({boundary for place in places for boundary in place.sites})
        found: list[list[Measured | None]] = [[None] * len(levels) for levels in where]
        for place in places:
            own = names(place)
            lines = [sites.index(boundary) for boundary in place.sites]
            measured = self._replayed(place, attack, pack, proposals[:, :, lines], pack_size)
            for i, levels in enumerate(where):
                for k, named in enumerate(levels):
                    found[i][k] = measured[i][k] if named == own else found[i][k]
        return found

    def _at(self, place: Group, *how: Any) -> list[Found]:
        """An attack at one place, whose rows say which it is."""
        where = names(place)
        return [
            found._replace(attacked=[[row._replace(written_sites=where) for row in rows] for rows in found.attacked])
            for found in super().attack(place, *how)
        ]

    def _doubted(self, group: Group, attack: Attack) -> bool:
        return attack.searches and not attack.is_control and group.protocol.ranked


def unheld(group: Group, constraint: str) -> str | None:
    """Why a constraint has nothing to hold under the group's defense; None: it has, or asks for nothing."""
    held = {"encoder": group.protected_at(group.sites), "jacobian": group.protected_from(min(group.sites))}
    if held.get(constraint, True):
        return None
    return f"the defense protects no features there: the constraint {constraint} has nothing to hold"
