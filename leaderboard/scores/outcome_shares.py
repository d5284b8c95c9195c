"""What became of the eligible examples of a cell, as shares with intervals."""

from __future__ import annotations

from leaderboard.scores.cells import Classes
from leaderboard.scores.intervals import wilson
from leaderboard.scores.values import Estimate


def outcome_shares(found: Classes, clusters: int) -> dict[str, Estimate]:
    """By outcome, of the eligible examples; empty where there are none.

    Args:
        clusters: of the eligible examples; each counts as one row of the interval, which is then wide enough however
            alike the examples of a cluster are.
    """
    counts = found.model_dump()
    eligible = sum(counts.values())
    if not eligible:
        return {}
    return {name: _share(count / eligible, clusters) for name, count in counts.items()}


def _share(value: float, clusters: int) -> Estimate:
    known = clusters if clusters > 1 else 0
    return Estimate(value=value, interval=wilson(value * known, known, "wilson-on-clusters"))
