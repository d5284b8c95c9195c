"""One defense of one run: the headline over its tasks, its controls and whether it may be ranked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from pydantic import JsonValue

from leaderboard.cell_statistics import cost
from leaderboard.families import SUFFIX_FAMILIES, demanded
from leaderboard.intervals import percentile, percentile_difference
from leaderboard.resampling import Resampler
from leaderboard.rows import Array
from leaderboard.runs import MeasuredCell, Run
from leaderboard.schema import Cell, Control, DefenseInfo, Entry, Headline, ModelInfo, Provenance, TaskResult
from leaderboard.task_results import ResampledTask, task_clusters, task_result
from leaderboard.values import Eps50, Estimate, Family
from leaderboard.verdicts import verdict

LONGEST_LIST = 8
"""Longer lists of a fit's record are given by their length."""


class Scored(NamedTuple):
    """An entry and its score in each bootstrap resample, (resamples,); null: no score."""

    entry: Entry
    resampled: Array | None
    drawn: Mapping[str, ResampledTask]
    """Task -> its statistics in each resample."""


def score_entry(run: Run, defense: str, tasks: Sequence[str], resampler: Resampler) -> Scored:
    """Everything about one defense of a run.

    Args:
        tasks: all tasks of the suite; an entry that lacks one has no headline score.
    """
    cells = [cell for cell in run.cells if cell.plan.defense == defense]
    results = {task: _task(run, defense, task, cells, resampler) for task in run.manifest.tasks if _of(cells, task)}
    per_task = {task: result for task, (result, _) in results.items()}
    drawn = {task: resampled for task, (_, resampled) in results.items()}
    utility = _utility(per_task)
    head, resampled = headline(per_task, drawn, tasks)
    flags = [flag for result in per_task.values() for flag in result.flags]
    entry = Entry(
        defense=_defense(run, defense),
        model=ModelInfo(**run.manifest.model.model_dump()),
        headline=head,
        per_task=per_task,
        utility=utility,
        controls=[line for task, result in per_task.items() for cell in result.cells for line in _control(task, cell)],
        flags=flags,
        verdict=verdict(run, defense, per_task, tasks, utility, head.wrs_selective.value),
        rank=None,
        cost=cost([cell.rows for cell in cells]),
        provenance=_provenance(run),
    )
    return Scored(entry, resampled, drawn)


def _of(cells: Sequence[MeasuredCell], task: str) -> list[MeasuredCell]:
    return [cell for cell in cells if cell.plan.task == task]


def _task(
    run: Run, defense: str, task: str, cells: Sequence[MeasuredCell], resampler: Resampler
) -> tuple[TaskResult, ResampledTask]:
    universe = task_clusters(_of(run.cells, task))
    fit = run.fits.get((task, defense))
    record = run.manifest.tasks[task]
    needed = demanded(record, run.manifest.suite.attacks)
    return task_result(record, _of(cells, task), fit, resampler.of(task, universe), needed)


def headline(
    per_task: Mapping[str, TaskResult], drawn: Mapping[str, ResampledTask], tasks: Sequence[str]
) -> tuple[Headline, Array | None]:
    """The means over all ``tasks`` and the resampled score; a mean over fewer tasks does not exist."""
    complete = bool(tasks) and all(task in per_task for task in tasks)
    results = [per_task[task] for task in tasks] if complete else []
    resampled = [drawn[task] for task in tasks] if complete else []
    clusters = [result.clusters for result in per_task.values()]
    fewest = min(clusters, default=0)
    reached = [
        (result, drawn)
        for result, drawn in zip(results, resampled, strict=True)
        if any(family in SUFFIX_FAMILIES for family in result.scored_families)
    ]

    def mean(value: Callable[[TaskResult], float | None], draws: Callable[[ResampledTask], Array | None]) -> Estimate:
        return _mean([value(one) for one in results], [draws(one) for one in resampled], fewest)

    def area(family: Family) -> Estimate:
        return mean(lambda one: _area(one, family), lambda one: one.areas.get(family))

    head = Headline(
        wrs=mean(lambda one: one.score_raw.value, lambda one: one.score_raw),
        wrs_selective=mean(lambda one: one.score.value, lambda one: one.score),
        rs0=mean(lambda one: one.rs0.value, lambda one: one.rs0),
        aurc_before_edit=area("before_edit"),
        aurc_suffix=_mean([one.aurc_suffix.value for one, _ in reached], [one.suffix for _, one in reached], fewest),
        aurc_after_edit=area("after_edit"),
        aurc_after_edit_within_tau=area("after_edit_within_tau"),
        aurc_after_edit_within_paper_tau=area("after_edit_within_paper_tau"),
        suffix_gap=_suffix_gap(reached, fewest),
        eps50=_smallest_eps50(results),
        n=sum(result.eligible for result in per_task.values()),
        n_clusters=sum(clusters),
    )
    return head, mean_draws([one.score for one in resampled])


def mean_draws(draws: Sequence[Array | None]) -> Array | None:
    """The mean over tasks within each resample; null where a task has none."""
    known = [one for one in draws if one is not None]
    return np.mean(known, axis=0) if known and len(known) == len(draws) else None


def _mean(values: Sequence[float | None], draws: Sequence[Array | None], clusters: int) -> Estimate:
    known = [value for value in values if value is not None]
    averaged = mean_draws(draws)
    if averaged is None or len(known) < len(values):
        return Estimate(value=None)
    value = float(np.mean(known))
    return Estimate(value=value, interval=percentile(averaged, value, clusters))


def _area(result: TaskResult, family: Family) -> float | None:
    return result.curves[family].selective.aurc.value if family in result.curves else None


def _suffix_gap(reached: Sequence[tuple[TaskResult, ResampledTask]], clusters: int) -> Estimate:
    """Mean gap over the tasks that suffixes can reach; the interval is a paired one."""
    gaps = [result.suffix_gap.value for result, _ in reached]
    known = [gap for gap in gaps if gap is not None]
    draws = mean_draws([drawn.suffix_gap for _, drawn in reached])
    if draws is None or len(known) < len(gaps):
        return Estimate(value=None)
    value = float(np.mean(known))
    return Estimate(value=value, interval=percentile_difference(draws, value, clusters))


def _smallest_eps50(results: Sequence[TaskResult]) -> Eps50:
    found = [one.curves["before_edit"].selective.eps50 for one in results if "before_edit" in one.curves]
    order = {"below": 0, None: 0, "above": 1}
    known = [(order[one.censored], one.value, one) for one in found if one.value is not None]
    return min(known, key=lambda item: item[:2])[2] if known else Eps50(value=None)


def _utility(per_task: Mapping[str, TaskResult]) -> float | None:
    kept = [result.utility.retained if result.utility else None for result in per_task.values()]
    known = [one for one in kept if one is not None]
    return min(known) if known and len(known) == len(kept) else None


def _control(task: str, cell: Cell) -> list[Control]:
    if cell.role != "control" or not cell.budgets:
        return []
    last = cell.budgets[-1]
    return [
        Control(
            name=cell.attack,
            task=task,
            threat_model=cell.threat_model,
            constraint=cell.constraint,
            eps=last.eps,
            recovered=last.recovered,
            suppressed=cell.suppressed,
        )
    ]


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
