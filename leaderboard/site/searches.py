"""The attacks of a defense as searches: their settings, whether they came to rest, and what they spent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pydantic import JsonValue

from leaderboard.board.schema import Cell, Entry
from leaderboard.rows.run import MeasuredCell, Run
from leaderboard.scores.convergence import Convergence, convergence
from leaderboard.scores.resampling import Resampler
from leaderboard.scores.sites import Sites, sites
from leaderboard.scores.tasks import task_clusters

SAID = ("threat_model", "constraint", "goal")
"""Settings that the name of an attack says already."""


class Search(NamedTuple):
    """One attack on one task."""

    cell: Cell
    settings: list[str]
    convergence: Convergence | None
    sites: Sites | None
    """Null: it wrote to one site alone."""


def searches(run: Run, entry: Entry, resampler: Resampler) -> dict[str, list[Search]]:
    """By task, of those on which anything was attacked."""
    found = {task: [*_of_task(run, entry, task, resampler)] for task in entry.per_task}
    return {task: own for task, own in found.items() if own}


def _of_task(run: Run, entry: Entry, task: str, resampler: Resampler) -> Iterator[Search]:
    everybody = [cell for cell in run.cells if cell.plan.task == task]
    resamples, measured = resampler.of(task, task_clusters(everybody)), {cell.plan.key: cell for cell in everybody}
    for cell in entry.per_task[task].cells:
        own: MeasuredCell = measured[cell.key]
        if own.plan.attacks and cell.budgets:
            settings = {name: value for name, value in own.plan.settings.items() if name not in SAID}
            yield Search(cell, [*_flat(settings)], convergence(own.rows, resamples), sites(own.rows, resamples))


def _flat(settings: Mapping[str, JsonValue], prefix: str = "") -> Iterator[str]:
    """``search.steps 20``."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name} {value}"
