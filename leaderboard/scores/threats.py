"""Which curves a task has, on which budgets, and which threat models make its score; all from ``run.json``.

Areas of different units compare, budgets do not: each threat model has its own curve.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, get_args

import numpy as np

from leaderboard.rows.arrays import Array
from leaderboard.rows.manifest import Role, TaskRecord, ThreatRecord
from leaderboard.rows.run import Run
from leaderboard.rows.selection import ROUNDING

STUDY_LIMIT = 0.03
"""The published study's limit of harmless drift, reported beside the suite's own."""

ROLES: tuple[Role, ...] = get_args(Role)
"""In the order in which they are shown."""

Threats = Mapping[str, ThreatRecord]
"""By name."""


class HasRole(Protocol):
    """A threat model, as a run or as the board has it."""

    @property
    def role(self) -> Role:
        """Whether it enters the score."""
        ...


class CurveKind(NamedTuple):
    """A curve that a task can have."""

    name: str
    threat_model: str
    within: float | None = None
    """Largest relative drift with which a recovery counts; null: any."""


def curve_kinds(threats: Threats, tau: float | None) -> Iterator[CurveKind]:
    """A curve of each threat model; two more of each diagnostic one, in which recoveries with little drift count.

    Args:
        tau: the suite's limit of harmless drift; null: it has none, and no such curve.
    """
    for role in ROLES:
        for name in with_role(threats, role):
            yield CurveKind(name, name)
            if role == "diagnostic":
                yield from ([] if tau is None else [CurveKind(f"{name}_within_tau", name, tau)])
                yield CurveKind(f"{name}_within_study_limit", name, STUDY_LIMIT)


def with_role(threats: Mapping[str, HasRole], *roles: Role) -> list[str]:
    """The threat models of these roles."""
    return [name for role in roles for name, threat in threats.items() if threat.role == role]


def grid(budgets: Sequence[float], ceiling: float | None) -> Array:
    """The ranked budgets of a suite, ascending, (budgets,): above 0, up to the steering ceiling."""
    highest = np.inf if ceiling is None else ceiling * ROUNDING
    return np.array(sorted({budget for budget in budgets if 0 < budget <= highest}), dtype=float)


def ranked_budgets(task: TaskRecord, threat_model: str) -> Array:
    """The budgets of a threat model's curves on a task, ascending, (budgets,)."""
    return grid(task.budgets.get(threat_model, ()), task.ceilings.get(threat_model))


def listed(run: Run) -> set[str]:
    """The threat models of the suite's attacks; where a run does not say what its suite has, of its own."""
    attacks = run.manifest.suite.attacks
    if attacks is None:
        return {cell.threat_model for cell in run.planned if cell.attacks}
    return {attack.threat_model for attack in attacks}


def demanded(task: TaskRecord, threats: Threats, attacked: Collection[str]) -> list[str]:
    """The threat models without which a task has no score.

    Args:
        attacked: those that the suite lists an attack of.
    """
    scored = with_role(threats, "primary", "baseline")
    return [name for name in scored if name in attacked and task.applies(name)]
