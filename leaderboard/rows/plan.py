"""``plan.json``: the cells of a run, and what belongs beside each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from leaderboard.rows.recorded import Recorded

Goal = Literal["behavior", "wrong"]


def access(threat_model: str, constraint: str) -> str:
    """``THREAT/CONSTRAINT``; the constraint is left out where there is none."""
    return threat_model if constraint == "none" else f"{threat_model}/{constraint}"


class ControlRecord(Recorded):
    """A cell that must stand beside another one of the same task and defense."""

    attack: str
    threat_model: str
    constraint: str
    goal: Goal


class PlannedCell(Recorded):
    """One entry of ``plan.json``."""

    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.+@-]{1,200}$")]
    """What its file is called."""
    task: str
    defense: str
    attack: str
    threat_model: str
    constraint: str
    goal: Goal
    role: Literal["attack", "control"]
    searches: bool
    """False: it draws at random, or writes nothing."""
    settings: dict[str, JsonValue] = {}
    """Of the attack."""
    budgets: list[float]
    """In the threat model's unit, sanity budgets included."""
    sanity_budgets: list[float] = []
    """So far beyond the others that the attack must be able to do anything; none where it need not."""
    split: Literal["test", "fresh"] = "test"
    """fresh: on examples made for the run, compared with ``test`` and never scored."""
    controls: list[ControlRecord] = []
    """What must stand beside it."""
    code: dict[str, str] | None = None
    """Which code makes it, by part; null: the run does not say."""

    @property
    def attacks(self) -> bool:
        """It tries to bring the behavior back, and is no control."""
        return self.split == "test" and self.role == "attack" and self.goal == "behavior"

    @property
    def blind(self) -> bool:
        """It writes something without looking for the behavior: a control by chance."""
        return self.role == "control" and self.goal == "behavior" and not self.searches and any(self.budgets)

    @property
    def idle(self) -> bool:
        """It writes nothing: the control of the harness."""
        return bool(self.budgets) and not any(self.budgets)

    @property
    def identity(self) -> ControlRecord:
        """What another cell's ``controls`` would call it."""
        return ControlRecord(**self.model_dump(include=set(ControlRecord.model_fields)))

    def __str__(self) -> str:
        aim = "" if self.goal == "behavior" else f", goal {self.goal}"
        return f"{self.attack} ({self.threat_model}/{self.constraint}{aim})"


class PlanInputs(Recorded):
    """What the keys of the cells were made of, as far as it is read."""

    saes: dict[str, list[str]] = {}
    """Site -> the suite's SAEs there, by content; the first is what a defense reads that names none."""


class Plan(Recorded):
    """``plan.json``."""

    inputs: PlanInputs = PlanInputs()
    cells: list[PlannedCell]
