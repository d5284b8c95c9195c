"""The table of examples: what each attack on a defense did to each of them. Ids and numbers, never a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from leaderboard.rows.arrays import text
from leaderboard.rows.manifest import Unit
from leaderboard.rows.run import MeasuredCell, Run
from leaderboard.scores.examples import ExampleOutcome, Outcome, example_outcomes, worst


class Way(NamedTuple):
    """An attack: a column."""

    attack: str
    threat_model: str
    constraint: str
    unit: Unit


class ExampleLine(NamedTuple):
    """An example of a task."""

    task: str
    example: str
    cluster: str
    worst: Outcome
    """Over the attacks that enter the score; where none was run, over all."""
    found: list[ExampleOutcome | None]
    """Of each column; null: the task has no such attack."""


class ExampleTable(NamedTuple):
    """All examples of a defense."""

    ways: list[Way]
    lines: list[ExampleLine]
    """By task and id."""


def example_table(run: Run, defense: str) -> ExampleTable:
    """Every example that any row of the defense names, attacked or not."""
    cells = [cell for cell in run.cells if cell.plan.defense == defense]
    ways = list(dict.fromkeys(_way(cell) for cell in cells if cell.plan.attacks))
    tasks = dict.fromkeys(cell.plan.task for cell in cells)
    by_task = {task: [cell for cell in cells if cell.plan.task == task] for task in tasks}
    return ExampleTable(ways, [line for task, own in by_task.items() for line in _lines(task, own, ways)])


def _way(cell: MeasuredCell) -> Way:
    return Way(cell.plan.attack, cell.plan.threat_model, cell.plan.constraint, cell.threat.unit)


def _lines(task: str, cells: Sequence[MeasuredCell], ways: Sequence[Way]) -> Iterator[ExampleLine]:
    attacks = [cell for cell in cells if cell.plan.attacks]
    found = {_way(cell): example_outcomes(cell.rows) for cell in attacks}
    counted = [found[_way(cell)] for cell in attacks if cell.scored] or list(found.values())
    for example, cluster in _examples(cells).items():
        outcomes: list[Outcome] = [own[example].outcome for own in counted if example in own]
        by_way = [found.get(way, {}).get(example) for way in ways]
        yield ExampleLine(task, example, cluster, worst(outcomes) if outcomes else "not_run", by_way)


def _examples(cells: Sequence[MeasuredCell]) -> Mapping[str, str]:
    """Cluster by example, sorted."""
    pairs = (zip(text(cell.rows, "example_id"), text(cell.rows, "cluster_id"), strict=True) for cell in cells)
    return dict(sorted({str(example): str(cluster) for both in pairs for example, cluster in both}.items()))
