"""Whether everything that a score rests on has run: the suite's attacks, and the controls of METHOD 8 beside each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from leaderboard.rows.arrays import Array, flag
from leaderboard.rows.manifest import AttackRecord
from leaderboard.rows.plan import ControlRecord, PlannedCell, access
from leaderboard.rows.run import Run

WRONG_TARGET = "wrong-target"
"""What an attack without a constraint needs beside it where it is scored: the same search, aimed at a wrong target."""


def coverage_reasons(run: Run, defense: str) -> Iterator[str]:
    """Sentences about what did not run; cells that were planned and are missing are reported elsewhere."""
    cells = [cell for cell in run.planned if cell.defense == defense]
    yield from _attack_reasons(run, cells)
    yield from _control_reasons(run, cells)
    yield from _undefended_reasons(run, {cell.task for cell in cells})


def _attack_reasons(run: Run, cells: Iterable[PlannedCell]) -> Iterator[str]:
    listed = run.manifest.suite.attacks
    if listed is None:
        yield "the run does not say which attacks its suite has"
        return
    done = {(cell.task, cell.attack, cell.threat_model, cell.constraint) for cell in cells if cell.attacks}
    for attack in listed:
        lacking = [task for task in run.manifest.tasks if _is_lacking(run, task, attack, done)]
        if lacking:
            yield f"attack {attack} of the suite was not run on {', '.join(lacking)}"


def _is_lacking(run: Run, task: str, attack: AttackRecord, done: set[tuple[str, str, str, str]]) -> bool:
    name = (task, attack.attack, attack.threat_model, attack.constraint)
    return run.manifest.tasks[task].applies(attack.threat_model) and name not in done


def _control_reasons(run: Run, cells: Sequence[PlannedCell]) -> Iterator[str]:
    """Each attack's own controls, and a wrong target with its access where that is asked."""
    alone: dict[str, set[str]] = {}
    for cell in cells:
        beside = [other.identity for other in cells if other.task == cell.task]
        for control in _lacking(run, cell, beside) if cell.attacks else ():
            alone.setdefault(control, set()).add(f"{cell.task} ({access(cell.threat_model, cell.constraint)})")
    for control, places in alone.items():
        yield f"control {control} was not run beside the attacks on {', '.join(sorted(places))}"


def _lacking(run: Run, cell: PlannedCell, beside: Sequence[ControlRecord]) -> Iterator[str]:
    mine = (cell.threat_model, cell.constraint)
    steers = any((other.threat_model, other.constraint) == mine and other.goal == "wrong" for other in beside)
    threat = run.manifest.threats.get(cell.threat_model)
    if cell.constraint == "none" and threat is not None and threat.scored and not steers:
        yield WRONG_TARGET
    yield from (control.attack for control in cell.controls if control not in beside)


def _undefended_reasons(run: Run, tasks: Iterable[str]) -> Iterator[str]:
    undefended = run.manifest.suite.undefended
    if undefended is None:
        yield "the suite names no undefended control"
        return
    for task in sorted(tasks):
        rows = [cell.rows for cell in run.cells if (cell.plan.task, cell.plan.defense) == (task, undefended)]
        if not rows:
            yield f"control defense {undefended} was not run on {task}"
        elif any(_suppresses(flag(table, "eligible"), flag(table, "suppressed")) for table in rows):
            yield f"control defense {undefended} suppresses examples of {task}: the base model does not repeat itself"


def _suppresses(eligible: Array, suppressed: Array) -> bool:
    return bool((eligible & suppressed).any())
