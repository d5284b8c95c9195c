"""An entry with all that was ever found against it: of every example the worst that any attack did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import pyarrow as pa

from leaderboard.challenge.reading import Challenge
from leaderboard.rows.run import MeasuredCell, Run
from leaderboard.scores.curves import holding
from leaderboard.scores.outcomes import outcomes
from leaderboard.scores.threats import ranked_budgets


class Fall(NamedTuple):
    """What a challenge brings back on a task, under a threat model."""

    task: str
    threat_model: str
    held: int
    """Examples that held at the largest ranked budget, whatever the suite's attacks did."""
    fell: int
    """(example, budget) that held, and do not any more."""
    gave_way: int
    """Of the examples that held at the largest ranked budget, those that came back."""


def best_known(run: Run, challenges: Sequence[Challenge]) -> Run:
    """The run with the cells of challenges among its own: every worst case is over both."""
    return replace(run, cells=(*run.cells, *(cell for one in challenges for cell in one.attacks)))


def falls(run: Run, challenges: Sequence[Challenge]) -> list[Fall]:
    """By task and threat model of the challenges' attacks, in their order."""
    places = dict.fromkeys(
        (c.plan.task, c.plan.threat_model, c.plan.defense) for one in challenges for c in one.attacks
    )
    return [_fall(run, best_known(run, challenges), *place) for place in places]


def _fall(run: Run, whole: Run, task: str, threat: str, defense: str) -> Fall:
    budgets = ranked_budgets(run.manifest.tasks[task], threat)

    def held(some: Run) -> object:
        cells = [c for c in some.cells if _is_of(c, task, threat, defense)]
        found = outcomes(pa.concat_tables([c.rows for c in cells]))
        return holding(found, budgets, selective=False).astype(bool)

    before, after = held(run), held(whole)
    lost = before & ~after  # type: ignore[operator]
    return Fall(task, threat, int(before[:, -1].sum()), int(lost.sum()), int(lost[:, -1].sum()))  # type: ignore[index]


def _is_of(cell: MeasuredCell, task: str, threat: str, defense: str) -> bool:
    plan = cell.plan
    return plan.attacks and (plan.task, plan.threat_model, plan.defense) == (task, threat, defense)
