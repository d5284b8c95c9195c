"""The protocol ``paper``: it measures what the published study measured, so that its numbers can be held against ours.

Each defect of the study is behind one switch. A run under ``paper`` is never ranked (METHOD section 11).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from benchmark.contracts.attack import Attack
from benchmark.contracts.protocol import Arm, Protocol
from benchmark.contracts.readout import Judging
from benchmark.contracts.row import Record, Row
from benchmark.contracts.task import Task
from benchmark.measure.drift import Held
from benchmark.measure.group import Group
from benchmark.published.arms import by_detector
from benchmark.published.drift import PaperDrift, first_speaks, paper_drift
from benchmark.published.leaky import RidgeGradient, SketchedGradient
from benchmark.published.recovery import PaperRecovery
from benchmark.published.switches import Switch
from benchmark.registry import threat
from benchmark.search.constraint import EncoderNullSpace
from benchmark.search.cross_layer import CrossLayer

DRIFTING = frozenset({Switch.UNMONITORED_ANCHOR, Switch.FIRST_ROW_DRIFT, Switch.VACUOUS_DRIFT})
"""Switches about how drift is read."""


class Published(Protocol):
    """The strict protocol but for some defects of the study."""

    name = "published"
    ranked = False
    extra = PaperDrift

    def __init__(self, switches: Collection[Switch]) -> None:
        self.switches = frozenset(switches)

    def attacks(self, attacks: Sequence[Attack]) -> Sequence[Attack]:
        """The study's search in place of ours, and nothing written before a clamp that never sees what is written;
        attacks that this makes equal are one."""
        return list(dict.fromkeys(self._placed(self._searched(attack)) for attack in attacks))

    def _searched(self, attack: Attack) -> Attack:
        ours = attack.searches and attack.role != "control" and not attack.learns
        if Switch.LAST_ITERATE not in self.switches or not ours or isinstance(attack, PaperRecovery):
            return attack
        if threat(attack.threat_model).unit != "residual":
            return attack
        return PaperRecovery(threat_model=attack.threat_model, constraint=attack.constraint, goal=attack.goal)

    def _placed(self, attack: Attack) -> Attack:
        behind = threat(attack.threat_model).reaches_less_than
        if Switch.BAKED_CLAMP not in self.switches or behind is None:
            return attack
        return replace(attack, threat_model=behind)

    def constraint(self, constraint: Any) -> Any:
        """The study's version of an exact constraint; it has none of the others."""
        if isinstance(constraint, EncoderNullSpace) and Switch.GRADIENT_ONLY_PROJECTION in self.switches:
            return RidgeGradient(constraint)
        if isinstance(constraint, CrossLayer) and Switch.SKETCH_PROJECTION in self.switches:
            return SketchedGradient(constraint)
        return constraint

    def verdict(self, task: Task, arm: Arm) -> Judging:
        """The task's, or of texts the arm's own detector."""
        asymmetric = Switch.ASYMMETRIC_DETECTORS in self.switches and task.readout.writes_text
        return by_detector(arm) if asymmetric else task.verdict

    def counts(self, feasible: bool) -> bool:
        """With or without the constraint."""
        return feasible or Switch.INFEASIBLE_COUNTS in self.switches

    def measure(self, group: Group, held: Sequence[Held], width: int) -> Sequence[Record | None]:
        """Drift as the study reads it; where answers are written, not at the perturbed positions of the prompt."""
        if not held or not DRIFTING & self.switches:
            return ()
        blind = Switch.UNMONITORED_ANCHOR in self.switches and group.task.readout.writes_text
        floor = None if Switch.VACUOUS_DRIFT in self.switches else group.drift_floor
        return paper_drift(held, width if blind else 0, floor)

    def finish(self, group: Group, rows: Sequence[Row]) -> Sequence[Row]:
        """At each budget, the first attacked row's drift for all, except of texts, which the study ran singly."""
        if Switch.FIRST_ROW_DRIFT not in self.switches or group.task.readout.writes_text:
            return rows
        spoken = first_speaks((row.identity.budget_eps, row.extra) for row in rows)
        return [row.model_copy(update={"extra": drift}) for row, drift in zip(rows, spoken, strict=True)]


class Paper(Published):
    """The published study's semantics: all of its defects at once; never ranked."""

    name = "paper"

    def __init__(self) -> None:
        super().__init__(Switch)


def only(switch: Switch) -> Published:
    """The strict protocol with one switch on, for the audit."""
    return Published({switch})
