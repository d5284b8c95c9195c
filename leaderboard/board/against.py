"""Ways of attacking one defense side by side: the primary threat models against a baseline, at equal shares of their
ceilings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from benchmark.errors import UsageError
from leaderboard.board.compare import Measured, measured, suite_name
from leaderboard.board.side import Side
from leaderboard.rows.run import MeasuredCell
from leaderboard.scores.compared import Compared, compared
from leaderboard.scores.reach import Effort, Reach, effort, reach
from leaderboard.scores.resampling import RESAMPLES, Resampler, Resamples
from leaderboard.scores.tasks import task_clusters
from leaderboard.scores.threats import with_role
from leaderboard.scores.values import Strict
from leaderboard.scores.worst_cases import WorstCase, worst_cases


class Against(Strict):
    """One primary threat model and the other way, on one task."""

    task: str
    first: str
    """The primary threat model."""
    second: str
    """What it is held against: a threat model, or an attack."""
    suppressed: int
    clusters: int
    area: Compared | None
    """Under the share still suppressed, over log eps up to each one's ceiling; the first less the second. Below 0: the
    first brings more back."""
    reach: list[Reach]
    effort: tuple[Effort, Effort]


class BaselineComparison(Strict):
    """What ``bench compare RUN --against WAY --json`` prints."""

    schema_version: Literal[1] = 1
    suite: str
    defense: Measured
    against: str
    per_task: list[Against]
    left_out: list[str]
    """Tasks on which the other way was not run, or does not apply."""


class _Way(NamedTuple):
    """Attacks of one threat model on one task."""

    cells: Sequence[MeasuredCell]
    worst: WorstCase


def against(side: Side, way: str, *, seed: int = 0, resamples: int = RESAMPLES) -> BaselineComparison:
    """Every primary threat model of a run against ``way``, a threat model or an attack of it, task by task.

    Args:
        seed: of the bootstrap.

    Raises:
        UsageError: the run attacked the defense in no such way, or by that attack under several threat models.
    """
    resampler = Resampler(seed, resamples)
    cells = [cell for cell in side.run.cells if cell.plan.defense == side.defense and cell.plan.attacks]
    others = _named(side, cells, way)
    tasks = list(dict.fromkeys(cell.plan.task for cell in cells))
    found: list[Against] = []
    for task in tasks:
        shared = resampler.of(task, task_clusters([cell for cell in side.run.cells if cell.plan.task == task]))
        second = _way(side, [cell for cell in others if cell.plan.task == task])
        for threat in with_role(side.run.manifest.threats, "primary"):
            ways = [cell for cell in cells if (cell.plan.task, cell.plan.threat_model) == (task, threat)]
            first = _way(side, [cell for cell in ways if cell not in others])
            if first is not None and second is not None:
                found.append(_against(threat, way, first, second, shared))
    return BaselineComparison(
        suite=suite_name(side.run.manifest.suite),
        defense=measured(side),
        against=way,
        per_task=found,
        left_out=[task for task in tasks if task not in {one.task for one in found}],
    )


def _named(side: Side, cells: Sequence[MeasuredCell], way: str) -> list[MeasuredCell]:
    """The cells of a threat model or an attack, dashes or underscores in its name."""

    def plain(name: str) -> str:
        return name.replace("-", "_")

    found = [cell for cell in cells if plain(way) in (plain(cell.plan.threat_model), plain(cell.plan.attack))]
    threats = sorted({cell.plan.threat_model for cell in found})
    if not found:
        known = sorted({name for cell in cells for name in (cell.plan.threat_model, cell.plan.attack)})
        raise UsageError(f"the run has not attacked {side.defense} by {way!r}; it has: {', '.join(known)}")
    if len(threats) > 1:
        raise UsageError(f"{way} attacked under several threat models; name one of them: {', '.join(threats)}")
    return found


def _way(side: Side, cells: Sequence[MeasuredCell]) -> _Way | None:
    """Cells of one task and threat model; null: there are none, or they do not cover the suite's budgets."""
    if not cells:
        return None
    plan, manifest = cells[0].plan, side.run.manifest
    worst = worst_cases(manifest.tasks[plan.task], manifest.threats, cells).get(plan.threat_model)
    return None if worst is None else _Way(cells, worst)


def _against(threat: str, way: str, first: _Way, second: _Way, resamples: Resamples) -> Against:
    outcomes, clusters = first.worst.outcomes, len({*first.worst.outcomes.clusters})
    mine, theirs = (one.worst.area(resamples, selective=False) for one in (first, second))
    return Against(
        task=first.cells[0].plan.task,
        first=threat,
        second=way,
        suppressed=int(outcomes.suppressed.sum()),
        clusters=clusters,
        area=compared(mine, theirs, clusters),
        reach=reach(first.worst, second.worst, resamples),
        effort=(effort(first.cells), effort(second.cells)),
    )
