"""Two defenses of a board on the same resamples of each task's clusters: which differ, by how much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from leaderboard.entries import Scored
from leaderboard.intervals import difference, holm
from leaderboard.rows import Array
from leaderboard.schema import Comparison
from leaderboard.values import Estimate

Side = tuple[float, Array]
"""A value, and what it is in each resample (resamples,)."""


def comparisons(scored: Sequence[Scored]) -> list[Comparison]:
    """Every pair of attacked defenses on every task on which both were measured alike; p values are Holm's over the
    tasks."""
    ordered = sorted(scored, key=lambda one: (one.entry.defense.name, one.entry.provenance.run_id))
    return [found for a, b in combinations(ordered, 2) for found in _corrected(list(_by_task(a, b)))]


def _by_task(first: Scored, second: Scored) -> Iterator[Comparison]:
    for task, result in sorted(first.entry.per_task.items()):
        mine, other = _before_edit(first, task), _before_edit(second, task)
        if mine is None or other is None or _conditions(first, task) != _conditions(second, task):
            continue
        gap = difference(mine[1] - other[1], mine[0] - other[0], result.clusters)
        yield Comparison(
            task=task,
            first=first.entry.defense.name,
            second=second.entry.defense.name,
            aurc_before_edit=Estimate(value=gap.value, interval=gap.interval),
            p=gap.p,
        )


def _conditions(one: Scored, task: str) -> tuple[object, ...]:
    """What two measurements must have in common to be compared: model, protocol, and the very same examples."""
    provenance = one.entry.provenance
    return one.entry.model, provenance.dtype, provenance.protocol, provenance.examples_hash[task]


def _corrected(found: Sequence[Comparison]) -> list[Comparison]:
    adjusted = holm([one.p for one in found])
    return [one.model_copy(update={"p": p}) for one, p in zip(found, adjusted, strict=True)]


def _before_edit(one: Scored, task: str) -> Side | None:
    """The selective area under ``before_edit``; null: the defense was not attacked there."""
    draws = one.drawn[task].areas.get("before_edit") if task in one.drawn else None
    value = one.entry.per_task[task].curves["before_edit"].selective.aurc.value if draws is not None else None
    return None if draws is None or value is None else (value, draws)
