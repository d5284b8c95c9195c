"""Which threat models a defense met on each task, within which budgets, and why it did not meet the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from leaderboard.board.schema import Entry
from leaderboard.rows.manifest import Role, Unit
from leaderboard.rows.plan import PlannedCell
from leaderboard.rows.run import Run
from leaderboard.scores.threats import ROLES, listed, ranked_budgets, with_role


class Met(NamedTuple):
    """One threat model on one task."""

    task: str
    threat_model: str
    role: Role
    unit: Unit
    budgets: list[float]
    """Ranked ones."""
    ceiling: float | None
    attacks: list[str]
    """That were run, as they are called."""
    skipped: list[str]
    """What was not, and why."""


def coverage(run: Run, entry: Entry) -> list[Met]:
    """Every threat model of the suite and of the plan, on every task of the run."""
    names = with_role(run.manifest.threats, *ROLES)
    return [_met(run, entry, task, name) for task in run.manifest.tasks for name in names]


def _met(run: Run, entry: Entry, task: str, name: str) -> Met:
    record, threat = run.manifest.tasks[task], run.manifest.threats[name]
    planned = [
        cell
        for cell in run.planned
        if (cell.task, cell.defense, cell.threat_model) == (task, entry.defense.name, name) and cell.attacks
    ]
    results = entry.per_task[task].cells if task in entry.per_task else []
    why = {cell.key: cell.skipped for cell in results}
    return Met(
        task=task,
        threat_model=name,
        role=threat.role,
        unit=threat.unit,
        budgets=[float(budget) for budget in ranked_budgets(record, name)],
        ceiling=record.ceilings.get(name),
        attacks=[_called(cell) for cell in planned if why.get(cell.key, "missing") is None],
        skipped=[*_skipped(planned, why)] if planned else [_left_out(run, task, name)],
    )


def _skipped(planned: Sequence[PlannedCell], why: dict[str, str | None]) -> Iterator[str]:
    for cell in planned:
        reason = why.get(cell.key, "not measured yet")
        if reason is not None:
            yield f"{_called(cell)}: {reason}"


def _left_out(run: Run, task: str, name: str) -> str:
    record = run.manifest.tasks[task]
    if name not in record.threat_models:
        return "cannot be tried on this task"
    if not record.budgets.get(name):
        return "the suite gives it no budget here"
    return "left out of this run" if name in listed(run) else "the suite lists no attack of it"


def _called(cell: PlannedCell) -> str:
    return cell.attack if cell.constraint == "none" else f"{cell.attack}, {cell.constraint}"
