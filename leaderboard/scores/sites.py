"""Which layer carried the recoveries: how the perturbations that brought the behavior back are spread over sites."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa

from leaderboard.rows.arrays import Array, text
from leaderboard.rows.selection import first_successes
from leaderboard.scores.intervals import estimates
from leaderboard.scores.resampling import Resamples
from leaderboard.scores.values import Estimate, Strict


class SiteShare(Strict):
    """One of the sites."""

    n: int
    """Recovered examples whose perturbation writes to it."""
    energy: float
    """Median share of the squared norm of the perturbation that lies there; over the sites of one they sum to 1."""
    carries: Estimate
    """Share of the recovered examples in whose perturbation no other site has a larger norm."""


class Sites(Strict):
    """Over the recovered examples of one attack, each at its smallest budget."""

    n: int
    clusters: int
    by_site: dict[str, SiteShare]
    """By hook name, in the order of the layers."""


def sites(rows: pa.Table, resamples: Resamples) -> Sites | None:
    """Of one attack; null: it recovered nothing, or wrote to one site alone."""
    rows = first_successes(rows)
    names, energy = _energy(rows)
    kept = energy.sum(axis=1) > 0
    energy, clusters = energy[kept], text(rows, "cluster_id")[kept]
    if len(names) < 2 or not len(energy):
        return None
    energy = energy / energy.sum(axis=1, keepdims=True)
    largest = energy >= energy.max(axis=1, keepdims=True)
    carries = estimates(largest, clusters, resamples)
    by_site = {
        name: SiteShare(n=int((energy[:, at] > 0).sum()), energy=float(np.median(energy[:, at])), carries=carries[at])
        for at, name in enumerate(names)
    }
    return Sites(n=len(energy), clusters=len(np.unique(clusters)), by_site=by_site)


def _energy(rows: pa.Table) -> tuple[list[str], Array]:
    """The sites that any row writes to, and the squared norm of each row there, (rows, sites)."""
    both = zip(_lists(rows, "written_sites"), _lists(rows, "delta_site_norms"), strict=True)
    written = [list(zip(named, norms, strict=False)) for named, norms in both]  # a file may be anybody's
    names = sorted({name for row in written for name, _ in row}, key=_layer)
    found = np.zeros((len(written), len(names)))
    for place, row in enumerate(written):
        for name, norm in row:
            found[place, names.index(name)] = norm**2
    return names, found


def _lists(rows: pa.Table, column: str) -> list[list[Any]]:
    return [one or [] for one in rows.column(column).to_pylist()]


def _layer(site: str) -> list[int | str]:
    """Numbers in a name sort as numbers."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", site)]
