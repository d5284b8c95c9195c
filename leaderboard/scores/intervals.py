"""Intervals of 95 % for shares, means and differences of rows that come in clusters.

Rows of one cluster (a question, a template) are no independent draws: Wilson serves only where each row is a cluster
of its own, the cluster bootstrap everywhere else. Where the bootstrap says nothing it is not believed:

- no rows, or one cluster: no interval (null);
- no width, because all clusters agree (all held, say): Wilson with each cluster counted as one row, which for 0 of K
  clusters is about [0, 4 / (K + 4)]; for a difference, the point plus and minus that upper end; for a
  difference of losses, null.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist

import numpy as np

from leaderboard.rows.arrays import Array
from leaderboard.scores.resampling import Resamples
from leaderboard.scores.values import Estimate, Interval

LEVEL = 0.95
WIDTHLESS = 1e-12


def wilson(successes: float, n: int, method: str = "wilson") -> Interval | None:
    """Wilson's score interval for ``successes`` of ``n``; null without rows. Successes may be fractional."""
    if n == 0:
        return None
    z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if share <= 0 else max(0.0, centre - half)
    high = 1.0 if share >= 1 else min(1.0, centre + half)
    return Interval.model_validate({"low": low, "high": high, "method": method})


def percentile(draws: Array, point: float, clusters: int) -> Interval | None:
    """The interval of a mean in [0, 1] from its bootstrap ``draws``, (resamples,); see the module for its edges."""
    bounds = _bounds(draws, clusters)
    if bounds is not None and bounds[1] - bounds[0] <= WIDTHLESS:
        return wilson(min(1.0, max(0.0, point)) * clusters, clusters, "wilson-on-clusters")
    return bounds and Interval(low=bounds[0], high=bounds[1], method="cluster-bootstrap")


def percentile_difference(draws: Array, point: float, clusters: int) -> Interval | None:
    """The same for a difference in [-1, 1]."""
    bounds = _bounds(draws, clusters)
    none_of = wilson(0, clusters)
    if bounds is not None and none_of is not None and bounds[1] - bounds[0] <= WIDTHLESS:
        low, high = max(-1.0, point - none_of.high), min(1.0, point + none_of.high)
        return Interval(low=low, high=high, method="wilson-on-clusters")
    return bounds and Interval(low=bounds[0], high=bounds[1], method="cluster-bootstrap")


def percentile_loss(draws: Array, clusters: int) -> Interval | None:
    """The same for a difference of losses, which has no bounds; null where all clusters agree."""
    bounds = _bounds(draws, clusters)
    if bounds is None or bounds[1] - bounds[0] <= WIDTHLESS:
        return None
    return Interval(low=bounds[0], high=bounds[1], method="cluster-bootstrap")


def _bounds(draws: Array, clusters: int) -> tuple[float, float] | None:
    """2.5 and 97.5 % of the draws, less the empty ones; null below two clusters."""
    known = draws[~np.isnan(draws)]
    if clusters < 2 or not len(known):
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def estimates(values: Array, clusters: Array, resamples: Resamples) -> list[Estimate]:
    """The mean of each column of ``values``, (rows, statistics), all in [0, 1], with its interval.

    Boolean values whose rows are all clusters of their own get Wilson's interval, all others the bootstrap's.
    """
    rows, known = len(clusters), len(np.unique(clusters))
    if rows == 0:
        return [Estimate(value=None)] * values.shape[1]
    means = [float(mean) for mean in values.mean(axis=0)]
    if known < 2:
        return [Estimate(value=mean) for mean in means]
    if values.dtype == bool and known == rows:
        return [Estimate(value=mean, interval=wilson(mean * rows, rows)) for mean in means]
    draws = resamples.means(values, clusters)
    return [
        Estimate(value=mean, interval=percentile(draws[:, column], mean, known)) for column, mean in enumerate(means)
    ]


def p_value(draws: Array, clusters: int) -> float:
    """Two-sided, of a difference that the bootstrap ``draws``, (resamples,), are of.

    Never below 2 / 2^clusters, the smallest that flipping the clusters' signs could give.
    """
    known = draws[~np.isnan(draws)]
    tail = min(np.sum(known <= 0), np.sum(known >= 0)) + 1
    return min(1.0, max(2 * float(tail) / (len(known) + 1), 2.0 ** (1 - clusters)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted
