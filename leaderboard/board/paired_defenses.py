"""Two defenses of a board on the same resamples of each task's clusters: which differ, by how much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from leaderboard.board.conditions import conditions
from leaderboard.board.entries import Scored
from leaderboard.board.schema import Comparison
from leaderboard.scores.compared import compared
from leaderboard.scores.intervals import holm


def comparisons(scored: Sequence[Scored]) -> list[Comparison]:
    """Every pair of attacked defenses on every task on which both were measured alike, by primary threat model; p
    values are Holm's over the comparisons of a pair."""
    ordered = sorted(scored, key=lambda one: (one.entry.defense.name, one.entry.provenance.run_id))
    return [found for a, b in combinations(ordered, 2) for found in _corrected(list(_of_pair(a, b)))]


def _of_pair(first: Scored, second: Scored) -> Iterator[Comparison]:
    for task, result in sorted(first.entry.per_task.items()):
        if task not in second.drawn or conditions(first.entry, task) != conditions(second.entry, task):
            continue
        for threat in first.drawn[task].scored["primary"]:
            areas = (one.drawn[task].areas.get(threat) for one in (first, second))
            found = compared(*areas, clusters=result.clusters)
            if found is not None:
                yield Comparison(
                    task=task,
                    threat_model=threat,
                    first=first.entry.defense.name,
                    second=second.entry.defense.name,
                    runs=(first.entry.provenance.run_id, second.entry.provenance.run_id),
                    aurc=found.difference,
                    p=found.p,
                )


def _corrected(found: Sequence[Comparison]) -> list[Comparison]:
    adjusted = holm([one.p for one in found])
    return [one.model_copy(update={"p": p}) for one, p in zip(found, adjusted, strict=True)]
