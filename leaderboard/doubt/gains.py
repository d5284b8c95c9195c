"""Whether one attack recovers more than another, by more than chance."""

from __future__ import annotations

import numpy as np

from leaderboard.rows.arrays import Array

STANDARD_ERRORS = 2.0


def net_gain(first: Array, second: Array, clusters: Array) -> tuple[float, float]:
    """Share of ``first`` minus share of ``second``, (examples,) bool, and its cluster-robust standard error."""
    if not len(clusters):
        return 0.0, 0.0
    change = first.astype(float) - second.astype(float)
    _, place = np.unique(clusters, return_inverse=True)
    residuals = np.bincount(place, weights=change - change.mean())
    return float(change.mean()), float(np.sqrt(np.square(residuals).sum()) / len(change))


def significant(gain: float, error: float, margin: float = 0.0) -> bool:
    """Whether a gain passes ``margin`` and two standard errors."""
    return gain > margin and gain > STANDARD_ERRORS * error
