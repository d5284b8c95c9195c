"""Whether a defense does on the public test examples what it does on examples that nobody has seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from benchmark.contracts.row import REPLAYED
from leaderboard.doubt.flags import Finding
from leaderboard.rows.arrays import Array, flag, text
from leaderboard.rows.run import MeasuredCell
from leaderboard.scores.curves import areas
from leaderboard.scores.outcomes import Outcomes, outcomes

MARGIN = 0.1
STANDARD_ERRORS = 4.0
"""Two measures on every task of every defense are many comparisons."""


def fresh_findings(cells: Sequence[MeasuredCell], fresh: Sequence[MeasuredCell]) -> Iterator[Finding]:
    """What differs between a cell on fresh examples and the same attack on ``test``; all of one task and defense."""
    for made in fresh:
        public = [cell for cell in cells if cell.plan.attacks and cell.plan.identity == made.plan.identity]
        if public:
            yield from _compared(outcomes(_alone(public[0].rows)), outcomes(made.rows))


def _alone(rows: pa.Table) -> pa.Table:
    """The rows without what another threat model found: on fresh examples there is no other."""
    own = flag(rows, "recovered") & (text(rows, "found_by") != REPLAYED)
    return rows.set_column(rows.column_names.index("recovered"), "recovered", pa.array(own, type=pa.bool_()))


def _compared(public: Outcomes, fresh: Outcomes) -> Iterator[Finding]:
    if not len(public.examples) or not len(fresh.examples):
        return
    budgets = np.intersect1d(public.budgets, fresh.budgets)
    measures = {"suppressed without an attack": lambda o: o.suppressed.astype(float)}
    if len(budgets):
        measures["the area under the curve"] = lambda o: areas(o, budgets, selective=False)
    for what, values in measures.items():
        old, new = (values(o) for o in (public, fresh))
        common = float(np.concatenate([old, new]).mean())
        gap = float(new.mean() - old.mean())
        error = float(np.hypot(_error(old, public.clusters, common), _error(new, fresh.clusters, common)))
        if abs(gap) > max(MARGIN, STANDARD_ERRORS * error):
            numbers = f"{new.mean():.2f} on {len(fresh.examples)} fresh examples, {old.mean():.2f} on `test`"
            yield Finding("fresh-split-differs", gap, f"{what}: {numbers}")


def _error(values: Array, clusters: Array, mean: float) -> float:
    """Standard error, robust to clusters, of a mean that would be ``mean`` if both splits were alike."""
    _, place = np.unique(clusters, return_inverse=True)
    residuals = np.bincount(place, weights=values - mean)
    return float(np.sqrt(np.square(residuals).sum()) / len(values))
