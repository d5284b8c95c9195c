"""eps50: the budget at which half of the suppressed examples are back (METHOD 9)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from leaderboard.rows.arrays import Array
from leaderboard.scores.intervals import LEVEL
from leaderboard.scores.resampling import Resamples
from leaderboard.scores.values import Strict


class Eps50(Strict):
    """The budget at which half of the suppressed examples are back, interpolated in log eps."""

    value: float | None
    """Null where nothing was suppressed."""
    censored: Literal["above", "below"] | None = None
    """above: more than ``value``, the largest budget; below: at most ``value``, the smallest one."""
    low: float | None = None
    """Lower end of the 95 % interval; null: above the largest budget, or no interval."""
    high: float | None = None
    """Upper end; null: above the largest budget, or no interval."""


def eps50(lost: Array, clusters: Array, budgets: Array, resamples: Resamples) -> Eps50:
    """The half point with its cluster-bootstrap interval.

    Args:
        lost: which suppressed examples were recovered up to each budget, (examples, budgets) bool.
        clusters: (examples,).
        budgets: ascending, (budgets,).
    """
    if not len(lost):
        return Eps50(value=None)
    low, high = _interval(lost, clusters, budgets, resamples)
    shares = lost.mean(axis=0)
    value = float(half_points(shares[None], budgets)[0])
    if np.isinf(value):
        return Eps50(value=float(budgets[-1]), censored="above", low=low, high=high)
    return Eps50(value=value, censored="below" if shares[0] >= 0.5 else None, low=low, high=high)


def half_points(shares: Array, budgets: Array) -> Array:
    """Where each curve of recovered shares, (curves, budgets), reaches one half, (curves,).

    Linear in log eps between the budgets beside it; infinite: nowhere; the smallest budget: there already.
    """
    reached = shares >= 0.5
    right = reached.argmax(axis=1)
    left = np.maximum(right - 1, 0)
    line = np.arange(len(shares))
    low, high = shares[line, left], shares[line, right]
    part = np.divide(0.5 - low, high - low, out=np.zeros_like(low), where=high > low)
    points = budgets[left] * (budgets[right] / budgets[left]) ** np.clip(part, 0, 1)
    return np.where(reached.any(axis=1), points, np.inf)


def smallest_half_point(found: Iterable[Eps50]) -> Eps50:
    """The one that says least for a defense; value null: none is known."""
    order = {"below": 0, None: 0, "above": 1}
    known = [(order[one.censored], one.value, one) for one in found if one.value is not None]
    return min(known, key=lambda item: item[:2])[2] if known else Eps50(value=None)


def _interval(lost: Array, clusters: Array, budgets: Array, resamples: Resamples) -> tuple[float | None, float | None]:
    if len(np.unique(clusters)) < 2:
        return None, None
    means = resamples.means(lost, clusters)
    points = np.sort(half_points(means[~np.isnan(means[:, 0])], budgets))
    # Order statistics, not interpolated quantiles: beyond the largest budget there is nothing to interpolate with.
    ends = [points[round(share * (len(points) - 1))] for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)]
    low, high = (None if np.isinf(end) else float(end) for end in ends)
    return low, high
