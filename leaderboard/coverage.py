"""Whether everything that a score rests on has run: the suite's attacks, and the controls of METHOD 8 beside each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from leaderboard.families import RESIDUAL_THREATS, applies
from leaderboard.rows import Array, flag
from leaderboard.runs import AttackRecord, PlannedCell, Run
from leaderboard.wording import access

UNDEFENDED = "none"
"""The control defense that edits nothing."""


class Control(NamedTuple):
    """A control that belongs beside attacks of the same threat model and constraint."""

    name: str
    found: Callable[[PlannedCell], bool]
    beside: frozenset[str]
    """Threat models of the attacks that need it."""
    any_constraint: bool = False


CONTROLS = (
    Control("wrong-target", lambda cell: cell.goal == "wrong", RESIDUAL_THREATS | {"soft_suffix", "token_suffix"}),
    Control("random", lambda cell: cell.attack.startswith("random-"), RESIDUAL_THREATS | {"token_suffix"}),
    Control("zero", lambda cell: cell.attack == "zero", RESIDUAL_THREATS, any_constraint=True),
)
"""What is asked for. A soft suffix of random vectors is not drawn; nothing written is the same under any constraint."""


def coverage_reasons(run: Run, defense: str) -> Iterator[str]:
    """Sentences about what did not run; cells that were planned and are missing are reported elsewhere."""
    cells = [cell for cell in run.planned if cell.defense == defense]
    yield from _attack_reasons(run, cells)
    yield from _control_reasons(cells)
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
    return applies(run.manifest.tasks[task], attack.threat_model) and name not in done


def _control_reasons(cells: Sequence[PlannedCell]) -> Iterator[str]:
    for control in CONTROLS:
        there = {_access(cell, control) for cell in cells if not cell.attacks and control.found(cell)}
        needing = [cell for cell in cells if cell.attacks and cell.threat_model in control.beside]
        alone = {f"{cell.task} ({access(cell)})" for cell in needing if _access(cell, control) not in there}
        if alone:
            yield f"control {control.name} was not run beside the attacks on {', '.join(sorted(alone))}"


def _access(cell: PlannedCell, control: Control) -> tuple[str, str, str]:
    return (cell.task, cell.threat_model, "" if control.any_constraint else cell.constraint)


def _undefended_reasons(run: Run, tasks: Iterable[str]) -> Iterator[str]:
    for task in sorted(tasks):
        rows = [cell.rows for cell in run.cells if (cell.plan.task, cell.plan.defense) == (task, UNDEFENDED)]
        if not rows:
            yield f"control defense {UNDEFENDED} was not run on {task}"
        elif any(_suppresses(flag(table, "eligible"), flag(table, "suppressed")) for table in rows):
            yield f"control defense {UNDEFENDED} suppresses examples of {task}: the base model does not repeat itself"


def _suppresses(eligible: Array, suppressed: Array) -> bool:
    return bool((eligible & suppressed).any())
