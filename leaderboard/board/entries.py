"""One defense of one run: its tasks, the headline over them, its controls and whether it may be ranked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from leaderboard.board.schema import Cell, Control, DefenseInfo, Entry, ModelInfo, Provenance, TaskResult, Threat
from leaderboard.doubt.task_flags import task_flags
from leaderboard.doubt.verdicts import verdict
from leaderboard.rows.run import MeasuredCell, Run
from leaderboard.scores.cells import cell_scores, cost
from leaderboard.scores.drawn import Drawn
from leaderboard.scores.headline import headline
from leaderboard.scores.paired import paired_score
from leaderboard.scores.resampling import Resampler
from leaderboard.scores.task_draws import TaskDraws
from leaderboard.scores.tasks import task_clusters, task_scores
from leaderboard.scores.threats import demanded, listed

LONGEST_LIST = 8
"""Longer lists of a fit's record are given by their length."""


class Scored(NamedTuple):
    """An entry, and what the bootstrap says of it."""

    entry: Entry
    score: Drawn | None
    """Null: it has none."""
    drawn: Mapping[str, TaskDraws]
    """By task."""


def score_entry(run: Run, defense: str, tasks: Sequence[str], resampler: Resampler) -> Scored:
    """Everything about one defense of a run.

    Args:
        tasks: all tasks of the suite; an entry that lacks one has no headline score.
    """
    cells = [cell for cell in run.cells if cell.plan.defense == defense]
    found = {task: _task(run, defense, task, resampler) for task in run.manifest.tasks if _of(cells, task)}
    per_task = {task: result for task, (result, _) in found.items()}
    drawn = {task: draws for task, (_, draws) in found.items()}
    head, score = headline(per_task, drawn, tasks)
    flags = [flag for result in per_task.values() for flag in result.flags]
    utility = _utility(per_task)
    asked = {task: result.utility_tasks for task, result in per_task.items()}
    entry = Entry(
        defense=_defense(run, defense),
        model=ModelInfo(**run.manifest.model.model_dump()),
        threats={name: Threat(**threat.model_dump()) for name, threat in run.manifest.threats.items()},
        headline=head,
        per_task=per_task,
        utility=utility,
        controls=[line for task, result in per_task.items() for line in _controls(task, result.cells)],
        flags=flags,
        verdict=verdict(run, defense, per_task, flags, tasks, utility, asked, head.wrs.value),
        rank=None,
        cost=cost([cell.rows for cell in cells]),
        provenance=_provenance(run),
    )
    return Scored(entry, score, drawn)


def _of(cells: Sequence[MeasuredCell], task: str) -> list[MeasuredCell]:
    return [cell for cell in cells if cell.plan.task == task]


def _task(run: Run, defense: str, task: str, resampler: Resampler) -> tuple[TaskResult, TaskDraws]:
    record, threats, fit = run.manifest.tasks[task], run.manifest.threats, run.fits.get((task, defense))
    everybody = _of(run.cells, task)
    cells = [cell for cell in everybody if cell.plan.defense == defense]
    resamples = resampler.of(task, task_clusters(everybody))
    scores, drawn = task_scores(record, threats, cells, fit, resamples, demanded(record, threats, listed(run)))
    fresh = [cell for cell in run.fresh if (cell.plan.task, cell.plan.defense) == (task, defense)]
    flags = task_flags(cells, fit, fresh)
    asked = fit.utility_tasks or [] if fit else []
    result = TaskResult(
        **dict(scores),
        cells=[Cell(**dict(cell_scores(cell, resamples)), flags=flags[cell.plan.key]) for cell in cells],
        flags=[flag for found in flags.values() for flag in found],
        utility_tasks=[paired_score(record, resampler) for record in asked],
        side_effects=[paired_score(record, resampler) for record in (fit.side_effects if fit else [])],
    )
    return result, drawn


def _utility(per_task: Mapping[str, TaskResult]) -> float | None:
    kept = [result.utility.retained if result.utility else None for result in per_task.values()]
    known = [one for one in kept if one is not None]
    return min(known) if known and len(known) == len(kept) else None


def _controls(task: str, cells: Sequence[Cell]) -> Iterator[Control]:
    for cell in cells:
        if cell.role == "control" and cell.budgets:
            last = cell.budgets[-1]
            yield Control(
                name=cell.attack,
                task=task,
                threat_model=cell.threat_model,
                constraint=cell.constraint,
                budget=last.budget,
                recovered=last.recovered,
                suppressed=cell.suppressed,
            )


def _defense(run: Run, defense: str) -> DefenseInfo:
    record = {task: _summary(fit.record) for (task, name), fit in run.fits.items() if name == defense}
    return DefenseInfo(name=defense, spec_sha=run.manifest.defenses[defense].spec_sha, record=record)


def _summary(record: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    long = {key: len(value) for key, value in record.items() if isinstance(value, list) and len(value) > LONGEST_LIST}
    return {(f"n_{key}" if key in long else key): long.get(key, value) for key, value in record.items()}


def _provenance(run: Run) -> Provenance:
    manifest = run.manifest
    own = manifest.model_dump(include=set(Provenance.model_fields) - {"git", "examples_hash"})
    hashes = {task: record.examples_hash for task, record in manifest.tasks.items()}
    return Provenance(**own, git=manifest.git or {}, examples_hash=hashes)
