"""Whether a defense protects the same latents in every SAE that it was evaluated with: ``stability.json``.

Of two editions of a defense on a task, the latents of the one are looked for in the SAE of the other. How robust the
editions are is in their rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import cache
from itertools import combinations
from typing import Any, NamedTuple

from torch import Tensor

from benchmark.errors import UsageError
from benchmark.run.plan import Plan
from benchmark.run.saes import Saes
from benchmark.run.store import Store
from benchmark.sae.stability import stability
from benchmark.sites import Site
from benchmark.spec import Named

Record = Mapping[str, Any]
"""JSON values."""


class Pair(NamedTuple):
    """The protected latents of two editions of a defense at a site."""

    site: str
    first: Named
    second: Named
    saes: tuple[str, str]
    latents: list[int]
    """Of the first."""
    partners: list[int]
    """Of the second."""

    def says(self, task: str) -> dict[str, Any]:
        """What tells the pair from others."""
        names = {"defense": self.first.family, "first": self.first.name, "second": self.second.name}
        return {"task": task, **names, "site": self.site, "latents": self.latents, "partners": self.partners}


def keep_stability(store: Store, plan: Plan, task: str, saes: Saes, tell: Callable[[str], None]) -> None:
    """Write what the editions of each evaluated defense have in common on a task; nothing where there are none.

    A pair that is known is not looked at again. One that cannot be compared is told, and left out.
    """
    attacked = {cell.defense for cell in plan.cells if cell.task == task and not cell.attack.is_control}
    fits = {name: store.fit(task, name) for name in attacked}
    before, found, stream = store.stability(), list[Record](), cache(saes.tokens)
    for pair in pairs(plan, task, fits):
        says = pair.says(task)
        known = next((one for one in before if all(one.get(key) == value for key, value in says.items())), None)
        try:
            found.append(known or {**says, **_compared(pair, saes, stream)})
        except UsageError as error:
            tell(f"{task}: {pair.first.name} and {pair.second.name} are not compared at {pair.site}: {error}")
    if found:
        store.write_json("stability.json", {"pairs": [*(one for one in before if one.get("task") != task), *found]})


def pairs(plan: Plan, task: str, fits: Mapping[str, Record]) -> Iterator[Pair]:
    """Every two editions of a defense, at each site where they protect latents of different SAEs of the suite.

    Args:
        fits: by name, what fitting found; a defense without is left out.
    """
    home = Site.parse(plan.suite.tasks[task].site)
    for first, second in combinations([one for one in plan.on(task) if fits.get(one.name)], 2):
        if first.family != second.family:
            continue
        mine, theirs = (_protected(fits[one.name]) for one in (first, second))
        shared = set(mine) & set(theirs) & set(plan.suite.saes)
        for site in sorted(shared & {str(place) for place in first.defense.suite_saes(home)}):
            saes = plan.sae(first, site), plan.sae(second, site)
            if saes[0] != saes[1]:
                yield Pair(site, first, second, saes, mine[site], theirs[site])


def _protected(fit: Record) -> dict[str, list[int]]:
    return {site: latents for site, latents in fit.get("fingerprint", {}).get("protected", {}).items() if latents}


def _compared(pair: Pair, saes: Saes, stream: Callable[[Site], Tensor]) -> dict[str, Any]:
    site = Site.parse(pair.site)
    one, other = (saes.opened(site, source) for source in pair.saes)
    found = stability(one, other, pair.latents, pair.partners, stream(site))
    return {**asdict(found), "site": pair.site, "saes": list(pair.saes)}
