"""Ranks with their uncertainty, from bootstrap resamples that all entries share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from leaderboard.entries import Scored
from leaderboard.intervals import LEVEL, percentile_difference
from leaderboard.rows import Array
from leaderboard.schema import Entry, Rank, Verdict

EQUAL = 1e-9
REPEATED = "another run of the same defense on the same model scored lower"


def ranked_entries(scored: Sequence[Scored]) -> list[Entry]:
    """All entries, best first, the ranked ones before the others, each ranked one with its rank."""
    scored = sorted(_worst_of_repeats(scored), key=lambda one: _order(one.entry))
    inside = [one for one in scored if one.entry.verdict.status == "ranked"]
    outside = [one.entry for one in scored if one.entry.verdict.status == "unranked"]
    shared, (low, high) = _shared_ranks(inside), _rank_intervals(inside)
    ranks = [
        Rank(rank=rank, low=min(rank, int(best)), high=max(rank, int(worst)))
        for rank, best, worst in zip(shared, low, high, strict=True)
    ]
    return [one.entry.model_copy(update={"rank": rank}) for one, rank in zip(inside, ranks, strict=True)] + outside


def _score(entry: Entry) -> float:
    value = entry.headline.wrs_selective.value
    return -1.0 if value is None else value


def _order(entry: Entry) -> tuple[bool, float, str, str, str]:
    """Best first; controls that were not attacked last."""
    attacked = any(
        (cell.role, cell.goal) == ("attack", "behavior") for result in entry.per_task.values() for cell in result.cells
    )
    return (not attacked, -_score(entry), entry.defense.name, entry.model.id, entry.provenance.run_id)


def _worst_of_repeats(scored: Sequence[Scored]) -> list[Scored]:
    """Of several ranked runs of one defense only the lowest stays: seeds are a worst case, not a lottery."""

    def identity(one: Scored) -> tuple[str, str, str]:
        model = one.entry.model
        return (one.entry.defense.spec_sha, model.id, model.weights_sha or model.revision or "")

    kept = [one for one in scored if one.entry.verdict.status == "unranked"]
    candidates = sorted((one for one in scored if one.entry.verdict.status == "ranked"), key=identity)
    for _, group in groupby(candidates, key=identity):
        lowest, *others = sorted(group, key=lambda one: _order(one.entry), reverse=True)
        barred = Verdict(status="unranked", reasons=[REPEATED])
        kept += [lowest, *(one._replace(entry=one.entry.model_copy(update={"verdict": barred})) for one in others)]
    return kept


def _shared_ranks(scored: Sequence[Scored]) -> list[int]:
    """Places 1, 2, ...; whoever cannot be told from the first of a group by the paired bootstrap shares its rank."""
    ranks: list[int] = []
    leader = 0
    for place, one in enumerate(scored):
        if place and _told_apart(scored[leader], one):
            leader = place
        ranks.append(leader + 1)
    return ranks


def _told_apart(better: Scored, worse: Scored) -> bool:
    gap = _score(better.entry) - _score(worse.entry)
    if better.resampled is None or worse.resampled is None or gap <= EQUAL:
        return False
    clusters = min(better.entry.headline.n_clusters, worse.entry.headline.n_clusters)
    interval = percentile_difference(better.resampled - worse.resampled, gap, clusters)
    return interval is not None and interval.low > EQUAL


def _rank_intervals(scored: Sequence[Scored]) -> Array:
    """Best and worst rank in the middle 95 % of the resamples, (2, entries)."""
    if not scored:
        return np.empty((2, 0))
    drawn = np.stack([np.zeros(1) if one.resampled is None else one.resampled for one in scored])
    ranks = np.stack([1 + (drawn > own + EQUAL).sum(axis=0) for own in drawn])
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    return np.stack([np.quantile(ranks, end, axis=1, method="nearest") for end in ends])
