"""The worst case of each curve of a task, and the areas under them in every resample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from leaderboard.rows.arrays import Array
from leaderboard.rows.manifest import TaskRecord
from leaderboard.rows.run import MeasuredCell
from leaderboard.rows.selection import skipped
from leaderboard.scores.curves import Curve, areas, covers, curve
from leaderboard.scores.drawn import Drawn
from leaderboard.scores.outcomes import Outcomes, outcomes
from leaderboard.scores.resampling import Resamples
from leaderboard.scores.threats import CurveKind, Threats, curve_kinds, ranked_budgets


class WorstCase(NamedTuple):
    """What all attacks of a threat model together did on its ranked budgets."""

    kind: CurveKind
    outcomes: Outcomes
    budgets: Array
    """Ascending, (budgets,)."""

    def curve(self, resamples: Resamples) -> Curve:
        """Its curves, raw and selective."""
        return curve(self.outcomes, self.budgets, resamples, self.kind)

    def area(self, resamples: Resamples, *, selective: bool) -> Drawn:
        """The area under one of them."""
        own = areas(self.outcomes, self.budgets, selective=selective)[:, None]
        draws = resamples.means(own, self.outcomes.clusters)[:, 0]
        return Drawn(float(own.mean(axis=0)[0]), draws)


def worst_cases(task: TaskRecord, threats: Threats, cells: Sequence[MeasuredCell]) -> Mapping[str, WorstCase]:
    """By curve, those whose ranked budgets were all run by attacks that apply to the defense."""
    return {found.kind.name: found for found in _worst_cases(task, threats, cells)}


def _worst_cases(task: TaskRecord, threats: Threats, cells: Sequence[MeasuredCell]) -> Iterator[WorstCase]:
    attacks = [cell for cell in cells if cell.plan.attacks and not skipped(cell.rows)]
    for kind in curve_kinds(threats, task.tau):
        rows = [cell.rows for cell in attacks if cell.plan.threat_model == kind.threat_model]
        budgets = ranked_budgets(task, kind.threat_model)
        worst = outcomes(pa.concat_tables(rows), within=kind.within) if rows else None
        if worst is not None and len(worst.examples) and covers(worst, budgets):
            yield WorstCase(kind, worst, budgets)
