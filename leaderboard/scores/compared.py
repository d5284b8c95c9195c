"""A statistic of two defenses on the same examples: how they differ, and what difference could have been seen."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from leaderboard.scores.curves import holding
from leaderboard.scores.drawn import Drawn, difference, gap
from leaderboard.scores.intervals import LEVEL, p_value
from leaderboard.scores.values import Estimate, Strict
from leaderboard.scores.worst_cases import WorstCase

POWER = 0.8
"""Chance to find a difference of the smallest detectable size."""


class Compared(Strict):
    """One statistic, on resamples of clusters that both share."""

    first: float
    second: float
    difference: Estimate
    """The first less the second, paired by example; above 0: the first is larger."""
    p: float
    """Two-sided, not corrected."""
    detectable: float | None
    """The smallest true difference that is found (two-sided, at .05) in four of five such comparisons, by the normal
    approximation to the bootstrap; null: fewer than two clusters, or the resamples do not differ."""


class Flips(Strict):
    """Examples that one of two defenses alone holds: suppressed, and recovered at no ranked budget. Ids, sorted."""

    first: list[str]
    second: list[str]


def compared(first: Drawn | None, second: Drawn | None, clusters: int) -> Compared | None:
    """Two statistics on the same resamples of so many clusters; null: one of them is null."""
    change = difference(first, second)
    if change is None or first is None or second is None:
        return None
    return Compared(
        first=first.value,
        second=second.value,
        difference=gap(change, clusters),
        p=p_value(change.draws, clusters),
        detectable=_detectable(change, clusters),
    )


def _detectable(change: Drawn, clusters: int) -> float | None:
    known = change.draws[~np.isnan(change.draws)]
    spread = float(known.std(ddof=1)) if clusters > 1 and len(known) > 1 else 0.0
    normal = NormalDist()
    return spread * (normal.inv_cdf(0.5 + LEVEL / 2) + normal.inv_cdf(POWER)) or None


def flips(first: WorstCase, second: WorstCase) -> Flips:
    """What becomes of the same examples."""
    held, also = (_held(worst) for worst in (first, second))
    return Flips(first=sorted(held - also), second=sorted(also - held))


def _held(worst: WorstCase) -> set[str]:
    last = holding(worst.outcomes, worst.budgets, selective=False)[:, -1]
    return {str(example) for example in worst.outcomes.examples[last]}
