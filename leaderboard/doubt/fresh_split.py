"""Whether a defense does on the public test examples what it does on examples that nobody has seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from leaderboard.doubt.flags import Finding
from leaderboard.rows.arrays import Array
from leaderboard.rows.run import MeasuredCell
from leaderboard.scores.curves import areas
from leaderboard.scores.outcomes import Outcomes, outcomes

MARGIN = 0.1
STANDARD_ERRORS = 3.0


class Sample(NamedTuple):
    """A mean over examples."""

    mean: float
    error: float
    """Standard error, robust to clusters."""


def fresh_findings(cells: Sequence[MeasuredCell], fresh: Sequence[MeasuredCell]) -> Iterator[Finding]:
    """What differs between a cell on fresh examples and the same attack on ``test``; all of one task and defense."""
    for made in fresh:
        public = [cell for cell in cells if cell.plan.attacks and cell.plan.identity == made.plan.identity]
        if public:
            yield from _compared(outcomes(public[0].rows), outcomes(made.rows))


def _compared(public: Outcomes, fresh: Outcomes) -> Iterator[Finding]:
    if not len(public.examples) or not len(fresh.examples):
        return
    budgets = np.intersect1d(public.budgets, fresh.budgets)
    measures = {"suppressed without an attack": lambda o: o.suppressed.astype(float)}
    if len(budgets):
        measures["the area under the curve"] = lambda o: areas(o, budgets, selective=False)
    for what, values in measures.items():
        old, new = (_sample(values(o), o.clusters) for o in (public, fresh))
        gap, error = new.mean - old.mean, float(np.hypot(old.error, new.error))
        if abs(gap) > max(MARGIN, STANDARD_ERRORS * error):
            numbers = f"{new.mean:.2f} on {len(fresh.examples)} fresh examples, {old.mean:.2f} on `test`"
            yield Finding("fresh-split-differs", gap, f"{what}: {numbers}")


def _sample(values: Array, clusters: Array) -> Sample:
    _, place = np.unique(clusters, return_inverse=True)
    residuals = np.bincount(place, weights=values - values.mean())
    return Sample(float(values.mean()), float(np.sqrt(np.square(residuals).sum()) / len(values)))
