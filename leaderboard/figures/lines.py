"""What is drawn as a line: an access of attacks, or a control; and its points, from the scores' own outcomes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from leaderboard.rows.arrays import known_median, real
from leaderboard.rows.manifest import Role
from leaderboard.rows.run import MeasuredCell
from leaderboard.rows.selection import attacked, skipped
from leaderboard.scores.intervals import estimates
from leaderboard.scores.outcomes import outcomes
from leaderboard.scores.resampling import Resampler
from leaderboard.scores.values import Interval

Kind = Role | Literal["wrong", "blind"]
"""The role of an attack's threat model, or what a control is: aimed at a wrong target, or at nothing."""

STYLES: dict[Kind, tuple[str, tuple[tuple[str, str], ...]]] = {
    "primary": ("-", (("#0072B2", "o"), ("#000000", "p"), ("#0072B2", "h"))),
    "diagnostic": ("-", (("#56B4E9", "s"), ("#009E73", "^"), ("#CC79A7", "D"))),
    "baseline": ("--", (("#E69F00", "v"), ("#000000", "<"), ("#F0E442", ">"))),
    "wrong": (":", (("#D55E00", "x"),)),
    "blind": (":", (("#707070", "+"), ("#707070", "1"))),
}
"""Dash, and colours of Okabe and Ito with a marker each for those who see none; by place among its kind, so that a
line looks the same whatever was run of other kinds."""

ORDER: tuple[Kind, ...] = ("primary", "diagnostic", "baseline", "wrong", "blind")
"""In which lines are drawn."""

CONSTRAINTS = {"encoder": "encoder null space", "jacobian": "cross-layer Jacobian"}
"""What people call them."""


class Key(NamedTuple):
    """What the cells of a line have in common; keys sort in the order in which lines are drawn."""

    place: int
    name: str
    constraint: str

    @property
    def kind(self) -> Kind:
        """Of the line."""
        return ORDER[self.place]

    @property
    def label(self) -> str:
        """The name of the line, for people."""
        words = self.name.replace("_", " ").replace("-", " ")
        return f"{words}, {CONSTRAINTS.get(self.constraint, self.constraint)}" if self.constraint else words


@dataclass(frozen=True)
class Line:
    """A line and how it is drawn."""

    key: Key
    colour: str
    marker: str
    dash: str


class Point(NamedTuple):
    """A line at one budget."""

    budget: float
    share: float
    """Recovered, of the suppressed examples."""
    interval: Interval | None
    """Of 95 %, over clusters."""
    drift: float | None
    """Median L2 change of the protected pre-activations over all attacked examples: activations have a dead zone."""


def key_of(cell: MeasuredCell) -> Key | None:
    """The line that a cell belongs to: its threat model and constraint; of controls, the free ones of primary threat
    models. Null: none."""
    plan = cell.plan
    bound = "" if plan.constraint == "none" else plan.constraint
    if plan.attacks:
        return Key(ORDER.index(cell.threat.role), plan.threat_model, bound)
    free = cell.threat.role == "primary" and not bound
    if free and plan.goal == "wrong":
        return Key(ORDER.index("wrong"), "wrong target", "")
    return Key(ORDER.index("blind"), plan.attack, "") if free and plan.blind else None


def lines(cells: Sequence[MeasuredCell]) -> list[Line]:
    """All lines that there are cells for."""
    keys = sorted({key for key in map(key_of, cells) if key is not None})
    return [_line(key, [other for other in keys if other.kind == key.kind].index(key)) for key in keys]


def _line(key: Key, place: int) -> Line:
    dash, looks = STYLES[key.kind]
    colour, marker = looks[place % len(looks)]
    return Line(key, colour, marker, dash)


def with_points(
    drawn: Sequence[Line], cells: Sequence[MeasuredCell], resampler: Resampler
) -> Iterator[tuple[Line, list[Point]]]:
    """The lines that the cells of one task and defense have points for."""
    for line in drawn:
        found = points([cell for cell in cells if key_of(cell) == line.key], resampler)
        if found:
            yield line, found


def points(cells: Sequence[MeasuredCell], resampler: Resampler) -> list[Point]:
    """A point a ranked budget of a task; where cells share a line, an example counts once any of them recovered it."""
    rows = [cell.rows for cell in cells if not skipped(cell.rows)]
    worst = outcomes(pa.concat_tables(rows)) if rows else None
    if worst is None or not worst.suppressed.any():
        return []
    moved = attacked(pa.concat_tables(rows))
    budgets, drift = real(moved, "budget_eps"), real(moved, "drift_pre_abs")
    suppressed, resamples = worst.suppressed, resampler.of(cells[0].plan.task, worst.clusters)
    shares = estimates(worst.recovered[suppressed], worst.clusters[suppressed], resamples)
    return [
        Point(float(budget), share.value or 0.0, share.interval, known_median(drift[np.equal(budgets, budget)]))
        for budget, share in zip(worst.budgets, shares, strict=True)
    ]
