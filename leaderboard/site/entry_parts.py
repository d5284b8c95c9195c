"""What the page of an entry shows, in the order of its sections."""

from __future__ import annotations

from typing import Any

from leaderboard.board.schema import Cell, Entry, SuiteInfo
from leaderboard.scores.outcome_shares import outcome_shares
from leaderboard.scores.values import Estimate
from leaderboard.site.addresses import entry_key
from leaderboard.site.cell_tables import cell_tables
from leaderboard.site.curve_tables import areas, threat_curves
from leaderboard.site.drift_tables import drift_tables
from leaderboard.site.rows import title
from leaderboard.site.untrusted import quoted
from leaderboard.tables.grid import across


def entry_parts(suite: SuiteInfo, entry: Entry) -> dict[str, Any]:
    """The context of its template."""
    by_task = entry.per_task.items()
    return {
        "suite": suite,
        "entry": entry,
        "key": entry_key(entry),
        "title": title(entry),
        "results": [*entry.per_task.values()],
        "areas": areas(entry),
        "curves": threat_curves(entry),
        "drifts": drift_tables(entry),
        "across": across,
        "outcomes": _outcomes(entry),
        "attributions": _attributions(entry),
        "paired": [(task, one) for task, result in by_task for one in (*result.utility_tasks, *result.side_effects)],
        "steered": [(task, name, one) for task, result in by_task for name, one in result.steerability.items()],
        "monitors": [(task, result.detection) for task, result in by_task if result.detection],
        "cells": cell_tables(entry),
        "skipped": {task: [cell for cell in result.cells if cell.skipped] for task, result in by_task},
        "command": command(suite, entry),
    }


def command(suite: SuiteInfo, entry: Entry) -> str:
    """What makes the same run again: by the spec of the entry, or else by the defense's name."""
    came, said = entry.provenance, entry.submission
    what = entry.defense.name if said is None else f"leaderboard/entries/{said.place}/spec.json"
    return " ".join(
        [
            f"bench evaluate --suite {quoted(suite.name)} --defense {quoted(what)}",
            *([f"--seed {came.seed}"] if came.seed else []),
            *([f"--limit {came.limit:g}"] if came.limit is not None else []),
            *([f"--protocol {quoted(came.protocol)}"] if not came.ranked else []),
        ]
    )


def _outcomes(entry: Entry) -> dict[str, list[tuple[Cell, dict[str, Estimate]]]]:
    """By task: the attacks that ran, and what became of the examples."""
    found = {
        task: [
            (cell, outcome_shares(cell.outcomes, result.clusters))
            for cell in result.cells
            if cell.role == "attack" and cell.budgets and cell.eligible
        ]
        for task, result in entry.per_task.items()
    }
    return {task: lines for task, lines in found.items() if lines}


def _attributions(entry: Entry) -> dict[str, list[Cell]]:
    """By task: the attacks whose perturbations were taken apart."""
    found = {task: [cell for cell in result.cells if cell.attribution] for task, result in entry.per_task.items()}
    return {task: cells for task, cells in found.items() if cells}
