"""Ranks with their uncertainty, from bootstrap resamples that all entries share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leaderboard.rows.arrays import Array
from leaderboard.scores.drawn import Drawn
from leaderboard.scores.intervals import LEVEL, percentile_difference
from leaderboard.scores.values import Strict

EQUAL = 1e-9


class Rank(Strict):
    """Place among the ranked entries; entries that the paired bootstrap cannot tell apart share one."""

    rank: int
    low: int
    """Best rank within the 95 % interval."""
    high: int


def ranks(scores: Sequence[Drawn], clusters: Sequence[int]) -> list[Rank]:
    """The rank of each score, in the order given, which is best first.

    Args:
        clusters: over which each was measured, (scores,).
    """
    shared, (low, high) = _shared_ranks(scores, clusters), _rank_intervals(scores)
    return [
        Rank(rank=rank, low=min(rank, int(best)), high=max(rank, int(worst)))
        for rank, best, worst in zip(shared, low, high, strict=True)
    ]


def _shared_ranks(scores: Sequence[Drawn], clusters: Sequence[int]) -> list[int]:
    """Places 1, 2, ...; whoever cannot be told from the first of a group by the paired bootstrap shares its rank."""
    found: list[int] = []
    leader = 0
    for place, one in enumerate(scores):
        if place and _told_apart(scores[leader], one, min(clusters[leader], clusters[place])):
            leader = place
        found.append(leader + 1)
    return found


def _told_apart(better: Drawn, worse: Drawn, clusters: int) -> bool:
    gap = better.value - worse.value
    if gap <= EQUAL:
        return False
    interval = percentile_difference(better.draws - worse.draws, gap, clusters)
    return interval is not None and interval.low > EQUAL


def _rank_intervals(scores: Sequence[Drawn]) -> Array:
    """Best and worst rank in the middle 95 % of the resamples, (2, scores)."""
    if not scores:
        return np.empty((2, 0))
    drawn = np.stack([one.draws for one in scores])
    found = np.stack([1 + (drawn > own + EQUAL).sum(axis=0) for own in drawn])
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    return np.stack([np.quantile(found, end, axis=1, method="nearest") for end in ends])
