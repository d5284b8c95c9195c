"""Editions of a defense: where a site has several SAEs, whoever reads the suite's there is evaluated with each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmark.sites import Site
from benchmark.spec import Edition, Named


def editions(named: Named, site: Site, saes: Mapping[str, Sequence[str]]) -> list[Named]:
    """The defense with the first SAE of each site, and once more for every further SAE that it could read on a task.

    Args:
        site: where the suite would have the task defended.
        saes: the suite's, by site.
    """
    read = [len(saes.get(str(place), ())) for place in named.defense.suite_saes(site)]
    return [named, *(_edition(named, number, saes) for number in range(2, max(read, default=1) + 1))]


def _edition(named: Named, number: int, saes: Mapping[str, Sequence[str]]) -> Named:
    """The defense with the SAE ``number`` of each site that has so many, and with the first of the others."""
    taken = {site: sources[number - 1 if number <= len(sources) else 0] for site, sources in saes.items()}
    return Named(f"{named.name}@{number}", named.defense, Edition(named.name, tuple(taken.items())))
