"""Two defenses of one suite, measured alike: where they differ, by how much, and which examples flipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from benchmark.errors import UsageError
from leaderboard.board.conditions import conditions
from leaderboard.board.entries import Scored, score_entry
from leaderboard.board.side import Side
from leaderboard.rows.manifest import Role, SuiteRecord, Unit
from leaderboard.rows.run import MeasuredCell
from leaderboard.scores.compared import Compared, Flips, compared, flips
from leaderboard.scores.curves import Curve
from leaderboard.scores.intervals import LEVEL, holm
from leaderboard.scores.resampling import RESAMPLES, Resampler
from leaderboard.scores.values import Estimate, Strict


class Measured(Strict):
    """One of the two."""

    defense: str
    run_id: str
    spec_sha: str


class Curves(Strict):
    """Robust suppression of both over the ranked budgets, every recovery counted."""

    unit: Unit
    budgets: list[float]
    first: list[Estimate]
    second: list[Estimate]


class ThreatDifference(Strict):
    """The area under the robust-suppression curve of one threat model."""

    role: Role
    area: Compared
    p: float | None
    """Of the area's difference, two-sided, Holm's correction over all scored threat models of all tasks; null: it is a
    diagnostic one."""
    flips: Flips
    """Up to the largest ranked budget."""
    curves: Curves

    @property
    def significant(self) -> bool:
        """The two differ, on a threat model that is scored."""
        return self.p is not None and self.p < 1 - LEVEL


class TaskDifference(Strict):
    """One task."""

    eligible: int
    clusters: int
    rs0: Compared | None
    """Clean suppression."""
    retained: tuple[float | None, float | None]
    """Share of the retain set that each keeps; null: not measured."""
    threats: dict[str, ThreatDifference]
    """By threat model, of those that both were attacked under."""


class Differences(Strict):
    """What ``bench compare --json`` prints."""

    schema_version: Literal[1] = 1
    suite: str
    first: Measured
    second: Measured
    score: Compared | None
    """WRS, over all tasks of the suite; null: one of them was not measured on all."""
    per_task: dict[str, TaskDifference]
    left_out: list[str]
    """What only one of them was measured on."""

    @property
    def lost(self) -> list[tuple[str, str]]:
        """Task and threat model of each significant loss: the second holds worse, on a threat model that is scored."""
        return [
            (task, name)
            for task, found in self.per_task.items()
            for name, one in found.threats.items()
            if one.significant and (one.area.difference.value or 0.0) > 0
        ]


def compare(first: Side, second: Side, *, seed: int = 0, resamples: int = RESAMPLES) -> Differences:
    """The first less the second, wherever both were measured.

    Args:
        seed: of the bootstrap.

    Raises:
        UsageError: they were not measured alike, or on no task in common.
    """
    suite, resampler = first.run.manifest.suite, Resampler(seed, resamples)
    tasks = sorted(suite.tasks or first.run.manifest.tasks)
    one, other = (score_entry(side.run, side.defense, tasks, resampler) for side in (first, second))
    clusters = [result.clusters for result in one.entry.per_task.values()]
    common = [task for task in tasks if task in one.drawn and task in other.drawn]
    _refuse_unlike(
        suite, second.run.manifest.suite, [(conditions(one.entry, t), conditions(other.entry, t)) for t in common]
    )
    if not common:
        raise UsageError("the two have no task in common; measure both on one")
    found = {task: _task(task, first, second, one, other) for task in common}
    return Differences(
        suite=suite_name(suite),
        first=measured(first),
        second=measured(second),
        score=compared(one.score, other.score, min(clusters)),
        per_task=_corrected(found),
        left_out=[*_left_out(first, second)],
    )


def _task(task: str, first: Side, second: Side, one: Scored, other: Scored) -> TaskDifference:
    result = one.entry.per_task[task]
    mine, theirs = (side.worst_cases(task) for side in (first, second))
    threats = {}
    for name, threat in first.run.manifest.threats.items():
        area = compared(one.drawn[task].areas.get(name), other.drawn[task].areas.get(name), result.clusters)
        if area is not None:
            p = area.p if threat.scored else None
            threats[name] = ThreatDifference(
                role=threat.role,
                area=area,
                p=p,
                flips=flips(mine[name], theirs[name]),
                curves=_curves(threat.unit, *(scored.entry.per_task[task].curves[name] for scored in (one, other))),
            )
    kept = [scored.entry.per_task[task].utility for scored in (one, other)]
    return TaskDifference(
        eligible=result.eligible,
        clusters=result.clusters,
        rs0=compared(one.drawn[task].rs0, other.drawn[task].rs0, result.clusters),
        retained=(kept[0].retained if kept[0] else None, kept[1].retained if kept[1] else None),
        threats=threats,
    )


def _curves(unit: Unit, first: Curve, second: Curve) -> Curves:
    return Curves(unit=unit, budgets=first.budgets, first=first.raw.rs, second=second.raw.rs)


def _corrected(found: Mapping[str, TaskDifference]) -> dict[str, TaskDifference]:
    """The same with Holm's correction over everything that is scored."""
    read = [(task, name, one.p) for task, of in found.items() for name, one in of.threats.items() if one.p is not None]
    adjusted = {(task, name): p for (task, name, _), p in zip(read, holm([p for *_, p in read]), strict=True)}

    def of(task: str, name: str, one: ThreatDifference) -> ThreatDifference:
        return one.model_copy(update={"p": adjusted.get((task, name))})

    return {
        task: one.model_copy(update={"threats": {n: of(task, n, threat) for n, threat in one.threats.items()}})
        for task, one in found.items()
    }


def _left_out(first: Side, second: Side) -> Iterator[str]:
    """Task and threat model that one of them alone was attacked under."""
    ways = [{_way(cell) for cell in side.run.cells if cell.plan.defense == side.defense} for side in (first, second)]
    for own, theirs, where in ((ways[0], ways[1], "first"), (ways[1], ways[0], "second")):
        yield from (f"{task} x {threat}: the {where} alone" for task, threat in sorted(filter(None, own - theirs)))


def _way(cell: MeasuredCell) -> tuple[str, str] | None:
    return (cell.plan.task, cell.plan.threat_model) if cell.plan.attacks else None


def _refuse_unlike(
    suite: SuiteRecord,
    other: SuiteRecord,
    pairs: Sequence[tuple[Mapping[str, str | None], Mapping[str, str | None]]],
) -> None:
    """Nothing, if their numbers mean the same.

    Args:
        pairs: the conditions of both, of each task in common.

    Raises:
        UsageError: they do not, or it is not known; what differs.
    """
    known = {"suite": tuple(f"{one.name} {one.version} {one.hash}" for one in (suite, other))}
    known |= {what: (mine[what], theirs[what]) for mine, theirs in pairs for what in mine}
    unlike = [
        f"{what}: {mine or 'unknown'} and {theirs or 'unknown'}"
        for what, (mine, theirs) in known.items()
        if mine != theirs or mine is None
    ]
    if unlike:
        raise UsageError(
            f"the two were not measured alike ({'; '.join(unlike)}); measure both on one suite, model and --limit"
        )


def suite_name(suite: SuiteRecord) -> str:
    return f"{suite.name} {suite.version} ({suite.hash[:12]})"


def measured(side: Side) -> Measured:
    manifest = side.run.manifest
    return Measured(defense=side.defense, run_id=manifest.run_id, spec_sha=manifest.defenses[side.defense].spec_sha)
