"""The tables that curves are drawn from: robust suppression at each budget, a column a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from leaderboard.board.schema import Entry, TaskResult, Threat
from leaderboard.scores.curves import Curve
from leaderboard.scores.threats import ROLES, with_role
from leaderboard.scores.values import NOTHING, Estimate
from leaderboard.tables.grid import across
from leaderboard.tables.wording import words


class Line(NamedTuple):
    """A curve and what it is called."""

    name: str
    rs: list[Estimate]
    """At each budget."""


class CurveTable(NamedTuple):
    """One task under one threat model."""

    task: str
    budgets: list[float]
    rs0: Estimate
    """At no budget: of all lines."""
    lines: list[Line]

    def at(self, line: str, place: int) -> Estimate:
        """A line at the budget of that place; no value where the task has no such line."""
        return next((one.rs[place] for one in self.lines if one.name == line), NOTHING)


class ThreatCurves(NamedTuple):
    """All tasks under one threat model."""

    name: str
    threat: Threat
    tables: list[CurveTable]

    @property
    def lines(self) -> list[str]:
        """The names of all lines, in the order in which they are drawn."""
        return list(dict.fromkeys(line.name for table in self.tables for line in table.lines))

    @property
    def across(self) -> int:
        """Panels side by side."""
        return across(len(self.tables))


def threat_curves(entry: Entry) -> list[ThreatCurves]:
    """The threat models that any task has a curve of, primary ones first."""
    found = [ThreatCurves(name, entry.threats[name], _tables(entry, name)) for name in _ordered(entry.threats)]
    return [one for one in found if one.tables]


def areas(entry: Entry) -> list[str]:
    """The names of the entry's areas, those of primary threat models first."""
    kinds = {name: curve.threat_model for result in entry.per_task.values() for name, curve in result.curves.items()}
    order = _ordered(entry.threats)
    return sorted(entry.headline.aurc, key=lambda name: order.index(kinds.get(name, name)))


def _ordered(threats: Mapping[str, Threat]) -> list[str]:
    return with_role(threats, *ROLES)


def _tables(entry: Entry, threat: str) -> list[CurveTable]:
    return [table for task, result in entry.per_task.items() for table in _table(task, result, threat)]


def _table(task: str, result: TaskResult, threat: str) -> Iterator[CurveTable]:
    curves = {name: one for name, one in result.curves.items() if one.threat_model == threat}
    if curves:
        lines = [line for name, one in curves.items() for line in _lines(name, one)]
        yield CurveTable(task, next(iter(curves.values())).budgets, result.rs0, lines)


def _lines(name: str, curve: Curve) -> Iterator[Line]:
    if curve.tau is not None:
        limit = words(name.removeprefix(curve.threat_model)).strip()
        yield Line(f"only recoveries with drift {limit} count", curve.raw.rs)
        return
    yield Line("every recovery counts", curve.raw.rs)
    if curve.selective is not None:
        yield Line("only selective ones count", curve.selective.rs)
